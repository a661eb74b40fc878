"""`async def` tasks, and tasks that coroutines call and wait for."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pydantic
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, connections, transaction

from djtasks import AsyncResult, Task, aio, current_task, shared_task
from djtasks.exceptions import NotEnqueuedYet, Retry, SoftTimeLimitExceeded, TimeoutError
from tests.calling.conftest import Configure, Runner, waiting, work
from tests.waits import wait_until

pytestmark = pytest.mark.django_db


@shared_task(name="shop.double")
async def double_it(number: int) -> int:
    await asyncio.sleep(0)
    return number * 2


def run_in_a_loop(view: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run it as the main thing of a program, whose ORM then has a thread of its own."""

    async def main() -> Any:
        try:
            return await view()
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def double(registry: dict[str, Any]) -> Task[..., Any]:
    registry["shop.double"] = double_it
    return double_it


# -- running ------------------------------------------------------------------------------------------------------


def test_a_coroutines_value_is_the_tasks_result(double: Task[..., Any], run: Runner) -> None:
    outcome = run(double, 4)
    assert (outcome.state, outcome.result) == ("SUCCESS", b"8")
    assert double.apply((5,)).get() == 10


def test_a_coroutine_that_raises_is_a_failure_with_a_traceback_from_its_own_code_on() -> None:
    @shared_task
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    result = fails.apply()
    assert result.state == "FAILURE"
    assert repr(result.result) == "ValueError('no')"
    assert result.traceback is not None
    first = result.traceback.splitlines()[1]
    assert "test_async.py" in first
    assert "in fails" in first


def test_a_coroutine_knows_its_request_and_its_task() -> None:
    @shared_task(bind=True)
    async def who(self: Task[..., Any]) -> list[Any]:
        await asyncio.sleep(0)
        return [self.request.id, current_task.name, await sync_to_async(lambda: self.request.id)()]

    result = who.apply(task_id="0190b6a4-0000-7000-8000-000000000001")
    assert result.get() == [result.id, who.name, result.id]


def test_a_coroutine_is_retried_as_any_task() -> None:
    @shared_task(bind=True, max_retries=2)
    async def stubborn(self: Task[..., Any]) -> int:
        await asyncio.sleep(0)
        if self.request.retries < 2:
            raise self.retry(countdown=0)
        return int(self.request.retries)

    @shared_task(autoretry_for=(OSError,), retry_backoff=True, max_retries=1)
    async def unlucky() -> None:
        raise OSError("down")

    assert stubborn.apply().get() == 2
    assert repr(unlucky.apply().result) == "OSError('down')"


def test_handlers_of_a_task_may_be_coroutines() -> None:
    told: list[str] = []

    class Told(Task[..., Any]):
        async def before_start(self, *args: Any) -> None:  # type: ignore[override]
            told.append(await sync_to_async(str)("before_start"))

        async def on_success(self, *args: Any) -> None:  # type: ignore[override]
            told.append(await sync_to_async(str)("on_success"))

    @shared_task(base=Told)
    async def quiet() -> None:
        told.append("run")

    assert quiet.apply().state == "SUCCESS"
    assert told == ["before_start", "run", "on_success"]


def test_the_orm_of_a_coroutine_is_in_the_transaction_of_its_caller() -> None:
    User.objects.create(username="ada")

    @shared_task
    async def names() -> list[str]:
        await User.objects.acreate(username="bob")
        return [user.username async for user in User.objects.order_by("username")]

    assert names.apply().get() == ["ada", "bob"]
    assert User.objects.count() == 2


def test_synchronous_code_of_a_coroutine_runs_in_the_thread_of_its_task() -> None:
    @shared_task
    async def where() -> bool:
        return await sync_to_async(threading.get_ident)() == caller

    caller = threading.get_ident()
    assert where.apply().get()


def test_all_coroutines_of_a_thread_share_a_loop() -> None:
    loops = []

    @shared_task
    async def which() -> None:
        loops.append(asyncio.get_running_loop())

    which.apply()
    which.apply()
    assert loops[0] is loops[1]


def test_what_a_coroutine_leaves_behind_is_cancelled() -> None:
    ended = []

    async def lasting() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            ended.append(True)

    @shared_task
    async def forgetful() -> str:
        left.append(asyncio.create_task(lasting()))
        await asyncio.sleep(0)
        return "done"

    left: list[asyncio.Task[None]] = []
    assert forgetful.apply().get() == "done"
    assert ended == [True]


