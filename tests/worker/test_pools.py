"""The pools that run tasks in the worker itself: `threads` and `solo`."""

import time

import pytest

from tests.worker.running import Gate, RunningWorker, Workers, ended, error, query, value, wait_until
from tests.worker_app import tasks

SLOTS = {"threads": "4", "solo": "1"}


@pytest.fixture(scope="module", params=list(SLOTS))
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def worker(pool: str, shared: Workers) -> RunningWorker:
    """A worker that would look for work every five minutes if it were not rung."""
    return shared.start("-P", pool, "-c", SLOTS[pool], "-Q", pool, WORKER_POLL_INTERVAL=300)


def test_it_runs_tasks_in_the_workers_own_process(worker: RunningWorker, pool: str) -> None:
    assert value(tasks.pid.apply_async(queue=pool)) == worker.pid


def test_an_idle_one_is_rung(worker: RunningWorker, pool: str, shared: Workers) -> None:
    for _ in range(3):
        asked = time.monotonic()
        result = tasks.noted.apply_async(queue=pool)
        ended(result)
        assert shared.audit.lines("ran", result)[0]["time"] - asked < 1.0


def test_a_state_of_the_tasks_own_can_be_read_while_it_runs(worker: RunningWorker, pool: str, gate: Gate) -> None:
    result = tasks.halfway.apply_async([str(gate)], queue=pool)
    wait_until(lambda: result.state == "HALFWAY", "the state is stored")
    gate.open()
    assert value(result) == "done"


def test_it_ends_many_calls_exactly_once(worker: RunningWorker, pool: str, shared: Workers) -> None:
    results = tasks.noted.bulk_apply_async((([number], {}) for number in range(500)), queue=pool)
    assert [value(result) for result in results] == list(range(500))
    ids = {result.id for result in results}
    assert len([line for line in shared.audit.lines("ran") if line["id"] in ids]) == 500


def test_failures_retries_and_large_values_come_back(worker: RunningWorker, pool: str) -> None:
    assert error(tasks.fail.apply_async(["oh"], queue=pool)) == "ValueError: oh"
    assert value(tasks.retried.apply_async(queue=pool)) == 2
    text = "x" * 3_000_000
    assert value(tasks.echo.apply_async([text], queue=pool)) == text


def test_its_database_sessions_end_with_their_task(worker: RunningWorker, pool: str) -> None:
    found = [value(tasks.session.apply_async(queue=pool)) for _ in range(5)]
    assert {each["before"] for each in found} == {False}
    assert len({each["backend"] for each in found}) == 5
    assert query("SELECT pid FROM pg_stat_activity WHERE pid = ANY (%s)", [each["backend"] for each in found]) == []


def test_a_session_that_breaks_is_none_of_the_next_tasks_business(worker: RunningWorker, pool: str) -> None:
    assert ended(tasks.break_session.apply_async(queue=pool)) == "FAILURE"
    assert value(tasks.session.apply_async(queue=pool))["before"] is False


def test_threads_run_as_many_tasks_at_a_time_as_there_are_threads(workers: Workers) -> None:
    worker, gate = workers.start("-P", "threads", "-c", "4"), workers.gate()
    results = [tasks.hold.delay(str(gate)) for _ in range(4)]
    for result in results:
        workers.audit.began(result)
    gate.open()
    assert {value(result) for result in results} == {worker.pid}


def test_a_task_that_wants_to_end_a_process_ends_only_its_own_run_in_a_thread(workers: Workers) -> None:
    worker = workers.start("-P", "threads", "-c", "1")
    assert "KeyboardInterrupt was raised" in error(tasks.interrupt.delay())
    assert value(tasks.pid.delay()) == worker.pid
