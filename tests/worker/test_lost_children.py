"""When a child dies: what it ran ends or runs again, what it had not read goes on, and another takes its place."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.worker.running import (
    Gate,
    RunningWorker,
    Workers,
    ended,
    error,
    hand_over,
    living,
    row,
    value,
    wait_until,
)
from tests.worker_app import tasks


@pytest.fixture(scope="module")
def worker(shared: Workers) -> RunningWorker:
    """One worker with two children for the tests that do not care which child it is."""
    return shared.start("-c", "2", "-Q", "celery", TASK_MAX_CRASHES=1)


@pytest.fixture(scope="module")
def single(shared: Workers) -> RunningWorker:
    """A worker with one child, to which everything is handed."""
    return shared.start("-c", "1", "-Q", "single")


def test_a_late_task_runs_again_in_another_child_when_its_child_is_killed(
    worker: RunningWorker, shared: Workers, gate: Gate
) -> None:
    result = tasks.hold_late.delay(str(gate))
    first = shared.audit.began(result)["pid"]
    os.kill(first, signal.SIGKILL)
    second = shared.audit.began(result, runs=2)["pid"]
    assert second != first
    found = row(result)
    assert found is not None
    assert found["crashes"] == 1
    gate.open()
    assert value(result) == second


def test_an_early_task_ends_as_worker_lost_when_its_child_is_killed(
    worker: RunningWorker, shared: Workers, gate: Gate
) -> None:
    result = tasks.hold.delay(str(gate))
    os.kill(shared.audit.began(result)["pid"], signal.SIGKILL)
    assert error(result).startswith("WorkerLostError: The worker process was lost (signal 9 (SIGKILL))")
    assert len(shared.audit.lines("begin", result)) == 1
    worker.says("exited with signal 9 (SIGKILL)")
    worker.says(f"Task tests.worker_app.tasks.hold[{result.id}] was lost with its process: signal 9 (SIGKILL)")


def test_a_late_task_that_does_not_want_a_second_run_ends_as_worker_lost(
    worker: RunningWorker, shared: Workers, gate: Gate
) -> None:
    result = tasks.hold_late_once.delay(str(gate))
    os.kill(shared.audit.began(result)["pid"], signal.SIGKILL)
    assert error(result).startswith("WorkerLostError:")


def test_a_killed_child_is_replaced(worker: RunningWorker) -> None:
    before = worker.children(2)
    before[0].kill()
    wait_until(lambda: not living(before[:1]), "the child is dead")
    after = worker.children(2)
    assert len({each.pid for each in (*before, *after)}) == 3


def test_a_task_that_leaves_its_process_ends_as_worker_lost_with_the_exit_code(worker: RunningWorker) -> None:
    assert "exit code 3" in error(tasks.leave.delay(3))


def test_a_task_that_kills_its_process_once_succeeds_in_another_one(
    worker: RunningWorker, shared: Workers, tmp_path: Path
) -> None:
    result = tasks.die_once.delay(str(tmp_path / "mark"))
    survivor = value(result)
    runs = shared.audit.lines("begin", result)
    assert len(runs) == 2
    assert runs[1]["pid"] == survivor != runs[0]["pid"]


def test_a_task_that_kills_every_process_is_given_up_after_so_many(worker: RunningWorker, shared: Workers) -> None:
    result = tasks.poison.delay()
    assert "for the 2. time" in error(result)
    assert len(shared.audit.lines("begin", result)) == 2
    assert value(tasks.echo.delay("still here")) == "still here"


def test_messages_that_a_killed_child_had_not_read_go_on_without_a_crash_counted(
    single: RunningWorker, shared: Workers, gate: Gate
) -> None:
    first, others = hand_over("single", tasks.hold, gate, [tasks.redelivered] * 20)
    os.kill(shared.audit.began(first)["pid"], signal.SIGKILL)
    assert error(first).startswith("WorkerLostError:")
    assert {value(result) for result in others} == {False}
    assert all(len(shared.audit.lines("ran", result)) == 1 for result in others)


def test_what_a_child_had_ended_before_it_died_counts(single: RunningWorker, shared: Workers, gate: Gate) -> None:
    # At once into one socket: the last one ends the process before the others' outcomes can have been stored.
    first, others = hand_over("single", tasks.hold, gate, [*[tasks.noted] * 5, tasks.leave_at_once])
    gate.open()
    assert ended(first) == "SUCCESS"
    assert [ended(result) for result in others[:5]] == ["SUCCESS"] * len(others[:5])
    assert {len(shared.audit.lines("ran", result)) for result in others[:5]} == {1}
    for result in others[5:]:
        assert error(result).startswith("WorkerLostError:")


# -- the fork server ----------------------------------------------------------------------------------------------


def test_a_killed_fork_server_takes_its_processes_with_it_and_a_fresh_one_goes_on(workers: Workers, gate: Gate) -> None:
    # From another folder: the fresh interpreter must find the project without its help.
    worker = workers.launch(
        "-c", "2", "-l", "INFO", "-Q", "fresh", program=(os.path.abspath("manage.py"),), cwd=workers.folder
    ).ready()
    early, late = (task.apply_async([str(gate)], queue="fresh") for task in (tasks.hold, tasks.hold_late))
    for result in (early, late):
        workers.audit.began(result)
    server = worker.server
    children = worker.children(2)
    server.kill()
    wait_until(lambda: not living(children), "the children are dead", 1.0)
    assert error(early).startswith("WorkerLostError:")
    gate.open()
    assert value(late) in {each.pid for each in worker.children(2)}
    assert worker.server.pid != server.pid
    assert [value(tasks.echo.apply_async([n], queue="fresh")) for n in range(5)] == [0, 1, 2, 3, 4]
    assert worker.stop() == 0
    assert worker.left() == []


def test_a_fresh_fork_server_that_cannot_start_is_tried_again_at_leisure(workers: Workers, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    worker = workers.start(
        "-c", "1", "-Q", "fresh", apps="tests.worker_app,tests.fragile_app", environment={"FRAGILE": str(broken)}
    )
    broken.touch()
    worker.server.kill()
    worker.says("the new code is broken")
    result = tasks.echo.apply_async(["repaired"], queue="fresh")
    wait_until(lambda: worker.log.count("is gone, and its children with it") == 2, "its end is noticed")
    broken.unlink()
    assert value(result) == "repaired"
    assert worker.log.count("RuntimeError: the new code is broken") == 1


def test_what_a_task_has_started_dies_with_the_fork_server(workers: Workers) -> None:
    worker = workers.start("-c", "1", "-Q", "fresh")
    result = tasks.hold_grandchild.apply_async(queue="fresh")
    grandchild = psutil.Process(workers.audit.began(result)["grandchild"])
    worker.server.kill()
    wait_until(lambda: not living([grandchild]), "the grandchild is dead", 1.0)
    assert error(result).startswith("WorkerLostError:")
