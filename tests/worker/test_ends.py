"""How runs end in real processes: atomic tasks killed at every step, links, dead letters, limits without an ack."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from djtasks import AsyncResult
from tests.worker.running import Gate, RunningWorker, Workers, ended, error, query, row, value, wait_until
from tests.worker_app import ends

IMPORTS = ["tests.worker_app.ends"]


@pytest.fixture(scope="module", autouse=True)
def effects(database: str) -> Iterator[None]:
    """The table that the tasks work in."""
    query("CREATE TABLE effect (task uuid NOT NULL, number integer)")
    yield
    query("DROP TABLE effect")


@pytest.fixture(scope="module")
def worker(shared: Workers, effects: None) -> RunningWorker:
    """A worker with two children."""
    return shared.start("-c", "2", IMPORTS=IMPORTS)


def effects_of(result: AsyncResult[Any]) -> int:
    """How many rows the task has written, and committed."""
    return int(query("SELECT count(*) FROM effect WHERE task = %s", result.id)[0][0])


def followers(shared: Workers, result: AsyncResult[Any]) -> int:
    """How many tasks of those that a task has sent, or that are linked to it, have run."""
    return len([line for line in shared.audit.lines("follows") if line["of"] == result.id])


def nothing_waits() -> bool:
    """Whether no message is left."""
    return query("SELECT count(*) FROM djtasks_message") == [(0,)]


# -- atomic -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [*ends.BEFORE, *ends.AFTER])
def test_the_effect_of_an_atomic_task_happens_once_wherever_its_process_dies(
    step: str, worker: RunningWorker, shared: Workers
) -> None:
    result = ends.effect.apply_async([step], link=ends.follows.si("a link"))
    wait_until(lambda: shared.audit.lines("dies", result), f"it dies: {step}; {worker.log}")
    assert ended(result) == "SUCCESS"
    wait_until(nothing_waits, "everything has run")
    assert effects_of(result) == 1
    assert followers(shared, result) == 1
    assert len(shared.audit.lines("begin", result)) == (1 if step in ends.AFTER else 2)


def test_every_link_of_the_killed_tasks_has_run_once(worker: RunningWorker, shared: Workers) -> None:
    results = [ends.effect.apply_async([step], link=ends.follows.s()) for step in (*ends.BEFORE, *ends.AFTER)]
    for result in results:
        assert ended(result, 60.0) == "SUCCESS"
    wait_until(nothing_waits, "everything has run")
    linked = [line["of"] for line in shared.audit.lines("follows") if line["of"] in (*ends.BEFORE, *ends.AFTER)]
    assert sorted(linked) == sorted((*ends.BEFORE, *ends.AFTER))
    assert [effects_of(result) for result in results] == [1] * len(results)


def test_what_an_atomic_task_did_is_undone_when_its_message_has_become_anothers(
    worker: RunningWorker, shared: Workers, gate: Gate
) -> None:
    result = ends.effect_at.delay(str(gate))
    first = shared.audit.began(result)["pid"]
    query("UPDATE djtasks_message SET owner = NULL, claim = NULL, crashes = 1 WHERE id = %s", result.id)
    second = shared.audit.began(result, runs=2)["pid"]
    assert second != first
    gate.open()
    assert value(result) == second
    worker.says(f"Task tests.worker_app.ends.effect_at[{result.id}] was undone")
    assert effects_of(result) == 1


def test_a_stopped_child_cannot_commit_once_its_task_has_run_elsewhere(
    shared: Workers, worker: RunningWorker, gate: Gate
) -> None:
    result = ends.effect_at.delay(str(gate))
    first = shared.audit.began(result)["pid"]
    os.kill(first, signal.SIGSTOP)
    try:
        query("UPDATE djtasks_message SET owner = NULL, claim = NULL WHERE id = %s", result.id)
        second = shared.audit.began(result, runs=2)["pid"]
        gate.open()
        assert value(result) == second
    finally:
        os.kill(first, signal.SIGCONT)
    worker.says(f"Task tests.worker_app.ends.effect_at[{result.id}] was undone")
    assert effects_of(result) == 1


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_an_atomic_task_commits_its_success_and_undoes_its_failure_in_every_pool(
    pool: str, workers: Workers, effects: None
) -> None:
    workers.start("-c", "1", "-P", pool, "-Q", pool, IMPORTS=IMPORTS)
    good = ends.effect_and.apply_async(["return"], queue=pool)
    bad = ends.effect_and.apply_async(["fail"], queue=pool)
    assert value(good) == "return"
    assert error(bad) == "ValueError: fail"
    assert (effects_of(good), effects_of(bad)) == (1, 0)


def test_a_worker_does_not_start_with_an_atomic_task_that_cannot_be_kept(workers: Workers) -> None:
    worker = workers.launch("-c", "1", IMPORTS=["tests.worker_app.unkept"])
    assert worker.wait() == 1
    assert "atomic in the database 'elsewhere', and tasks are kept in 'default'" in worker.log


# -- links --------------------------------------------------------------------------------------------------------


def test_a_link_runs_once_although_the_process_of_its_task_dies(worker: RunningWorker, shared: Workers) -> None:
    results = [
        ends.linked.apply_async([step], link=[ends.follows.s(), ends.follows.s()])
        for step in ("at the beginning", "on_success", "after_return", "never")
    ]
    for result in results:
        assert ended(result) == "SUCCESS"
    wait_until(nothing_waits, "everything has run")
    assert [followers(shared, result) for result in results] == [2, 2, 2, 2]


def test_every_task_is_followed_once_however_often_children_and_workers_are_killed(
    workers: Workers, effects: None
) -> None:
    query("TRUNCATE effect")
    started = [workers.start("-c", "2", "-Q", "storm", IMPORTS=IMPORTS, TASK_MAX_CRASHES=1000) for _ in range(2)]
    ends.counted.bulk_apply_async(
        (((number,), {}) for number in range(400)), queue="storm", link=ends.count.s().set(queue="storm")
    )
    for turn in range(24):
        victim = started[turn % 2]
        if turn in (7, 16):
            victim.signal(signal.SIGKILL)
            victim.wait()
            started[turn % 2] = workers.start("-c", "2", "-Q", "storm", IMPORTS=IMPORTS, TASK_MAX_CRASHES=1000)
        else:
            for process in victim.server.children()[:1]:
                process.kill()
        before = query("SELECT count(*) FROM effect")[0][0]
        wait_until(
            lambda before=before: query("SELECT count(*) FROM effect")[0][0] > before or nothing_waits(),  # type: ignore[misc]
            "something has been done",
        )
    wait_until(nothing_waits, "everything has run", 60.0)
    assert [number for (number,) in query("SELECT number FROM effect ORDER BY number")] == list(range(400))


def test_errbacks_of_a_task_whose_process_was_lost_are_called(
    worker: RunningWorker, shared: Workers, gate: Gate
) -> None:
    result = ends.hold_with_errback.apply_async(
        [str(gate)], link_error=[ends.errback.s(), ends.old_errback.s()], queue="celery"
    )
    os.kill(shared.audit.began(result)["pid"], signal.SIGKILL)
    assert error(result).startswith("WorkerLostError")
    wait_until(nothing_waits, "everything has run")
    (line,) = [line for line in shared.audit.lines("errback") if line["of"] == result.id]
    assert line["error"] == "WorkerLostError"
    assert [line["of"] for line in shared.audit.lines("old errback")] == [result.id]


# -- acks ---------------------------------------------------------------------------------------------------------


def test_without_an_ack_a_task_over_its_hard_limit_runs_again(
    worker: RunningWorker, shared: Workers, gate: Gate
) -> None:
    result = ends.endless.delay(str(gate))
    shared.audit.began(result, runs=2)
    gate.open()
    assert value(result) is True


def test_a_task_that_is_always_over_its_hard_limit_ends_as_a_dead_letter(workers: Workers, gate: Gate) -> None:
    workers.start("-c", "1", "-Q", "slow", IMPORTS=IMPORTS, TASK_MAX_CRASHES=1)
    result = ends.endless.apply_async([str(gate)], queue="slow")
    assert error(result).startswith("TimeLimitExceeded")
    assert result.dead == "crashed"
    assert len(workers.audit.lines("begin", result)) == 2


def test_a_rejected_task_that_ignores_its_result_is_a_dead_letter_and_can_be_put_back(
    worker: RunningWorker, shared: Workers
) -> None:
    result = ends.refused.delay("broken")
    result.ignored = False
    assert ended(result) == "FAILURE"
    assert result.dead == "rejected"
    assert result.requeue() == "requeued"
    wait_until(lambda: len(shared.audit.lines("begin", result)) == 2, "it has run again")
    wait_until(lambda: row(result) is None, "it has ended")
    assert not result.exists()


def test_a_task_that_was_put_back_by_a_rejection_knows_it(worker: RunningWorker, shared: Workers) -> None:
    result = ends.refused.delay("later")
    wait_until(lambda: len(shared.audit.lines("begin", result)) == 2, "it has run again")
    wait_until(lambda: row(result) is None, "it has ended")
