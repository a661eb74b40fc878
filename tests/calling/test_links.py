"""Links: what follows a task is made with its outcome, and is of its family."""

import json
from typing import Any

import pytest

from djtasks import Task, shared_task, tracer
from djtasks.canvas.links import ERRBACK
from djtasks.exceptions import Ignore, Reject, WorkerLostError
from djtasks.messages import Message, Outcome
from djtasks.payload import unpack_call
from djtasks.registry import tasks
from tests.calling.conftest import Configure, Runner, claimed, message_of


@shared_task
def add(x: int, y: int) -> int:
    return x + y


@shared_task
def seen(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


@shared_task
def fail() -> None:
    raise ValueError("no")


@shared_task
def told(task_id: str) -> None:
    HEARD.append(task_id)


@shared_task
def hears(request: Any, exc: BaseException, traceback: str) -> None:
    HEARD.append((request.id, exc, traceback))


HEARD: list[Any] = []


@pytest.fixture(autouse=True)
def known(registry: dict[str, Any]) -> None:
    HEARD.clear()
    for task in (add, seen, fail, told, hears):
        registry[task.name] = task


def followers(outcome: Outcome) -> list[Message]:
    """What follows, as messages."""
    return [Message._make(each) for each in outcome.successors]


def call_of(message: Message) -> Any:
    """The arguments of a message."""
    return unpack_call(message.body, message.content_type, message.content_encoding)


# -- after a success ----------------------------------------------------------------------------------------------


def test_a_callback_gets_the_result_before_its_own_arguments(run: Runner) -> None:
    outcome = run(add, 2, 3, link=seen.s(7, key=1))
    (message,) = followers(outcome)
    assert message.name == seen.name
    assert call_of(message) == ([5, 7], {"key": 1})


def test_an_immutable_callback_gets_its_own_arguments_only(run: Runner) -> None:
    (message,) = followers(run(add, 2, 3, link=seen.si(7)))
    assert call_of(message) == ([7], {})


def test_each_of_a_list_of_callbacks_follows(run: Runner) -> None:
    messages = followers(run(add, 2, 3, link=[seen.s(1), add.s(1)]))
    assert [message.name for message in messages] == [seen.name, add.name]
    assert len({message.id for message in messages}) == 2


def test_what_follows_names_the_task_as_its_parent_and_keeps_the_root(run: Runner) -> None:
    message = message_of(add, 1, 2, link=seen.s(), root_id="0190a4f2-0000-7000-8000-000000000001")
    (follower,) = followers(run.trace(claimed(message)))
    headers = json.loads(follower.headers or "")
    assert headers["parent_id"] == message.id
    assert headers["root_id"] == follower.root_id == "0190a4f2-0000-7000-8000-000000000001"


def test_the_options_of_a_callback_are_kept_and_so_are_its_own_links(run: Runner) -> None:
    callback = seen.s().set(queue="later", countdown=30, priority=4)
    callback.link(add.s(1))
    (message,) = followers(run(add, 1, 2, link=callback))
    assert (message.queue, message.countdown, message.priority) == ("later", 30, 4)
    assert json.loads(message.headers or "")["callbacks"][0]["task"] == add.name


def test_priority_is_inherited_where_the_setting_says_so(run: Runner, configure: Configure) -> None:
    configure(TASK_INHERIT_PARENT_PRIORITY=True)
    (message,) = followers(run(add, 1, 2, link=seen.s(), priority=6))
    assert message.priority == 6


def test_headers_that_a_hook_has_added_travel_on(run: Runner) -> None:
    message = message_of(add, 1, 2, link=seen.s(), headers={"traceparent": "00-ab-cd-01", "mine": 1})
    headers = json.loads(message.headers or "") | {"hooked": ["traceparent"]}
    (follower,) = followers(run.trace(claimed(message._replace(headers=json.dumps(headers)))))
    assert json.loads(follower.headers or "")["headers"] == {"traceparent": "00-ab-cd-01"}


def test_a_callback_that_is_not_known_here_is_sent_all_the_same(run: Runner) -> None:
    signature = {"task": "elsewhere.task", "args": [], "kwargs": {}, "options": {}, "immutable": False}
    (message,) = followers(run(add, 1, 2, link=signature))
    assert (message.name, call_of(message)) == ("elsewhere.task", ([3], {}))


def test_a_callback_that_cannot_be_made_is_the_tasks_failure(run: Runner) -> None:
    outcome = run(add, 1, 2, link=seen.s().set(priority="high"))
    assert (outcome.state, outcome.successors) == ("FAILURE", ())


def test_nothing_follows_a_task_that_failed_or_was_ignored_or_runs_again(run: Runner) -> None:
    @shared_task(bind=True)
    def ends(self: Task[..., Any], how: str) -> None:
        if how == "retry":
            self.retry(countdown=1)
        if how == "later":
            self.retry(countdown=1, throw=False)
        if how == "ignore":
            raise Ignore
        if how == "reject":
            raise Reject(requeue=True)
        if how == "fail":
            raise ValueError

    for how in ("retry", "later", "ignore", "reject", "fail"):
        assert run(ends, how, link=seen.s()).successors == ()
    assert run(ends, "well", link=seen.s()).successors != ()


def test_a_retried_task_is_followed_when_it_has_succeeded(run: Runner) -> None:
    @shared_task(bind=True)
    def second_time(self: Task[..., Any]) -> int:
        if self.request.retries == 0:
            self.retry(countdown=1, shadow="again")
        return self.request.retries

    message = message_of(second_time, link=seen.s())
    outcome = run.trace(claimed(message))
    assert outcome.again is not None
    again = claimed(message, retries=1, headers=outcome.again.headers or message.headers)
    (follower,) = followers(run.trace(again))
    assert call_of(follower) == ([1], {})


# -- after a failure ----------------------------------------------------------------------------------------------


def test_an_errback_of_one_argument_is_sent_with_the_id_of_the_failed_task(run: Runner) -> None:
    message = message_of(fail, link_error=told.s())
    (follower,) = followers(run.trace(claimed(message)))
    assert (follower.name, call_of(follower)) == (told.name, ([message.id], {}))
    headers = json.loads(follower.headers or "")
    assert headers["parent_id"] == headers["root_id"] == message.id


def test_an_errback_of_three_is_called_in_the_worker_with_request_exception_and_traceback(run: Runner) -> None:
    message = message_of(fail, link_error=hears.s())
    assert run.trace(claimed(message)).successors == ()
    ((task_id, exc, traceback),) = HEARD
    assert task_id == message.id
    assert isinstance(exc, ValueError)
    assert traceback.endswith("ValueError: no\n")


def test_a_bound_errback_is_sent_as_a_task(run: Runner) -> None:
    @shared_task(bind=True)
    def bound(self: Task[..., Any], task_id: str, more: int = 0) -> None: ...

    (follower,) = followers(run(fail, link_error=bound.s()))
    assert follower.name == bound.name


def test_an_errback_that_raises_changes_nothing(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    @shared_task
    def worse(request: Any, exc: BaseException, traceback: str) -> None:
        raise RuntimeError("worse")

    outcome = run(fail, link_error=[worse.s(), told.s()])
    assert outcome.state == "FAILURE"
    assert len(outcome.successors) == 1
    assert "worse" in caplog.text


def test_an_errback_that_cannot_be_made_is_logged_and_the_others_follow(
    run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = run(fail, link_error=[told.s().set(priority="high"), told.s()])
    assert len(outcome.successors) == 1
    assert "could not be sent" in caplog.text


def test_a_rejected_task_has_failed_for_its_errbacks_too(run: Runner) -> None:
    @shared_task
    def refuse() -> None:
        raise Reject("broken")

    (follower,) = followers(run(refuse, link_error=told.s()))
    assert follower.name == told.name


def test_a_lost_process_sends_errbacks_too(run: Runner) -> None:
    message = message_of(fail, link_error=told.s(), priority=3)
    outcome = tracer.failure(claimed(message), WorkerLostError("gone"))
    (follower,) = followers(outcome)
    assert (follower.name, call_of(follower)) == (told.name, ([message.id], {}))
    assert json.loads(follower.headers or "")["parent_id"] == message.id


def test_an_errback_of_three_is_called_by_a_task_of_its_own_when_the_process_is_lost(
    run: Runner, registry: dict[str, Any]
) -> None:
    message = message_of(fail, link_error=hears.s(), queue="far")
    (follower,) = followers(tracer.failure(claimed(message), WorkerLostError("gone"), "the trace"))
    assert (follower.name, follower.queue) == (ERRBACK, "far")
    assert ERRBACK in tasks
    assert run.trace(claimed(follower)).state == "SUCCESS"
    ((task_id, exc, traceback),) = HEARD
    assert (task_id, type(exc), str(exc), traceback) == (message.id, WorkerLostError, "gone", "the trace")


# -- where it is called -------------------------------------------------------------------------------------------


def test_links_of_an_eager_call_run_at_once_with_always_eager(configure: Configure) -> None:
    configure(TASK_ALWAYS_EAGER=True)
    values: list[Any] = []

    @shared_task
    def keeps(value: Any) -> None:
        values.append(value)

    add.apply_async((1, 2), link=keeps.s())
    assert values == [3]


def test_errbacks_of_an_eager_call_run_at_once() -> None:
    result = fail.apply(link_error=[told.s(), hears.s()])
    assert HEARD[0] == result.id
    assert HEARD[1][0] == result.id
