"""A task that runs where it is called."""

from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction

from djtasks import AsyncResult, EagerResult, Task, allow_join_result, app, shared_task
from djtasks.exceptions import EncodeError, Ignore, QueueNotFound, Reject
from tests.calling.conftest import Configure


@shared_task
def echo(x: Any = None) -> Any:
    return x


@shared_task
def fail(text: str = "no") -> None:
    raise ValueError(text)


@shared_task(bind=True, max_retries=2)
def stubborn(self: Task[..., Any], runs: list[Any], needed: int) -> int:
    runs.append(self.request.retries)
    if self.request.retries < needed:
        raise self.retry(countdown=3600)
    return len(runs)


@pytest.fixture(autouse=True)
def defined(registry: dict[str, Any]) -> None:
    for task in (echo, fail, stubborn):
        registry[task.name] = task


# -- apply --------------------------------------------------------------------------------------------------------


def test_apply_runs_the_task_and_has_its_result() -> None:
    result = echo.apply((3,))
    assert isinstance(result, EagerResult)
    assert (result.state, result.status, result.result, result.info, result.get()) == ("SUCCESS", "SUCCESS", 3, 3, 3)
    assert (result.ready(), result.successful(), result.failed()) == (True, True, False)
    assert result.traceback is None


def test_apply_passes_objects_as_they_are() -> None:
    thing = object()
    assert echo.apply((thing,)).get() is thing


def test_a_failure_is_raised_by_get_with_its_traceback_as_text() -> None:
    result = fail.apply(("no",))
    assert (result.state, result.failed()) == ("FAILURE", True)
    assert isinstance(result.result, ValueError)
    assert "ValueError: no" in (result.traceback or "")
    with pytest.raises(ValueError, match="no"):
        result.get()
    assert isinstance(result.get(propagate=False), ValueError)


def test_apply_raises_at_once_when_told_to(configure: Configure) -> None:
    with pytest.raises(ValueError, match="no"):
        fail.apply(("no",), throw=True)
    configure(TASK_EAGER_PROPAGATES=True)
    with pytest.raises(ValueError, match="no"):
        fail.apply(("no",))
    assert fail.apply(("no",), throw=False).failed()


def test_the_request_says_that_it_is_eager() -> None:
    @shared_task(bind=True)
    def look(self: Task[..., Any]) -> Any:
        return self.request

    request = look.apply(task_id="nightly", headers={"tenant": 5}).get()
    assert (request.id, request.is_eager, request.called_directly, request.tenant) == ("nightly", True, False, 5)
    assert request.delivery_info["is_eager"]


def test_retries_run_at_once_whatever_their_countdown() -> None:
    runs: list[Any] = []
    assert stubborn.apply((runs, 2)).get() == 3
    assert runs == [0, 1, 2]


def test_when_its_retries_are_used_up_the_last_error_is_the_result(configure: Configure) -> None:
    runs: list[Any] = []
    result = stubborn.apply((runs, 9))
    assert result.failed()
    assert runs == [0, 1, 2]
    configure(TASK_EAGER_PROPAGATES=True)
    with pytest.raises(stubborn.MaxRetriesExceededError):
        stubborn.apply((runs, 9))


def test_a_retry_may_change_the_arguments() -> None:
    @shared_task(bind=True)
    def shrink(self: Task[..., Any], x: Any) -> Any:
        if x[0] > 1:
            raise self.retry(args=([x[0] - 1, x[1]],))
        return x

    thing = object()
    assert shrink.apply(([3, thing],)).get() == [1, thing]


@pytest.mark.parametrize(("raised", "state"), [(Ignore, "IGNORED"), (Reject(requeue=True), "REJECTED")])
def test_an_ignored_or_rejected_task_has_no_result(raised: Any, state: str) -> None:
    @shared_task
    def skip() -> None:
        raise raised

    result = skip.apply()
    assert (result.state, result.get()) == (state, None)


def test_what_a_handler_raises_is_raised() -> None:
    class Breaking(Task[..., Any]):
        def on_success(self, *args: Any) -> None:
            raise RuntimeError("broken")

    @shared_task(base=Breaking)
    def fine() -> None: ...

    with pytest.raises(RuntimeError, match="broken"):
        fine.apply()


def test_update_state_does_nothing_in_an_eager_run() -> None:
    @shared_task(bind=True)
    def working(self: Task[..., Any]) -> int:
        self.update_state(state="PROGRESS", meta=1)
        return 5

    assert working.apply().get() == 5


def test_an_eager_result_can_be_revoked_too_late() -> None:
    result = echo.apply()
    result.revoke()
    assert result.state == "REVOKED"


def test_get_calls_back() -> None:
    seen: list[Any] = []
    result = echo.apply((5,))
    result.get(callback=lambda task_id, value: seen.append((task_id, value)))
    assert seen == [(result.id, 5)]


