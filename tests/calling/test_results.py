"""What the id of a task tells: its state, and in the end its result."""

import copy
import pickle
import threading
import traceback
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from djtasks import AsyncResult, Task, allow_join_result, shared_task
from djtasks.exceptions import (
    Ignore,
    ImproperlyConfigured,
    NotEnqueuedYet,
    RemoteTraceback,
    TaskError,
    TaskRevokedError,
    TimeoutError,
)
from tests.calling.conftest import Configure, work

pytestmark = pytest.mark.django_db(transaction=True)


@shared_task(name="results.echo")
def echo(x: Any = None) -> Any:
    return x


@shared_task(name="results.fail")
def fail(text: str = "no") -> None:
    raise LookupError(text)


@pytest.fixture(autouse=True)
def defined(registry: dict[str, Any]) -> None:
    registry[echo.name], registry[fail.name] = echo, fail


# -- by itself ----------------------------------------------------------------------------------------------------


def test_a_result_needs_an_id() -> None:
    with pytest.raises(ValueError, match="needs the id of a task"):
        AsyncResult(None)


def test_making_a_result_asks_nothing_of_the_database() -> None:
    with CaptureQueriesContext(connection) as queries:
        result: AsyncResult[Any] = AsyncResult("x", task_name="results.echo")
        assert (str(result), result.id, result.task_id, repr(result)) == ("x", "x", "x", "<AsyncResult: x>")
        assert result == AsyncResult("x")
        assert result == "x"
        assert result != "y"
        assert result != 5
        assert {result: 1}[AsyncResult("x")] == 1
        assert pickle.loads(pickle.dumps(result)) == copy.copy(result) == result
        assert result.as_tuple() == (("x", None), None)
    assert not queries


def test_a_task_gives_results_that_know_its_name() -> None:
    assert echo.AsyncResult("nightly").name == "results.echo"


# -- what is known ------------------------------------------------------------------------------------------------


def test_an_unknown_id_is_pending_and_does_not_exist() -> None:
    result: AsyncResult[Any] = AsyncResult("nobody")
    assert (result.state, result.status, result.result, result.info) == ("PENDING", "PENDING", None, None)
    assert (result.ready(), result.successful(), result.failed(), result.exists()) == (False, False, False, False)
    assert (result.traceback, result.date_done, result.name, result.args, result.kwargs) == (None,) * 5


def test_a_waiting_task_is_pending_and_exists_and_tells_what_it_is() -> None:
    result = echo.apply_async((5,), queue="slow")
    assert (result.state, result.ready(), result.exists()) == ("PENDING", False, True)
    assert (result.name, result.queue, result.retries, result.worker) == ("results.echo", "slow", 0, None)
    assert (result.args, result.kwargs, result.result) == ([5], {}, None)


def test_a_success_tells_its_result_and_when_and_where() -> None:
    result = echo.delay({"a": datetime(2030, 1, 1, tzinfo=UTC)})
    work()
    assert (result.state, result.ready(), result.successful(), result.failed()) == ("SUCCESS", True, True, False)
    assert result.result == result.info == result.get() == {"a": datetime(2030, 1, 1, tzinfo=UTC)}
    assert (result.name, result.queue, result.worker, result.retries) == ("results.echo", "celery", "celery@test", 0)
    assert result.date_done is not None
    assert abs(result.date_done - datetime.now(UTC)) < timedelta(minutes=5)
    assert (result.args, result.kwargs, result.traceback) == (None, None, None)


def test_with_result_extended_a_success_tells_its_arguments(configure: Configure) -> None:
    configure(RESULT_EXTENDED=True)
    result = echo.apply_async((5,))
    work()
    assert (result.args, result.kwargs) == ([5], {})


def test_a_failure_tells_its_exception_traceback_and_arguments() -> None:
    result = fail.delay("no")
    work()
    assert (result.state, result.successful(), result.failed()) == ("FAILURE", False, True)
    assert isinstance(result.result, LookupError)
    assert "LookupError: no" in (result.traceback or "")
    assert result.args == ["no"]


def test_an_exception_has_its_workers_traceback_as_its_cause_where_the_settings_say_so(configure: Configure) -> None:
    result = fail.delay("no")
    work()
    with pytest.raises(LookupError) as caught:
        result.get(timeout=5)
    assert caught.value.__cause__ is None
    configure(TASK_REMOTE_TRACEBACKS=True)
    with pytest.raises(LookupError) as caught:
        AsyncResult(result.id).get(timeout=5)
    shown = "".join(traceback.format_exception(caught.value))
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "raise LookupError(text)\n" in shown.partition("The above exception was the direct cause")[0]


def test_a_revoked_task_has_neither_succeeded_nor_failed() -> None:
    result = echo.apply_async(expires=0)
    work()
    assert (result.state, result.ready(), result.successful(), result.failed()) == ("REVOKED", True, False, False)
    with pytest.raises(TaskRevokedError, match="expired"):
        result.get()


def test_a_retry_tells_its_cause_and_is_not_ready() -> None:
    @shared_task(bind=True)
    def again(self: Task[..., Any]) -> None:
        raise self.retry(exc=LookupError("no"))

    result = again.delay()
    work()
    assert (result.state, result.ready(), result.retries) == ("RETRY", False, 1)
    assert isinstance(result.info, LookupError)


