"""`async def` tasks in real workers: in every pool, with Django's asynchronous ORM and with limits."""

import time
from typing import Any

import pytest

from tests.worker.running import RunningWorker, Workers, ended, error, query, value
from tests.worker_app import coroutines, crowded

SLOTS = {"prefork": "2", "threads": "4", "solo": "1"}
SOFT = 0.8
MORE: dict[str, Any] = {"IMPORTS": ["tests.worker_app.coroutines", "tests.worker_app.crowded"]}


@pytest.fixture(scope="module", params=list(SLOTS))
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def worker(pool: str, shared: Workers) -> RunningWorker:
    limits = ["--soft-time-limit", str(SOFT)]
    return shared.start("-P", pool, "-c", SLOTS[pool], "-Q", pool, *limits, **MORE)


def test_the_asynchronous_orm_works(worker: RunningWorker, pool: str) -> None:
    assert value(coroutines.count_users.apply_async(queue=pool)) == 0


def test_a_hundred_of_them_need_no_more_sessions_than_there_are_slots(worker: RunningWorker, pool: str) -> None:
    before = query("SELECT count(*) FROM pg_stat_activity WHERE application_name = ''")[0][0]
    results = coroutines.count_users.bulk_apply_async((([0.005], {}) for _ in range(100)), queue=pool)
    most = 0
    while not all(result.ready() for result in results):
        most = max(most, query("SELECT count(*) FROM pg_stat_activity WHERE application_name = ''")[0][0])
    assert [value(result) for result in results] == [0] * 100
    assert most - before <= int(SLOTS[pool])


def test_its_database_sessions_end_with_it(worker: RunningWorker, pool: str) -> None:
    found = [value(coroutines.backend_pid.apply_async(queue=pool)) for _ in range(5)]
    backends = [backend for _, *both in found for backend in both]
    assert len(set(backends)) == 10
    assert query("SELECT pid FROM pg_stat_activity WHERE pid = ANY (%s)", backends) == []


def test_a_slot_keeps_its_loop(worker: RunningWorker, pool: str) -> None:
    found = [tuple(value(coroutines.loop_number.apply_async(queue=pool))) for _ in range(20)]
    assert len(set(found)) <= int(SLOTS[pool])


def test_a_soft_limit_is_raised_at_an_await(worker: RunningWorker, pool: str, shared: Workers) -> None:
    result = coroutines.linger.apply_async(queue=pool)
    assert value(result) == "tidied up"
    (begin,), (soft,) = shared.audit.lines("begin", result), shared.audit.lines("soft", result)
    assert soft["limit"] == SOFT
    assert SOFT - 0.05 < soft["time"] - begin["time"] < SOFT + 0.5
    worker.says(f"Soft time limit ({SOFT}s) exceeded for tests.worker_app.coroutines.linger[{result.id}]")


def test_a_session_whose_query_was_over_the_soft_limit_stays_usable(worker: RunningWorker, pool: str) -> None:
    result = crowded.tidy.apply_async([2.0], queue=pool, soft_time_limit=0.3)
    assert value(result) == "tidied up after 0.3"


def test_one_that_does_not_catch_it_fails_with_it(worker: RunningWorker, pool: str) -> None:
    result = coroutines.sleepy.apply_async(queue=pool, soft_time_limit=0.2)
    assert error(result) == "SoftTimeLimitExceeded: SoftTimeLimitExceeded(0.2,)"
    assert value(coroutines.count_users.apply_async(queue=pool)) == 0


def test_one_that_never_awaits_is_ended_by_its_hard_limit(shared: Workers) -> None:
    shared.start("-c", "1", "-Q", "hogs", **MORE)
    began = time.monotonic()
    result = coroutines.hog.apply_async(queue="hogs", soft_time_limit=0.2, time_limit=0.6)
    assert error(result) == "TimeLimitExceeded: 0.6"
    assert time.monotonic() - began < 5
    assert ended(coroutines.count_users.apply_async(queue="hogs")) == "SUCCESS"