# -- always eager -------------------------------------------------------------------------------------------------


@pytest.fixture
def eager(configure: Configure) -> Configure:
    configure(TASK_ALWAYS_EAGER=True)
    return configure


@pytest.mark.usefixtures("eager")
def test_every_call_runs_where_it_is_made() -> None:
    assert echo.delay(3).get() == 3
    assert echo.apply_async((3,), countdown=3600).get() == 3
    assert [result.get() for result in echo.bulk_apply_async([((1,), {}), ((), {"x": 2})])] == [1, 2]


@pytest.mark.usefixtures("eager")
def test_arguments_and_results_pass_through_the_serializer() -> None:
    assert echo.delay((1, {2: Decimal("1.0")})).get() == [1, {"2": Decimal("1.0")}]
    with pytest.raises(EncodeError):
        echo.delay(object())


@pytest.mark.usefixtures("eager")
def test_a_result_that_no_worker_could_store_is_a_failure() -> None:
    @shared_task
    def odd() -> object:
        return object()

    assert isinstance(odd.delay().result, EncodeError)


@pytest.mark.usefixtures("eager")
def test_a_retry_with_other_arguments_passes_through_the_serializer() -> None:
    @shared_task(bind=True)
    def again(self: Task[..., Any], x: Any) -> Any:
        if self.request.retries:
            return x
        raise self.retry(args=((1, 2),))

    assert again.delay(0).get() == [1, 2]


@pytest.mark.usefixtures("eager")
def test_what_would_be_refused_is_refused() -> None:
    with pytest.raises(TypeError, match="missing a required argument|too many positional arguments"):
        echo.delay(1, 2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="did you mean 'countdown'"):
        echo.apply_async(coundown=5)  # type: ignore[call-arg]


def test_a_queue_that_is_not_there_is_refused(configure: Configure) -> None:
    configure(TASK_ALWAYS_EAGER=True, TASK_QUEUES=["celery"], TASK_CREATE_MISSING_QUEUES=False)
    with pytest.raises(QueueNotFound):
        echo.apply_async(queue="nowhere")


@pytest.mark.usefixtures("eager")
def test_waiting_for_a_task_inside_a_task_is_refused_as_it_would_be_in_a_worker() -> None:
    @shared_task
    def waits(how: str) -> Any:
        if how == "plainly":
            return echo.delay(1).get()
        if how == "on purpose":
            return echo.delay(1).get(disable_sync_subtasks=False)
        with allow_join_result():
            return echo.delay(1).get()

    with pytest.raises(RuntimeError, match="must not wait for another one"):
        waits.delay("plainly").get()
    assert waits.delay("on purpose").get() == 1
    assert waits.delay("inside a block").get() == 1


def test_the_result_of_apply_can_be_had_inside_a_task() -> None:
    @shared_task
    def outer() -> Any:
        return echo.apply((1,)).get()

    assert outer.apply().get() == 1


@pytest.mark.usefixtures("eager")
@pytest.mark.django_db(transaction=True)
def test_delay_on_commit_runs_on_commit() -> None:
    runs: list[Any] = []

    class Noting(Task[..., Any]):
        def before_start(self, *args: Any) -> None:
            runs.append(1)

    @shared_task(base=Noting)
    def note() -> None: ...

    with transaction.atomic():
        result = note.delay_on_commit()
        assert result.id
        assert runs == []
    assert runs == [1]
    assert note.delay_on_commit().get() is None
    assert runs == [1, 1]


@pytest.mark.usefixtures("eager")
@pytest.mark.django_db(transaction=True)
def test_send_task_enqueues_all_the_same_and_warns() -> None:
    with pytest.warns(RuntimeWarning, match="enqueues although TASK_ALWAYS_EAGER is on"):
        result = app.send_task(echo.name)
    with pytest.warns(RuntimeWarning, match="their results are not stored"):
        assert (result.state, result.exists()) == ("PENDING", True)


@pytest.mark.django_db(transaction=True)
def test_eager_results_are_stored_when_the_settings_say_so(configure: Configure) -> None:
    configure(TASK_ALWAYS_EAGER=True, TASK_STORE_EAGER_RESULT=True)
    for call in (echo.delay, lambda x: echo.apply((x,))):
        stored: AsyncResult[Any] = AsyncResult(call(3).id)
        assert (stored.state, stored.result, stored.name, stored.queue) == ("SUCCESS", 3, echo.name, "celery")
    failed: AsyncResult[Any] = AsyncResult(fail.delay("no").id)
    assert (failed.state, failed.args) == ("FAILURE", ["no"])
    assert "ValueError: no" in (failed.traceback or "")
    assert not AsyncResult(echo.apply_async(ignore_result=True).id).exists()