def test_a_state_of_ones_own_tells_its_meta() -> None:
    result = echo.delay()
    echo.update_state(result.id, "PROGRESS", {"done": 5})
    assert (result.state, result.info, result.ready()) == ("PROGRESS", {"done": 5}, False)
    work()
    assert result.state == "SUCCESS"


def test_an_ignored_task_stays_as_it_was() -> None:
    @shared_task
    def skip() -> None:
        raise Ignore

    result = skip.delay()
    work()
    assert (result.state, result.exists()) == ("PENDING", False)


def test_what_has_ended_is_read_once() -> None:
    result = echo.delay(5)
    work()
    with CaptureQueriesContext(connection) as queries:
        assert (result.state, result.result, result.get(), result.ready(), result.name) == (
            "SUCCESS",
            5,
            5,
            True,
            "results.echo",
        )
    assert len(queries) == 1


def test_what_has_not_ended_is_read_each_time() -> None:
    result = echo.delay(5)
    assert result.state == "PENDING"
    work()
    assert result.state == "SUCCESS"


def test_a_text_of_ones_own_finds_its_task() -> None:
    echo.apply_async((5,), task_id="nightly")
    work()
    assert AsyncResult("nightly").get() == 5


def test_a_task_that_returns_a_result_returns_what_names_it() -> None:
    @shared_task
    def outer() -> Any:
        return AsyncResult("inner")

    result = outer.delay()
    work()
    assert result.get() == [["inner", None], None]


# -- get ----------------------------------------------------------------------------------------------------------


def test_get_waits_until_the_task_has_ended() -> None:
    result = echo.delay(5)
    waiting = threading.Event()

    def end() -> None:
        waiting.wait(20)
        work()

    worker = threading.Thread(target=end)
    worker.start()
    try:
        assert result.get(timeout=20, interval=0.01, on_interval=waiting.set) == 5
    finally:
        worker.join()


def test_get_raises_what_the_task_raised_unless_told_not_to() -> None:
    result = fail.delay("no")
    work()
    with pytest.raises(LookupError, match="no"):
        result.get()
    assert isinstance(result.get(propagate=False), LookupError)
    with pytest.raises(LookupError):
        result.maybe_throw()
    with pytest.raises(LookupError):
        result.throw()


@pytest.mark.parametrize("timeout", [0.01, 0])
def test_get_gives_up_after_its_timeout(timeout: float) -> None:
    with pytest.raises(TimeoutError, match=r"The operation timed out\."):
        echo.delay().get(timeout=timeout)


def test_get_without_time_returns_what_is_there() -> None:
    result = echo.delay(5)
    work()
    assert result.get(timeout=0) == 5


def test_get_calls_back_with_id_and_value() -> None:
    seen: list[Any] = []
    result = echo.delay(5)
    work()
    assert result.wait(callback=lambda task_id, value: seen.append((task_id, value))) == 5
    assert seen == [(result.id, 5)]


def test_get_has_no_messages_to_hand_on() -> None:
    with pytest.raises(ImproperlyConfigured, match="needs a message broker"):
        echo.delay().get(on_message=print)


def test_an_ignored_result_is_none_at_once() -> None:
    result = echo.apply_async((5,), ignore_result=True)
    assert (result.ignored, result.get()) == (True, None)


def test_waiting_for_what_waits_for_this_very_transaction_is_refused_at_once() -> None:
    with transaction.atomic():
        result = echo.delay(5)
        assert result.exists()
        with pytest.raises(NotEnqueuedYet, match="when the transaction that is open here commits"):
            result.get()
    work()
    assert result.get() == 5


def test_a_failed_parent_is_raised_first() -> None:
    parent = fail.delay("parent")
    work()
    child: AsyncResult[Any] = AsyncResult("never", parent=parent)
    with pytest.raises(LookupError, match="parent"):
        child.get(timeout=0)
    with pytest.raises(TimeoutError):
        child.get(timeout=0, follow_parents=False)


def test_a_failure_without_an_exception_is_raised_as_an_error() -> None:
    result = echo.delay()
    echo.update_state(result.id, "FAILURE", {"why": "no"})
    assert (result.failed(), result.info) == (True, {"why": "no"})
    with pytest.raises(TaskError, match="failed: {'why': 'no'}"):
        result.get()


def test_waiting_inside_a_running_task_is_refused_unless_allowed() -> None:
    @shared_task(name="shop.waits")
    def waits(task_id: str, how: str) -> Any:
        inner: AsyncResult[Any] = AsyncResult(task_id)
        if how == "plainly":
            return inner.get()
        if how == "on purpose":
            return inner.get(disable_sync_subtasks=False)
        with allow_join_result():
            return inner.get()

    result = echo.delay(5)
    work()
    results = [waits.delay(result.id, how) for how in ("plainly", "on purpose", "inside a block")]
    work()
    with pytest.raises(RuntimeError, match="must not wait for another one"):
        results[0].get()
    assert [each.get() for each in results[1:]] == [5, 5]
    assert waits(result.id, "plainly") == 5


# -- forget -------------------------------------------------------------------------------------------------------


def test_what_is_forgotten_is_gone_with_its_parents() -> None:
    parent, child = echo.delay(1), echo.delay(2)
    work()
    result: AsyncResult[Any] = AsyncResult(child.id, parent=parent)
    assert result.get() == 2
    result.forget()
    assert (result.state, result.exists(), parent.exists()) == ("PENDING", False, False)
