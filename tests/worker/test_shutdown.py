"""How a worker ends: warm, cold, softly, by a signal to it or to its whole terminal."""

import os
import signal

import pytest

from tests.worker.running import Gate, Workers, ended, error, hand_over, living, took, value, wait_until, waits
from tests.worker_app import tasks

COLD = {"INT twice": (signal.SIGINT, signal.SIGINT), "QUIT": (signal.SIGQUIT,)}


def test_term_ends_what_runs_gives_back_the_rest_at_once_and_exits_with_0(workers: Workers, gate: Gate) -> None:
    worker = workers.start("-c", "1")
    running, others = hand_over("celery", tasks.hold, gate, [tasks.noted] * 10)
    worker.signal(signal.SIGTERM)
    # Less than the second after which they would have been taken back anyway.
    wait_until(lambda: all(waits(each) for each in others), "the others are released", 0.8)
    late = tasks.noted.delay()
    assert "worker: Warm shutdown (MainProcess)" in worker.log
    gate.open()
    assert worker.wait() == 0
    assert running.state == "SUCCESS"
    assert workers.audit.lines("ran") == []
    assert all(waits(each) for each in (*others, late))
    assert worker.rows() == []
    assert worker.left() == []


def test_ctrl_c_in_its_terminal_ends_it_warm_with_exit_code_1_and_leaves_its_children_alone(
    workers: Workers, gate: Gate
) -> None:
    worker = workers.start("-c", "2")
    results = [tasks.hold.delay(str(gate)) for _ in range(2)]
    pids = {workers.audit.began(result)["pid"] for result in results}
    os.killpg(worker.pid, signal.SIGINT)
    worker.says("Warm shutdown")
    gate.open()
    assert worker.wait() == 1
    assert {value(result) for result in results} == pids
    assert worker.rows() == []


@pytest.mark.parametrize("how", list(COLD))
def test_a_cold_shutdown_kills_what_runs_late_ones_wait_again_early_ones_are_lost(
    workers: Workers, gate: Gate, how: str
) -> None:
    worker = workers.start("-c", "2")
    early, late = (task.delay(str(gate)) for task in (tasks.hold, tasks.hold_late))
    for result in (early, late):
        workers.audit.began(result)
    tree = worker.tree()
    for number in COLD[how]:
        worker.signal(number)
        worker.says("shutdown (MainProcess)")
    assert took(worker.wait) < 3.0
    assert worker.process.returncode == 1
    assert "worker: Cold shutdown (MainProcess)" in worker.log
    assert error(early).startswith("WorkerLostError:")
    assert waits(late)
    assert living(tree) == []
    assert worker.rows() == []


def test_a_soft_shutdown_gives_what_runs_its_time_and_no_more(workers: Workers, gate: Gate) -> None:
    worker = workers.start("-c", "2", WORKER_SOFT_SHUTDOWN_TIMEOUT=2.0)
    short, endless = workers.gate(), gate
    first, second = tasks.hold.delay(str(short)), tasks.hold_late.delay(str(endless))
    for result in (first, second):
        workers.audit.began(result)
    worker.signal(signal.SIGQUIT)
    worker.says("Soft, terminating in 2 seconds")
    short.open()
    assert ended(first) == "SUCCESS"
    assert worker.process.poll() is None
    assert took(worker.wait) < 4.0
    assert worker.process.returncode == 1
    assert waits(second)


def test_a_soft_shutdown_of_an_idle_worker_waits_too_where_the_settings_say_so(workers: Workers) -> None:
    soft = {"WORKER_SOFT_SHUTDOWN_TIMEOUT": 1.0}
    told = [workers.launch("-l", "INFO", **soft, WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE=idle) for idle in (False, True)]
    took_each = []
    for worker in [worker.ready() for worker in told]:
        worker.signal(signal.SIGQUIT)
        took_each.append(took(worker.wait))
        assert worker.process.returncode == 1
        assert worker.rows() == []
    assert took_each[0] < 0.9
    assert 0.9 < took_each[1] < 3.0


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_an_idle_worker_ends_at_once(workers: Workers, pool: str) -> None:
    worker = workers.start("-P", pool, "-q")
    worker.signal(signal.SIGTERM)
    assert took(worker.wait) < 1.5
    assert worker.process.returncode == 0
    assert worker.rows() == []
    assert worker.left() == []


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_cold_shutdown_breaks_off_what_runs_in_the_worker_itself(workers: Workers, gate: Gate, pool: str) -> None:
    worker = workers.start("-P", pool, "-c", "1")
    result = tasks.hold_late.delay(str(gate))
    workers.audit.began(result)
    behind = tasks.noted.delay()
    worker.signal(signal.SIGQUIT)
    assert took(worker.wait) < 3.0
    assert worker.process.returncode == 1
    assert waits(result)
    assert waits(behind)
    assert workers.audit.lines("ran") == []
    assert worker.rows() == []


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_term_lets_the_running_task_end_and_takes_no_other(workers: Workers, gate: Gate, pool: str) -> None:
    worker = workers.start("-P", pool, "-c", "1")
    running, others = hand_over("celery", tasks.hold, gate, [tasks.noted] * 10)
    worker.signal(signal.SIGTERM)
    if pool == "threads":
        # In the other one the signal interrupts the task itself.
        worker.says("Warm shutdown")
    gate.open()
    assert worker.wait() == 0
    assert value(running) == worker.pid
    assert workers.audit.lines("ran") == []
    assert all(waits(each) for each in others)


def test_a_soft_shutdown_of_the_solo_pool_gives_its_task_its_time_and_no_more(workers: Workers, gate: Gate) -> None:
    worker = workers.start("-P", "solo", WORKER_SOFT_SHUTDOWN_TIMEOUT=0.5)
    result = tasks.hold_late.delay(str(gate))
    workers.audit.began(result)
    worker.signal(signal.SIGQUIT)
    assert 0.4 < took(worker.wait) < 3.0
    assert worker.process.returncode == 1
    assert waits(result)
