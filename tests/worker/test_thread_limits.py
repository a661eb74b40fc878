"""Time limits where tasks run in threads, or in the worker's own; and limits that are changed while it runs."""

import time

import psutil
import pytest

from djtasks import app
from tests.worker.running import Gate, RunningWorker, Workers, ended, error, query, value
from tests.worker.test_limits import SLOW_COMMIT
from tests.worker_app import revocable, tasks


@pytest.fixture(scope="module", autouse=True)
def worker(shared: Workers) -> RunningWorker:
    return shared.start("-P", "threads", "-c", "3", "-Q", "celery", IMPORTS=["tests.worker_app.revocable"])


def test_a_thread_can_tidy_up_when_its_soft_limit_comes(worker: RunningWorker, shared: Workers) -> None:
    result = revocable.hold_on.apply_async(soft_time_limit=0.3)
    assert value(result) == "tidied up"
    (soft,) = shared.audit.lines("soft", result)
    assert soft["limit"] == 0.3
    worker.says(f"Soft time limit (0.3s) exceeded for tests.worker_app.revocable.hold_on[{result.id}]")


def test_a_thread_that_does_not_catch_its_soft_limit_fails_with_it() -> None:
    result = tasks.spin.apply_async([60], soft_time_limit=0.2)
    assert error(result) == "SoftTimeLimitExceeded: SoftTimeLimitExceeded(0.2,)"


def test_only_the_thread_that_is_over_its_limit_is_struck() -> None:
    calls = [(tasks.spin.apply_async([0.05], soft_time_limit=0.05), tasks.spin.apply_async([0.02])) for _ in range(60)]
    for close, safe in calls:
        assert value(safe) == "done"
        assert ended(close) == "SUCCESS" or error(close).startswith("SoftTimeLimitExceeded")


def test_a_soft_limit_waits_until_a_threads_transaction_is_committed() -> None:
    query("DROP TABLE IF EXISTS slow_commit; DROP FUNCTION IF EXISTS take_time")
    query(SLOW_COMMIT)
    result = revocable.commit_slowly_and_spin.apply_async([7], soft_time_limit=0.3)
    assert value(result) == [True, 1]


def test_a_task_over_its_hard_limit_fails_at_once_and_the_process_is_replaced(
    worker: RunningWorker, shared: Workers, gate: Gate
) -> None:
    other = tasks.hold.delay(str(gate))
    shared.audit.began(other)
    guilty = tasks.sleepy.apply_async(time_limit=0.4)
    began = time.monotonic()
    assert error(guilty) == "TimeLimitExceeded: 0.4"
    assert time.monotonic() - began < 3
    worker.says("the worker ends the others, and replaces its process")
    later = tasks.pid.delay()
    assert not other.ready()
    gate.open()
    assert value(other) == worker.pid
    assert value(later) == worker.pid
    assert worker.log.count(" ready.") == 2
    # The thread that slept is gone with the program that it was in.
    assert psutil.Process(worker.pid).num_threads() < 12
    assert len(query("SELECT 1 FROM djtasks_worker WHERE pid = %s", worker.pid)) == 1


def test_a_worker_that_is_told_to_stop_does_not_start_anew(workers: Workers, gate: Gate) -> None:
    worker = workers.start("-P", "threads", "-c", "2", "-Q", "stops")
    other = tasks.hold.apply_async([str(gate)], queue="stops")
    workers.audit.began(other)
    assert error(tasks.sleepy.apply_async(queue="stops", time_limit=0.2)) == "TimeLimitExceeded: 0.2"
    worker.says("replaces its process")
    worker.signal(15)
    worker.says("Warm shutdown")
    gate.open()
    assert worker.wait() == 0


def test_the_solo_pool_says_which_limits_it_cannot_keep(workers: Workers) -> None:
    solo = workers.start("-P", "solo", "-Q", "solo")
    assert "tests.worker_app.tasks.linger_half_a_second (time_limit)" in solo.log
    assert "linger_briefly (" not in solo.log
    for _ in range(2):
        assert value(tasks.nap.apply_async([0.01], queue="solo", time_limit=5)) == "slept"
    assert solo.log.count("cannot keep the time_limit of the task tests.worker_app.tasks.nap") == 1


def test_a_tasks_limits_can_be_set_while_workers_run(workers: Workers) -> None:
    worker = workers.start("-c", "1", "-Q", "told")
    (reply,) = app.control.time_limit(
        tasks.linger.name, soft=0.2, hard=5, destination=[f"{worker.name}@here"], reply=True
    )
    assert reply == {f"{worker.name}@here": {"ok": "time limits set successfully"}}
    assert value(tasks.linger.apply_async(queue="told")) == "tidied up"
    assert app.control.time_limit("no.such", hard=1, destination=[f"{worker.name}@here"], reply=True) == [
        {f"{worker.name}@here": {"error": "unknown task"}}
    ]
    assert app.control.time_limit(tasks.linger.name, soft=1, destination=["nobody"], reply=True, timeout=0.1) == []
    with pytest.raises(ValueError, match="must not be above"):
        app.control.time_limit(tasks.linger.name, soft=3, hard=2)
    with pytest.raises(ValueError, match="above 0"):
        app.control.time_limit(tasks.linger.name, soft=-1)


def test_a_rate_can_be_set_while_workers_run(workers: Workers) -> None:
    worker = workers.start("-c", "1", "-Q", "rated")
    node = f"{worker.name}@here"

    def say(rate: object, name: str = tasks.noop.name) -> object:
        (reply,) = app.control.rate_limit(name, rate, destination=[node], reply=True)  # type: ignore[arg-type]
        return reply[node]

    assert say("10/s") == {"ok": "new rate limit set successfully"}
    began = time.monotonic()
    for result in [tasks.noop.apply_async(queue="rated") for _ in range(6)]:
        ended(result)
    assert time.monotonic() - began > 0.35
    assert say(0) == {"ok": "rate limit disabled successfully"}
    assert say("1/m", "no.such") == {"error": "unknown task"}
    with pytest.raises(ValueError, match="rate_limit"):
        app.control.rate_limit(tasks.noop.name, "10/d")


def test_workers_answer_a_ping(workers: Workers) -> None:
    one, two = workers.start("-c", "1", "-Q", "a"), workers.start("-P", "solo", "-Q", "b")
    answers = app.control.ping(timeout=5)
    assert {f"{one.name}@here": {"ok": "pong"}} in answers
    assert {f"{two.name}@here": {"ok": "pong"}} in answers
