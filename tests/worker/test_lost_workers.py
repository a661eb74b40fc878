"""When a worker dies: nothing of it runs on, and another one sees to what it held."""

import signal
import time
from typing import NamedTuple

import psutil
import pytest

from djtasks import AsyncResult
from tests.worker.running import (
    Gate,
    RunningWorker,
    Workers,
    ended,
    error,
    living,
    query,
    row,
    value,
    wait_until,
    waits,
)
from tests.worker_app import tasks

HOLDING = ("sleep", "sum", "re")


class Killed(NamedTuple):
    """A worker that was killed with every child at work, and what there was."""

    worker: RunningWorker
    #: How long the last of its processes outlived it, and how long the rescue took (seconds).
    outlived: float
    rescued: float
    early: dict[str, AsyncResult[object]]
    #: The crashes that its message had, the process of its second run, and what it returned.
    late: tuple[int, int, object]


@pytest.fixture(scope="module")
def killed(shared: Workers) -> Killed:
    """Two workers on one host. The one whose children are all at work is killed; the other one lives."""
    doomed = shared.launch("-c", "5", "-l", "INFO", "-Q", "doomed")
    shared.start("-c", "1", "-Q", "celery")
    doomed.ready()
    gate = shared.gate()
    early = {how: tasks.hold_in_c.apply_async([how], queue="doomed") for how in HOLDING}
    early["grandchild"] = tasks.hold_grandchild.apply_async(queue="doomed")
    late = tasks.hold_late.apply_async([str(gate)], queue="doomed")
    for result in (*early.values(), late):
        shared.audit.began(result)
    doomed.registered()
    everything = [*doomed.tree(), psutil.Process(shared.audit.began(early["grandchild"])["grandchild"])]
    assert len(set(everything)) == 8
    doomed.signal(signal.SIGKILL)
    began = time.monotonic()
    wait_until(lambda: not living(everything), "all its processes are dead", 5.0)
    outlived = time.monotonic() - began
    doomed.process.wait()
    wait_until(lambda: waits(late) and all(result.ready() for result in early.values()), "it is rescued")
    rescued = time.monotonic() - began
    found = row(late)
    assert found is not None
    shared.start("-c", "1", "-Q", "doomed")
    second = shared.audit.began(late, runs=2)["pid"]
    gate.open()
    return Killed(doomed, outlived, rescued, early, (found["crashes"], second, value(late)))


def test_no_child_runs_on_for_more_than_a_second_whatever_c_code_it_is_in(killed: Killed) -> None:
    assert killed.outlived < 1.0
    assert killed.worker.left() == []


def test_another_worker_of_the_host_rescues_within_five_seconds(killed: Killed) -> None:
    assert killed.rescued < 5.0
    assert killed.worker.rows() == []


@pytest.mark.parametrize("how", [*HOLDING, "grandchild"])
def test_an_early_task_of_a_killed_worker_ends_as_worker_lost(killed: Killed, how: str) -> None:
    assert error(killed.early[how]).startswith("WorkerLostError: The worker process was lost (worker worker")


def test_a_late_task_of_a_killed_worker_runs_again_and_its_crash_is_counted(killed: Killed) -> None:
    crashes, second, returned = killed.late
    assert crashes == 1
    assert returned == second


def test_when_everything_is_killed_the_next_start_sees_to_what_was_held(workers: Workers, gate: Gate) -> None:
    first = workers.start("-c", "2", "-Q", "again", "-n", "one@here")
    early, late = (task.apply_async([str(gate)], queue="again") for task in (tasks.hold, tasks.hold_late))
    for result in (early, late):
        workers.audit.began(result)
    for process in reversed(first.tree()):
        process.kill()
    first.wait()
    workers.start("-c", "2", "-Q", "again", "-n", "one@here")
    assert error(early, 5.0).startswith("WorkerLostError:")
    gate.open()
    assert ended(late, 5.0) == "SUCCESS"
    assert len(workers.audit.lines("begin", late)) == 2
    assert len(workers.audit.lines("begin", early)) == 1
    assert query("SELECT count(*) FROM djtasks_worker WHERE name = 'one@here'") == [(1,)]
