"""A task that is to run again."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from djtasks import Task, shared_task, signals
from djtasks.exceptions import EncodeError, Ignore, MaxRetriesExceededError, Retry
from djtasks.messages import Again, Outcome
from djtasks.payload import unpack_call, unpack_exception
from djtasks.registry import tasks
from tests.calling.conftest import Configure, Runner, connected

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def error_of(outcome: Outcome) -> BaseException:
    assert outcome.result is not None
    error: BaseException = unpack_exception(outcome.result, outcome.content_type, outcome.content_encoding)
    return error


def retrying(*, task: dict[str, Any] | None = None, **options: Any) -> Task[..., Any]:
    """A task that retries itself with these options."""
    tasks.pop("shop.retrying", None)

    @shared_task(bind=True, name="shop.retrying", **(task or {}))
    def again(self: Task[..., Any], *args: Any, **kwargs: Any) -> None:
        raise self.retry(**options)

    return again


def test_a_retry_waits_for_the_default_delay_and_counts(run: Runner) -> None:
    outcome = run(retrying())
    assert (outcome.state, outcome.store, outcome.keep) == ("RETRY", True, True)
    assert outcome.again == Again(countdown=180.0)
    assert outcome.again.counts


def test_what_caused_it_is_stored_with_its_traceback(run: Runner) -> None:
    outcome = run(retrying(exc=KeyError("x")))
    assert type(error_of(outcome)) is KeyError
    assert outcome.traceback is not None
    assert "Retry in 180s: KeyError('x')" in outcome.traceback


def test_without_a_cause_no_exception_is_stored(run: Runner) -> None:
    assert run(retrying()).result is None


@pytest.mark.parametrize(
    ("options", "again"),
    [
        ({"countdown": 5}, Again(countdown=5.0)),
        ({"countdown": 0}, Again(countdown=0.0)),
        ({"countdown": timedelta(minutes=1)}, Again(countdown=60.0)),
        ({"eta": NOON}, Again(eta=NOON.timestamp())),
        ({"eta": NOON.replace(tzinfo=None)}, Again(eta=NOON.timestamp())),
        ({"eta": NOON, "countdown": 5}, Again(countdown=5.0)),
        ({"queue": "slow"}, Again(countdown=180.0, queue="slow", priority=0)),
        ({"priority": 9}, Again(countdown=180.0, queue="celery", priority=9)),
        ({"expires": NOON}, Again(countdown=180.0, expires=NOON.timestamp())),
    ],
)
def test_a_retry_says_when_and_where(run: Runner, options: dict[str, Any], again: Again) -> None:
    assert run(retrying(**options)).again == again


def test_the_delay_is_the_tasks_own_where_the_retry_names_none(run: Runner) -> None:
    assert run(retrying(task={"default_retry_delay": 3})).again == Again(countdown=3.0)


@pytest.mark.parametrize(
    ("called", "retried", "again"),
    [
        (((), {"x": 1, "y": 2}), {"args": (5,)}, [[5], {"y": 2}]),
        (((1, 2), {}), {"kwargs": {"y": 7}}, [[1, 7], {}]),
        (((1,), {"y": 2}), {"args": (5,), "kwargs": {}}, [[5], {}]),
    ],
)
def test_new_arguments_take_the_place_of_the_old_ones_however_those_were_given(
    run: Runner, called: Any, retried: dict[str, Any], again: Any
) -> None:
    @shared_task(bind=True, name="shop.retrying")
    def task(self: Task[..., Any], x: int, y: int = 0) -> None:
        raise self.retry(**retried)

    args, kwargs = called
    moved = run(task, *args, kwargs=kwargs).again
    assert moved is not None
    assert json.loads(moved.body or b"") == again


def test_arguments_of_a_wrong_type_are_refused_in_the_task(run: Runner) -> None:
    outcome = run(retrying(args=5))
    assert (outcome.state, str(error_of(outcome))) == ("FAILURE", "task args must be a list or tuple, not 5")


def test_a_retry_may_have_another_link(run: Runner) -> None:
    again = run(retrying(link={"task": "shop.next"}), headers={"tenant": 5}).again
    assert again is not None
    assert json.loads(again.headers or "") == {"callbacks": [{"task": "shop.next"}], "headers": {"tenant": 5}}


def test_arguments_are_kept_unless_the_retry_names_others(run: Runner) -> None:
    again = run(retrying(args=(3,)), 1, kwargs={"x": 2}, compression="gzip").again
    assert again is not None
    assert unpack_call(again.body or b"", again.content_type or "", again.content_encoding or "") == ([3], {"x": 2})
    assert again.content_encoding == "gzip"
    assert run(retrying(), 1).again == Again(countdown=180.0)


def test_headers_of_a_retry_are_laid_over_those_of_the_message(run: Runner) -> None:
    task = retrying(headers={"b": 2}, time_limit=9)
    again = run(task, headers={"a": 1}, shadow="other").again
    assert again is not None
    assert json.loads(again.headers or "") == {
        "shadow": "other",
        "timelimit": [9, None],
        "headers": {"a": 1, "b": 2},
    }


def test_arguments_that_cannot_be_encoded_make_the_task_fail(run: Runner) -> None:
    assert type(error_of(run(retrying(args=(object(),))))) is EncodeError


# -- when it is enough --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("retries", "state"), [(0, "RETRY"), (2, "RETRY"), (3, "FAILURE")])
def test_three_retries_are_four_runs(run: Runner, retries: int, state: str) -> None:
    assert run(retrying(), retries=retries).state == state


def test_too_many_retries_raise_the_cause(run: Runner) -> None:
    outcome = run(retrying(exc=KeyError("x"), max_retries=0))
    assert (outcome.state, type(error_of(outcome))) == ("FAILURE", KeyError)
    assert outcome.again is None


def test_too_many_retries_without_a_cause_raise_an_error_that_says_so(run: Runner) -> None:
    outcome = run(retrying(max_retries=0), 1, kwargs={"x": 2})
    error = error_of(outcome)
    assert type(error) is MaxRetriesExceededError
    assert str(error) == f"Can't retry shop.retrying[{outcome.id}] args:(1,) kwargs:{{'x': 2}}"


def test_the_exception_that_was_being_handled_is_its_cause(run: Runner) -> None:
    @shared_task(bind=True, max_retries=0)
    def breaks(self: Task[..., Any]) -> None:
        try:
            raise KeyError("x")
        except KeyError:
            self.retry()

    outcome = run(breaks)
    assert outcome.traceback is not None
    assert "KeyError: 'x'" in outcome.traceback
    assert type(error_of(outcome)) is MaxRetriesExceededError


def test_none_retries_for_ever(run: Runner) -> None:
    assert run(retrying(task={"max_retries": None}), retries=10_000).state == "RETRY"


def test_a_max_retries_of_the_call_beats_the_tasks(run: Runner) -> None:
    assert run(retrying(max_retries=5), retries=4).state == "RETRY"
    assert run(retrying(max_retries=5), retries=5).state == "FAILURE"


# -- how it is asked for ------------------------------------------------------------------------------------------


def test_calling_retry_is_enough_for_it_raises(run: Runner) -> None:
    @shared_task(bind=True)
    def again(self: Task[..., Any]) -> None:
        self.retry()
        pytest.fail("went on")

    assert run(again).state == "RETRY"


def test_without_throw_the_run_goes_on_and_the_task_runs_again_however_it_ends(run: Runner) -> None:
    @shared_task(bind=True)
    def later(self: Task[..., Any], end: str) -> str:
        retry = self.retry(throw=False, countdown=5)
        assert isinstance(retry, Retry)
        if end == "raise":
            raise ValueError
        if end == "ignore":
            raise Ignore
        return "done"

    for end in ("return", "raise", "ignore"):
        outcome = run(later, end)
        assert (outcome.state, outcome.again) == ("RETRY", Again(countdown=5.0))


def test_raising_retry_by_hand_is_the_same_as_calling_it(run: Runner) -> None:
    @shared_task
    def again(when: float | None) -> None:
        raise Retry(when=when)

    assert run(again, 7).again == Again(countdown=7.0)
    assert run(again, None).again == Again(countdown=180.0)
    assert run(again, None, retries=3).state == "FAILURE"


def test_in_a_function_call_retry_raises_the_cause() -> None:
    with pytest.raises(KeyError, match="x"):
        retrying(exc=KeyError("x"))()
    with pytest.raises(Retry, match="Task can be retried"):
        retrying()()


def test_in_a_function_call_retry_raises_what_is_being_handled_as_its_cause() -> None:
    @shared_task(bind=True)
    def breaks(self: Task[..., Any]) -> None:
        try:
            raise KeyError("x")
        except KeyError as error:
            self.retry(exc=error)

    with pytest.raises(KeyError):
        breaks()


def test_receivers_and_the_log_hear_of_it(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []

    def hear(request: Any, reason: Any, einfo: Any, **kwargs: Any) -> None:
        heard.append((request.id, str(reason), einfo.type))

    with connected(signals.task_retry, hear), caplog.at_level("INFO", "djtasks"):
        outcome = run(retrying(exc=KeyError("x"), countdown=5))
    assert heard == [(outcome.id, "Retry in 5s: KeyError('x')", Retry)]
    assert caplog.messages == [f"Task shop.retrying[{outcome.id}] retry: Retry in 5s: KeyError('x')"]


def test_an_ignored_result_stores_no_retry(run: Runner) -> None:
    assert not run(retrying(exc=KeyError()), ignore_result=True).store


# -- by itself ----------------------------------------------------------------------------------------------------


def automatic(error: BaseException, **options: Any) -> Task[..., Any]:
    """A task that raises such an error."""
    tasks.pop("shop.automatic", None)

    @shared_task(name="shop.automatic", **options)
    def breaks() -> None:
        raise type(error)(*error.args)

    made: Task[..., Any] = breaks
    return made


def test_what_autoretry_names_is_retried(run: Runner) -> None:
    outcome = run(automatic(KeyError("x"), autoretry_for=(LookupError,), retry_kwargs={"countdown": 5}))
    assert (outcome.state, outcome.again) == ("RETRY", Again(countdown=5.0))
    assert type(error_of(outcome)) is KeyError


def test_what_it_does_not_name_is_not(run: Runner) -> None:
    assert run(automatic(ValueError(), autoretry_for=(LookupError,))).state == "FAILURE"


def test_what_dont_autoretry_names_is_not(run: Runner) -> None:
    task = automatic(KeyError(), autoretry_for=(LookupError,), dont_autoretry_for=(KeyError,))
    assert run(task).state == "FAILURE"


def test_ignore_passes_even_where_every_exception_is_retried(run: Runner) -> None:
    assert run(automatic(Ignore(), autoretry_for=(Exception,))).state == "IGNORED"


def test_at_the_end_the_original_exception_and_its_traceback_are_stored(run: Runner) -> None:
    task = automatic(KeyError("x"), autoretry_for=(LookupError,), max_retries=2)
    assert [run(task, retries=retries).state for retries in range(3)] == ["RETRY", "RETRY", "FAILURE"]
    outcome = run(task, retries=2)
    assert type(error_of(outcome)) is KeyError
    assert outcome.traceback is not None
    assert "retrying.py" not in outcome.traceback
    assert "execution.py" not in outcome.traceback


def test_retry_kwargs_may_hold_the_number_of_retries_and_are_not_changed(run: Runner) -> None:
    options = {"max_retries": 1}
    task = automatic(KeyError(), autoretry_for=(KeyError,), retry_kwargs=options, retry_backoff=True)
    assert run(task, retries=0).state == "RETRY"
    assert run(task, retries=1).state == "FAILURE"
    assert options == {"max_retries": 1}


@pytest.mark.parametrize(
    ("options", "retries", "seconds"),
    [
        ({"retry_backoff": True}, 0, 1.0),
        ({"retry_backoff": True}, 3, 8.0),
        ({"retry_backoff": 5}, 2, 20.0),
        ({"retry_backoff": 2.9}, 1, 4.0),
        ({"retry_backoff": True, "retry_backoff_max": 5}, 9, 5.0),
        ({"retry_backoff": True}, 50, 600.0),
    ],
)
def test_a_backoff_doubles_each_time_up_to_its_maximum(
    run: Runner, options: dict[str, Any], retries: int, seconds: float
) -> None:
    task = automatic(KeyError(), autoretry_for=(KeyError,), max_retries=None, retry_jitter=False, **options)
    assert run(task, retries=retries).again == Again(countdown=seconds)


def test_with_jitter_the_wait_is_anything_up_to_that(run: Runner) -> None:
    task = automatic(KeyError(), autoretry_for=(KeyError,), max_retries=None, retry_backoff=True)
    waits = {again.countdown for _ in range(100) if (again := run(task, retries=3).again) is not None}
    assert waits <= set(range(9))
    assert len(waits) > 3


def test_a_max_retries_that_retry_was_given_holds_for_autoretry_too(run: Runner) -> None:
    @shared_task(bind=True, autoretry_for=(KeyError,), max_retries=10)
    def breaks(self: Task[..., Any]) -> None:
        raise self.retry(exc=KeyError("x"), max_retries=0)

    assert run(breaks).state == "FAILURE"


def test_a_mocked_retry_is_what_autoretry_calls(run: Runner, configure: Configure) -> None:
    task: Any = automatic(KeyError("x"), autoretry_for=(KeyError,))
    seen: list[Any] = []

    def fake(exc: BaseException, **options: Any) -> None:
        seen.append(exc)
        raise Ignore

    task.retry = fake
    run(task)
    assert [type(each) for each in seen] == [KeyError]