def test_a_coroutine_can_run_another_task_here_and_now(double: Task[..., Any]) -> None:
    @shared_task
    async def outer() -> list[int]:
        sleeper = asyncio.create_task(asyncio.sleep(0.05, 7))
        first = (await double.aapply((1,))).get()
        second = double.apply((2,)).get()
        return [first, second, await sleeper]

    assert outer.apply().get() == [2, 4, 7]


def test_a_task_can_be_run_where_a_loop_runs(double: Task[..., Any]) -> None:
    async def view() -> list[int]:
        return [double.apply((1,)).get(), (await double.aapply((2,))).get()]

    assert run_in_a_loop(view) == [2, 4]
    assert async_to_sync(view)() == [2, 4]


def test_called_as_a_function_it_is_a_coroutine() -> None:
    @shared_task(bind=True)
    async def who(self: Task[..., Any], number: int) -> list[Any]:
        await asyncio.sleep(0)
        return [number, self.request.called_directly, self.request.args]

    assert asyncio.run(who(5)) == [5, True, (5,)]
    assert who.request.args is None


def test_a_coroutine_may_take_and_return_models(run: Runner) -> None:
    class Money(pydantic.BaseModel):
        cents: int

    @shared_task(pydantic=True)
    async def doubled(money: Money) -> Money:
        await asyncio.sleep(0)
        return Money(cents=money.cents * 2)

    assert run(doubled, {"cents": 4}).result == b'{"cents":8}'


def test_what_would_end_a_process_ends_only_its_own_run(double: Task[..., Any]) -> None:
    @shared_task
    async def leaves() -> None:
        async def gone() -> None:
            raise SystemExit(3)

        left.append(asyncio.create_task(gone()))
        await asyncio.sleep(0.01)
        raise SystemExit(4)

    left: list[asyncio.Task[None]] = []
    assert repr(leaves.apply().result) == "SystemExit(4)"
    assert double.apply((1,)).get() == 2


def test_a_loop_ends_with_the_thread_that_it_belongs_to(double: Task[..., Any]) -> None:
    def loops() -> int:
        return sum(thread.name == "djtasks-loop" for thread in threading.enumerate())

    def work_there() -> None:
        double.apply((1,))
        during.append(loops())

    double.apply((1,))
    before, during = loops(), list[int]()
    thread = threading.Thread(target=work_there)
    thread.start()
    thread.join()
    assert during == [before + 1]
    wait_until(lambda: loops() == before, "its loop has ended", 20)


def test_a_class_task_may_be_asynchronous(registry: dict[str, Any]) -> None:
    class Adds(Task[..., Any]):
        name = "shop.adds"

        async def run(self, x: int, y: int) -> int:
            return x + y

        async def __call__(self, *args: Any, **kwargs: Any) -> int:
            return 100 + int(await super().__call__(*args, **kwargs))

    assert Adds().apply((1, 2)).get() == 103


@pytest.mark.parametrize("wait", ["sleep", "group", "timeout", "thread", "gather"])
def test_a_soft_limit_is_raised_where_the_coroutine_waits(wait: str) -> None:
    async def waits() -> None:
        if wait == "sleep":
            await asyncio.sleep(600)
        elif wait == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(600))
        elif wait == "timeout":
            async with asyncio.timeout(600):
                await asyncio.sleep(600)
        elif wait == "thread":
            await sync_to_async(struck.wait)(20)
            await asyncio.sleep(600)
        else:
            await asyncio.gather(asyncio.sleep(600), asyncio.sleep(600))

    @shared_task
    async def slow() -> None:
        asyncio.get_running_loop().call_later(0.01, strike)
        await waits()

    def strike() -> None:
        assert aio.strike(2.5, caller)
        struck.set()

    struck = threading.Event()
    caller = threading.get_ident()
    result = slow.apply()
    assert repr(result.result) == "SoftTimeLimitExceeded(2.5)"
    assert type(result.result) is SoftTimeLimitExceeded


def test_a_coroutine_may_clean_up_after_its_soft_limit() -> None:
    @shared_task
    async def tidy() -> str:
        asyncio.get_running_loop().call_soon(aio.strike, 1.0, caller)
        try:
            await asyncio.sleep(600)
        except SoftTimeLimitExceeded as error:
            async with asyncio.TaskGroup() as group:
                slept = group.create_task(asyncio.sleep(0.01, "tidied"))
            return f"{slept.result()} after {error}, cancelled: {isinstance(error, asyncio.CancelledError)}"
        return "never"

    caller = threading.get_ident()
    assert tidy.apply().get() == "tidied after SoftTimeLimitExceeded(1.0,), cancelled: True"


def test_a_thread_that_runs_no_coroutine_cannot_be_struck() -> None:
    assert not aio.strike(1.0)


