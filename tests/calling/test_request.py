"""What a task knows of its own run."""

import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from djtasks import Task, app, current, current_task, publisher, shared_task
from djtasks.payload import unpack_exception, unpack_value
from tests.calling.conftest import Configure, Runner

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def requests() -> list[current.Context]:
    """The requests that `look` has seen."""
    return []


@pytest.fixture
def look(requests: list[current.Context]) -> Task[..., Any]:
    """A task that keeps its request."""

    @shared_task(bind=True, name="shop.look")
    def look(self: Task[..., Any], *args: Any, **kwargs: Any) -> None:
        requests.append(self.request)

    return look


def test_a_request_says_who_what_where_and_how_often(
    run: Runner, look: Task[..., Any], requests: list[current.Context]
) -> None:
    task_id = run(look, 1, kwargs={"x": 2}, retries=2, priority=5, queue="fast", changes={"crashes": 1}).id
    [request] = requests
    assert (request.id, request.task, request.args, request.kwargs) == (task_id, "shop.look", [1], {"x": 2})
    assert (request.retries, request.hostname) == (2, "celery@here")
    assert (request.called_directly, request.is_eager) == (False, False)
    assert (request.root_id, request.parent_id, request.correlation_id) == (task_id, None, task_id)
    assert request.delivery_info == {"exchange": "", "routing_key": "fast", "priority": 5, "redelivered": True}


def test_what_does_not_apply_is_none_or_false(run: Runner, look: Task[..., Any], requests: list[Any]) -> None:
    run(look)
    [request] = requests
    nothing = (
        "group group_index chain chord callbacks errbacks eta expires shadow headers stamps stamped_headers origin"
    )
    assert all(getattr(request, name) is None for name in nothing.split())
    assert (request.timelimit, request.properties) == ([None, None], {"correlation_id": request.id, "reply_to": ""})
    assert request.children == []


def test_times_and_limits_of_the_call_are_in_the_request(
    run: Runner, look: Task[..., Any], requests: list[Any]
) -> None:
    run(look, eta=NOON, expires=NOON, time_limit=9, soft_time_limit=5, shadow="other")
    [request] = requests
    assert (request.eta, request.expires) == ("2030-01-01T12:00:00+00:00", "2030-01-01T12:00:00+00:00")
    assert (request.timelimit, request.time_limit, request.soft_time_limit) == ([9, 5], 9, 5)
    assert request.shadow == "other"


def test_limits_that_the_call_does_not_name_are_those_of_the_task_and_the_settings(
    run: Runner, look: Task[..., Any], requests: list[Any], configure: Configure
) -> None:
    configure(TASK_TIME_LIMIT=60)
    look.soft_time_limit = 7
    run(look)
    run(look, time_limit=9)
    first, second = requests
    assert (first.timelimit, first.time_limit, first.soft_time_limit) == ([60, 7], 60, 7)
    assert second.timelimit == [9, 7]
    assert look.request.timelimit is None


def test_a_request_can_be_given_new_limits() -> None:
    request = current.Context(called_directly=False)
    request.update(timelimit=[5, 3])
    assert (request.time_limit, request.soft_time_limit) == (5, 3)
    request.update({"timelimit": None})
    assert (request.time_limit, request.soft_time_limit) == (None, None)


def test_what_a_task_enqueues_are_its_children(db: None) -> None:
    @shared_task(bind=True, name="shop.parent")
    def parent(self: Task[..., Any]) -> list[str]:
        sent = [self.apply_async(countdown=60), self.apply_async(countdown=60, add_to_parent=False)]
        assert self.request.children == sent[:1]
        return []

    @shared_task(name="shop.quiet", bind=True, trail=False)
    def quiet(self: Task[..., Any]) -> int:
        self.apply_async(countdown=60)
        return len(self.request.children)

    assert parent.apply().successful()
    assert quiet.apply().get() == 0


def test_a_task_that_enqueues_many_remembers_the_first_ones(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "_CHILDREN_MAX", 2)

    @shared_task(bind=True, name="shop.parent")
    def parent(self: Task[..., Any]) -> int:
        for _ in range(4):
            self.apply_async(countdown=60)
        return len(self.request.children)

    assert parent.apply().get() == 2


def test_the_callers_headers_are_in_headers_and_are_attributes(
    run: Runner, look: Task[..., Any], requests: list[Any]
) -> None:
    task_id = run(look, headers={"tenant": 5, "when": NOON, "id": "stolen"}).id
    [request] = requests
    assert request.headers == {"tenant": 5, "when": NOON, "id": "stolen"}
    assert (request.tenant, request.when, request.id) == (5, NOON, task_id)
    assert request.get("tenant") == 5
    assert request.get("colour", "none") == "none"
    with pytest.raises(AttributeError, match="the request of a task has no 'colour'"):
        _ = request.colour


def test_the_callers_own_text_for_an_id_is_the_id(run: Runner, look: Task[..., Any], requests: list[Any]) -> None:
    run(look, task_id="nightly")
    assert (requests[0].id, requests[0].root_id) == ("nightly", "nightly")


