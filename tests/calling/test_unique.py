"""Unique tasks: at most one of a key waits or runs, whoever calls it, whenever it is written."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from django.db import connections, transaction

from djtasks import AsyncResult, shared_task
from djtasks.db.connections import open_private
from djtasks.exceptions import EncodeError, ImproperlyConfigured, TaskAlreadyQueued
from tests.calling.conftest import waiting, work
from tests.waits import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
MODES = ("on_commit", "in_transaction", "immediately")


@shared_task(name="shop.report", unique_key="report-{shop}", on_conflict="return")
def report(shop: int, day: str = "today") -> str:
    return f"{shop} {day}"


@shared_task(name="shop.index", unique=True)
def index(shop: int, **more: Any) -> int:
    return shop


@pytest.fixture(autouse=True)
def _defined(registry: dict[str, Any]) -> Iterator[None]:
    registry[report.name], registry[index.name] = report, index
    yield
    with open_private("test") as conn:
        conn.execute("DELETE FROM djtasks_message; DELETE FROM djtasks_alias; DELETE FROM djtasks_result")


def ids(name: str = "shop.report") -> list[str]:
    """The messages there are."""
    return [row["id"] for row in waiting(name)]


def claim(task_id: str) -> None:
    """Let a worker have it."""
    with open_private("test") as conn:
        conn.execute("UPDATE djtasks_message SET owner = 1, claim = 1 WHERE id = %s", [task_id])


# -- return -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_second_call_returns_the_result_of_the_first(mode: str) -> None:
    first = report.apply_async((1,), enqueue=mode)
    second = report.apply_async((1,), enqueue=mode)
    other = report.apply_async((2,), enqueue=mode)
    assert second.id == first.id
    assert ids() == [first.id, other.id]


@pytest.mark.parametrize("mode", MODES)
def test_in_a_transaction_too_in_the_end_both_ids_lead_to_the_same_task(mode: str) -> None:
    with transaction.atomic():
        first = report.apply_async((1,), enqueue=mode)
        second = report.apply_async((1,), enqueue=mode)
    assert ids() == [first.id]
    work()
    assert first.get(timeout=10) == second.get(timeout=10) == "1 today"
    assert AsyncResult(second.id).state == "SUCCESS"
    assert second.exists()


def test_an_id_that_stands_for_another_shows_the_others_state_while_it_waits() -> None:
    report.delay(1)
    with transaction.atomic():
        second = report.delay(1)
    assert second.id not in ids()
    assert second.state == "PENDING"
    assert second.exists()


def test_a_key_is_free_again_when_its_task_has_ended() -> None:
    first = report.delay(1)
    work()
    second = report.delay(1)
    assert second.id != first.id
    assert ids() == [second.id]


def test_a_rolled_back_call_takes_no_key() -> None:
    with suppress(KeyError), transaction.atomic():
        report.apply_async((1,), enqueue="in_transaction")
        raise KeyError
    assert report.delay(1).id in ids()


def test_a_running_task_holds_its_key() -> None:
    first = report.delay(1)
    claim(first.id)
    assert report.delay(1).id == first.id


def test_calls_in_bulk_are_unique_too() -> None:
    results = report.bulk_apply_async([((number % 10,), {}) for number in range(50)])
    assert len(ids()) == 10
    work()
    assert [result.get(timeout=10) for result in results] == [f"{number % 10} today" for number in range(50)]


def test_unique_calls_run_in_the_order_in_which_they_were_made() -> None:
    results = report.bulk_apply_async([((number,), {}) for number in (5, 3, 9, 1, 7, 3)])
    assert ids() == [result.id for result in results[:5]]


def test_more_than_a_chunk_of_calls_is_unique_too() -> None:
    results = report.bulk_apply_async(((number % 100,), {}) for number in range(2500))
    assert len(ids()) == 100
    assert len(results) == 2500


def test_an_id_of_ones_own_may_be_called_twice() -> None:
    first = report.apply_async((1,), task_id="nightly")
    second = report.apply_async((1,), task_id="nightly")
    assert first.id == second.id == "nightly"
    assert len(ids()) == 1
    other = report.apply_async((1,), task_id="weekly")
    assert other.id == ids()[0]


def test_an_id_that_stood_for_another_can_become_a_task_again() -> None:
    report.delay(1)
    report.apply_async((1,), task_id="nightly")
    work()
    report.apply_async((1,), task_id="nightly")
    work()
    assert AsyncResult("nightly").get(timeout=10) == "1 today"


# -- what a key is ------------------------------------------------------------------------------------------------


def test_unique_goes_by_the_arguments_however_they_are_given() -> None:
    first = index.delay(1)
    assert index.delay(shop=1).id == first.id
    assert index.delay(2).id != first.id
    named = index.delay(1, a={"x": 1, "y": [1, 2]})
    assert index.delay(1, a={"y": [1, 2], "x": 1}).id == named.id != first.id


def test_a_call_may_say_another_key_or_none() -> None:
    first = report.delay(1)
    assert report.apply_async((1,), unique_key="mine").id != first.id
    assert report.apply_async((1,), unique=False).id != first.id
    assert len(ids()) == 3


def test_arguments_that_are_no_key_are_an_error_at_the_call() -> None:
    with pytest.raises(EncodeError, match="unique_key of your own"):
        index.apply_async((1,), {"a": object()}, serializer="pickle")
    with pytest.raises(ValueError, match="cannot be filled in"):
        report.apply_async((1,), unique_key="{nobody}")
    with pytest.raises(TypeError, match="must return a text"):
        report.apply_async((1,), unique_key=lambda *args, **kwargs: 5)
    with pytest.raises(ValueError, match="on_conflict must be one of"):
        report.apply_async((1,), on_conflict="explode")
    with pytest.raises(ValueError, match="NUL"):
        report.apply_async((1,), unique_key="a\0b")
    assert ids() == ids("shop.index") == []


# -- raise --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_raise_says_which_task_has_the_key(mode: str) -> None:
    first = report.delay(1)
    with pytest.raises(TaskAlreadyQueued, match="report-1") as caught:
        report.apply_async((1,), on_conflict="raise", enqueue=mode)
    assert caught.value.task_id == first.id
    assert ids() == [first.id]


@pytest.mark.parametrize("mode", ["in_transaction", "immediately"])
def test_raise_can_be_had_inside_a_transaction_where_the_call_is_written_at_once(mode: str) -> None:
    report.delay(1)
    with transaction.atomic(), pytest.raises(TaskAlreadyQueued):
        report.apply_async((1,), on_conflict="raise", enqueue=mode)


def test_raise_is_refused_where_only_the_commit_would_tell() -> None:
    with transaction.atomic(), pytest.raises(ImproperlyConfigured, match="in_transaction"):
        report.apply_async((1,), on_conflict="raise")


def test_raise_in_bulk_leaves_nothing_of_its_chunk() -> None:
    first = report.delay(3)
    with pytest.raises(TaskAlreadyQueued):
        report.bulk_apply_async((((number,), {}) for number in range(10)), on_conflict="raise")
    assert ids() == [first.id]


# -- replace ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("inside", [False, True])
def test_replace_ends_the_waiting_one_as_revoked(mode: str, inside: bool) -> None:
    first = report.delay(1, "monday")
    with transaction.atomic() if inside else nullcontext():
        second = report.apply_async((1, "tuesday"), on_conflict="replace", enqueue=mode)
    assert second.id != first.id
    assert ids() == [second.id]
    assert first.state == "REVOKED"
    assert "replaced" in str(first.result)
    work()
    assert second.get(timeout=10) == "1 tuesday"


def test_replace_of_a_running_one_returns_it() -> None:
    first = report.delay(1)
    claim(first.id)
    assert report.apply_async((1,), on_conflict="replace").id == first.id


def test_of_several_in_one_transaction_the_last_stays() -> None:
    with transaction.atomic():
        results = [report.apply_async((1, day), on_conflict="replace") for day in ("mon", "tue", "wed")]
    assert ids() == [results[-1].id]
    work()
    assert [result.get(timeout=10) for result in results] == ["1 wed"] * 3


def test_replace_is_undone_with_its_transaction() -> None:
    first = report.delay(1)
    with suppress(KeyError), transaction.atomic():
        report.apply_async((1,), on_conflict="replace", enqueue="in_transaction")
        raise KeyError
    assert ids() == [first.id]
    assert first.state == "PENDING"


# -- many at once -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["return", "replace", "raise"])
@pytest.mark.parametrize("mode", MODES)
def test_eight_callers_at_once_leave_one_task_of_each_key(mode: str, policy: str) -> None:
    barrier = threading.Barrier(8)

    def call() -> list[str]:
        try:
            barrier.wait(10)
            found = []
            for number in range(12):
                with suppress(TaskAlreadyQueued):
                    if mode == "in_transaction":
                        with transaction.atomic():
                            found.append(report.apply_async((number,), enqueue=mode, on_conflict=policy).id)
                    else:
                        found.append(report.apply_async((number,), enqueue=mode, on_conflict=policy).id)
            return found
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        called = [each for future in [pool.submit(call) for _ in range(8)] for each in future.result(30)]
    assert len(ids()) == 12
    if policy == "return":
        assert set(called) == set(ids())
    elif policy == "raise":
        assert sorted(called) == sorted(ids())
    else:
        assert set(ids()) <= set(called)
    work()
    states = {AsyncResult(each).state for each in called}
    assert states <= {"SUCCESS", "REVOKED"}


def test_a_caller_waits_for_the_transaction_that_has_just_taken_the_key() -> None:
    pool = ThreadPoolExecutor(1)
    with transaction.atomic():
        first = report.apply_async((1,), enqueue="in_transaction")
        second = pool.submit(_closing(lambda: report.delay(1)))
        with open_private("test") as onlooker:
            query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%unique_key%'"
            wait_until(lambda: onlooker.execute(query).fetchall()[0][0], "the other caller waits")
    assert second.result(20).id == first.id
    pool.shutdown()


def _closing(call: Callable[[], Any]) -> Callable[[], Any]:
    def work() -> Any:
        try:
            return call()
        finally:
            connections.close_all()

    return work
