"""Time limits: of the worker, of the task, of the call; soft ones that can be caught, hard ones that cannot."""

import time

import pytest

from tests.worker.running import Gate, RunningWorker, Workers, ended, error, hand_over, living, query, value
from tests.worker_app import tasks

#: The worker's own limits, in seconds.
SOFT, HARD = 0.8, 2.0
SLOW_COMMIT = """
    CREATE TABLE slow_commit (number integer);
    CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON slow_commit DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION take_time();
"""


@pytest.fixture(scope="module", autouse=True)
def worker(shared: Workers) -> RunningWorker:
    return shared.start("-c", "2", "--soft-time-limit", str(SOFT), "--time-limit", str(HARD), "-Q", "celery")


def test_a_task_can_tidy_up_when_its_soft_limit_comes(worker: RunningWorker, shared: Workers) -> None:
    result = tasks.linger.delay()
    assert value(result) == "tidied up"
    (begin,), (soft,) = shared.audit.lines("begin", result), shared.audit.lines("soft", result)
    assert soft["limit"] == SOFT
    assert SOFT - 0.05 < soft["time"] - begin["time"] < SOFT + 0.5
    assert worker.log.count(f"Soft time limit ({SOFT}s) exceeded for tests.worker_app.tasks.linger[{result.id}]") == 1


def test_a_task_that_does_not_catch_its_soft_limit_fails_with_it() -> None:
    assert error(tasks.sleepy.delay()) == f"SoftTimeLimitExceeded: SoftTimeLimitExceeded({SOFT},)"


def test_a_tasks_own_limits_beat_the_workers(shared: Workers) -> None:
    soft, hard = tasks.linger_briefly.delay(), tasks.linger_half_a_second.delay()
    assert value(soft) == "tidied up"
    assert shared.audit.lines("soft", soft)[0]["limit"] == 0.25
    assert error(hard).startswith("TimeLimitExceeded:")


def test_the_limits_of_a_call_beat_the_tasks(shared: Workers) -> None:
    soft = tasks.linger_briefly.apply_async(soft_time_limit=0.1)
    hard = tasks.linger_half_a_second.apply_async(time_limit=0.2, soft_time_limit=0.1)
    assert value(soft) == "tidied up"
    assert shared.audit.lines("soft", soft)[0]["limit"] == 0.1
    assert value(hard) == "tidied up"


def test_a_hard_limit_kills_only_the_child_that_is_over_it(worker: RunningWorker, shared: Workers, gate: Gate) -> None:
    guilty = tasks.stubborn.delay()
    pid = shared.audit.began(guilty)["pid"]
    (innocent,) = [child for child in worker.children(2) if child.pid != pid]
    pids = []
    while not guilty.ready():
        pids.append(value(tasks.pid.delay()))
    assert error(guilty) == f"TimeLimitExceeded: {HARD}"
    worker.says(f"Hard time limit ({HARD}s) exceeded for tests.worker_app.tasks.stubborn[{guilty.id}]")
    assert shared.audit.lines("soft", guilty)
    assert set(pids) == {innocent.pid}
    assert living([innocent])
    assert len(worker.children(2)) == 2


def test_what_lies_behind_a_task_that_is_killed_goes_on(shared: Workers, gate: Gate) -> None:
    shared.start("-c", "1", "-Q", "one", "--time-limit", "0.6")
    guilty, others = hand_over("one", tasks.hold, gate, [tasks.redelivered] * 10)
    assert error(guilty).startswith("TimeLimitExceeded:")
    assert {value(result) for result in others} == {False}


@pytest.mark.parametrize("how", ["sum", "re"])
def test_a_hard_limit_ends_what_is_in_c_code(how: str) -> None:
    assert error(tasks.hold_in_c.apply_async([how], time_limit=0.3)).startswith("TimeLimitExceeded:")


def test_a_soft_limit_never_hits_the_next_task() -> None:
    # Tasks that end when their limit comes, between tasks that have none of their own to fear.
    calls = [(tasks.spin.apply_async([0.03], soft_time_limit=0.03), tasks.spin.apply_async([0.01])) for _ in range(40)]
    for close, safe in calls:
        assert value(safe) == "done"
        assert ended(close) == "SUCCESS" or error(close).startswith("SoftTimeLimitExceeded")


def test_a_soft_limit_waits_until_the_transaction_is_committed() -> None:
    query("DROP TABLE IF EXISTS slow_commit; DROP FUNCTION IF EXISTS take_time")
    query(SLOW_COMMIT)
    began = time.monotonic()
    result = tasks.commit_slowly.apply_async([7], soft_time_limit=0.3, time_limit=10)
    assert value(result) == [True, 1]
    assert 0.9 < time.monotonic() - began < 3.0


def test_the_solo_pool_keeps_soft_limits_too(shared: Workers) -> None:
    solo = shared.start("-P", "solo", "-Q", "solo", "--soft-time-limit", "0.3")
    result = tasks.linger.apply_async(queue="solo")
    assert value(result) == "tidied up"
    assert shared.audit.lines("soft", result)[0]["limit"] == 0.3
    solo.says(f"Soft time limit (0.3s) exceeded for tests.worker_app.tasks.linger[{result.id}]")
    assert value(tasks.commit_slowly.apply_async([8], queue="solo")) == [True, 1]
    assert value(tasks.nap.apply_async([0.1], queue="solo")) == "slept"