def test_a_request_and_its_dict_can_be_printed(run: Runner, look: Task[..., Any], requests: list[Any]) -> None:
    run(look)
    assert "'task': 'shop.look'" in repr(requests[0].__dict__)
    assert repr(requests[0]).startswith("<Context: {")


def test_outside_of_a_run_there_is_a_request_in_which_nothing_is_known(look: Task[..., Any]) -> None:
    assert (look.request.id, look.request.called_directly, look.request.retries) == (None, True, 0)


def test_a_function_call_has_a_request_of_its_own(look: Task[..., Any], requests: list[Any]) -> None:
    look(1, x=2)
    [request] = requests
    assert (request.id, request.called_directly, request.args, request.kwargs) == (None, True, (1,), {"x": 2})


def test_a_task_called_by_another_one_does_not_change_the_others_request(run: Runner) -> None:
    seen: list[Any] = []

    @shared_task(bind=True)
    def inner(self: Task[..., Any]) -> None:
        seen.append((self.request.called_directly, outer.request.id, current_task.name))

    @shared_task(bind=True)
    def outer(self: Task[..., Any]) -> None:
        inner()
        seen.append((self.request.id, current_task.name, app.current_worker_task.name))

    task_id = run(outer).id
    assert seen == [(True, task_id, inner.name), (task_id, outer.name, outer.name)]
    assert not current_task


def test_threads_do_not_see_each_others_tasks(run: Runner) -> None:
    seen: list[Any] = []

    @shared_task
    def threaded() -> None:
        thread = threading.Thread(target=lambda: seen.append(current.get_current_task()))
        thread.start()
        thread.join()
        seen.append(current.get_current_task())

    run(threaded)
    assert seen == [None, threaded]


def test_a_request_can_be_pretended_in_tests(look: Task[..., Any]) -> None:
    look.push_request(id="x", retries=2, called_directly=False)
    assert (look.request.id, look.request.retries) == ("x", 2)
    look.pop_request()
    assert look.request.id is None


# -- update_state -------------------------------------------------------------------------------------------------


def test_a_state_of_ones_own_goes_to_the_worker_with_the_claim_of_the_run(run: Runner) -> None:
    @shared_task(bind=True)
    def working(self: Task[..., Any]) -> None:
        self.update_state(state="PROGRESS", meta={"done": 5})
        self.update_state(self.request.id, "PROGRESS", {"done": 6})

    outcome = run(working)
    assert [(each.claim, each.id, each.state) for each in run.reports] == [(7, outcome.id, "PROGRESS")] * 2
    assert unpack_value(run.reports[0].meta or b"", run.reports[0].content_type, "") == {"done": 5}


def test_the_state_of_another_task_is_sent_without_a_claim(run: Runner) -> None:
    @shared_task(bind=True)
    def meddling(self: Task[..., Any]) -> None:
        self.update_state("01890000-0000-7000-8000-000000000000", "PROGRESS")

    run(meddling)
    assert [(each.claim, each.id) for each in run.reports] == [(0, "01890000-0000-7000-8000-000000000000")]


def test_a_task_called_as_a_function_reports_to_the_worker_too(run: Runner) -> None:
    @shared_task(bind=True)
    def inner(self: Task[..., Any], task_id: str) -> None:
        self.update_state(task_id, "PROGRESS")

    @shared_task(bind=True)
    def outer(self: Task[..., Any]) -> None:
        inner(self.request.id or "")

    task_id = run(outer).id
    assert [(each.claim, each.id) for each in run.reports] == [(0, task_id)]


def test_an_exception_as_meta_of_a_failure_is_stored_as_one(run: Runner) -> None:
    @shared_task(bind=True)
    def failing(self: Task[..., Any]) -> None:
        self.update_state(state="FAILURE", meta=KeyError("x"))

    run(failing)
    assert type(unpack_exception(run.reports[0].meta or b"", run.reports[0].content_type, "")) is KeyError


def test_outside_of_a_run_update_state_needs_an_id(look: Task[..., Any]) -> None:
    with pytest.raises(ValueError, match="needs a task_id outside of a running task"):
        look.update_state(state="PROGRESS")


def test_update_state_needs_a_state(look: Task[..., Any]) -> None:
    with pytest.raises(ValueError, match="needs a state"):
        look.update_state("nightly")


def test_what_cannot_be_stored_is_raised_in_the_task(run: Runner) -> None:
    @shared_task(bind=True)
    def working(self: Task[..., Any]) -> None:
        self.update_state(state="PROGRESS", meta=object())

    assert run(working).state == "FAILURE"


def test_a_process_may_name_one_place_for_all_reports(look: Task[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[Any] = []
    monkeypatch.setattr(current, "reporter", reports.append)
    look.update_state("nightly", "PROGRESS")
    assert [each.state for each in reports] == ["PROGRESS"]