# -- calling ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_coroutine_enqueues_and_waits(double: Task[..., Any]) -> None:
    async def view() -> list[Any]:
        first = await double.adelay(1)
        second = await double.aapply_async((2,), queue="celery")
        ready = await first.aready()
        others = asyncio.gather(first.aget(timeout=20), second.aget(timeout=20))
        await sync_to_async(work)()
        return [ready, await others, await first.astate()]

    assert run_in_a_loop(view) == [False, [2, 4], "SUCCESS"]


@pytest.mark.django_db(transaction=True)
def test_a_wait_of_a_coroutine_leaves_its_loop_free(double: Task[..., Any]) -> None:
    async def view() -> list[Any]:
        result = await double.adelay(1)
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.001)

        turning = asyncio.create_task(turn())
        with pytest.raises(TimeoutError):
            await result.aget(timeout=0.1)
        with pytest.raises(TimeoutError):
            await result.aget(timeout=0)
        turning.cancel()
        return [turns > 5]

    assert run_in_a_loop(view) == [True]


@pytest.mark.django_db(transaction=True)
def test_a_failure_is_raised_in_the_coroutine_that_waits() -> None:
    @shared_task(name="shop.fails")
    async def fails() -> None:
        raise ValueError("no")

    async def view() -> BaseException:
        result = await fails.adelay()
        await sync_to_async(work)()
        with pytest.raises(ValueError, match="no"):
            await result.aget(timeout=20)
        await result.aforget()
        return await AsyncResult(result.id).aget(timeout=0.05, propagate=False)

    with pytest.raises(TimeoutError):
        run_in_a_loop(view)


def test_a_coroutine_is_told_at_once_that_its_task_waits_for_its_own_commit(double: Task[..., Any]) -> None:
    async def view() -> None:
        result = await double.adelay(1)
        with pytest.raises(NotEnqueuedYet):
            await result.aget()

    async_to_sync(view)()


def test_calls_of_a_coroutine_are_in_its_transaction(double: Task[..., Any]) -> None:
    async def view() -> AsyncResult[Any]:
        def calls() -> AsyncResult[Any]:
            with transaction.atomic():
                return async_to_sync(double.aapply_async)((1,), enqueue="in_transaction")

        return await sync_to_async(calls)()

    result = async_to_sync(view)()
    assert result.exists()
    assert not waiting("shop.double")


def test_a_call_that_would_block_a_loop_is_refused(double: Task[..., Any]) -> None:
    async def view() -> None:
        double.apply_async((1,), enqueue="in_transaction")

    connection.close()
    with pytest.raises(SynchronousOnlyOperation):
        run_in_a_loop(view)


def test_a_coroutine_must_not_wait_for_another_task_inside_a_task(double: Task[..., Any]) -> None:
    @shared_task
    async def waits() -> None:
        await AsyncResult("0190b6a4-0000-7000-8000-000000000001").aget()

    with pytest.raises(RuntimeError, match="must not wait"):
        waits.apply(throw=True)


def test_the_children_of_a_coroutine_know_their_parent(double: Task[..., Any]) -> None:
    @shared_task(bind=True)
    async def parent(self: Task[..., Any]) -> list[str]:
        child = await double.aapply_async((1,), enqueue="in_transaction")
        return [self.request.id or "", child.id]

    own, child = parent.apply().get()
    with connection.cursor() as cursor:
        cursor.execute("SELECT headers FROM djtasks_message WHERE id = %s", [child])
        assert own in cursor.fetchone()[0]


def test_eagerly_a_coroutine_gets_what_it_enqueues_at_once(double: Task[..., Any], configure: Configure) -> None:
    configure(TASK_ALWAYS_EAGER=True)

    async def view() -> int:
        return int(await (await double.adelay(4)).aget())

    assert async_to_sync(view)() == 8
    assert run_in_a_loop(view) == 8


@pytest.mark.django_db(transaction=True)
def test_a_coroutine_stores_a_state_of_its_own(run: Runner) -> None:
    @shared_task(bind=True)
    async def counts(self: Task[..., Any]) -> None:
        self.update_state(state="HALF", meta={"done": 1})
        await self.aupdate_state(state="DONE", meta={"done": 2})

    run(counts)
    assert [report.state for report in run.reports] == ["HALF", "DONE"]


def test_a_retry_asked_for_outside_of_a_run_is_raised() -> None:
    @shared_task(bind=True)
    async def again(self: Task[..., Any]) -> None:
        raise self.retry()

    with pytest.raises(Retry):
        asyncio.run(again())


@pytest.fixture(autouse=True)
def _no_thread_is_left_waiting() -> Iterator[None]:
    yield
    assert not aio._bodies
