"""The signals of workers that are alone on their database: of their lives, of receivers that break, and of none."""

import signal

from tests.signals_app import tasks
from tests.worker.running import Audit, Gate, Workers, ended, error, value, wait_until
from tests.worker.test_signals import launch, line
from tests.worker_app import tasks as plain


def test_a_worker_tells_of_its_own_life(workers: Workers, audit: Audit) -> None:
    worker = launch(workers, "-c", "2", "-n", "w1@here", WORKER_HEARTBEAT_INTERVAL=0.2)
    ended(plain.noop.apply_async(queue="more"))
    wait_until(lambda: audit.lines("heartbeat_sent"), "a heartbeat was heard")
    assert worker.stop() == 0
    first = {}
    for each in audit.lines():
        first.setdefault(each["event"], each)
    order = [
        "celeryd_init",
        "celeryd_after_setup",
        "worker_init",
        "worker_before_create_process",
        "worker_ready",
        "worker_shutting_down",
        "worker_shutdown",
    ]
    assert [name for name in first if name in order] == order
    assert {first[name]["pid"] for name in order} == {worker.pid}
    assert [first[name]["sender"] for name in order] == [
        "w1@here",
        "w1@here",
        "Worker",
        "prefork",
        "w1@here",
        "w1@here",
        "Worker",
    ]
    assert first["celeryd_init"]["keys"] == ["conf", "instance", "options"]
    assert first["celeryd_init"]["values"]["options"]["hostname"] == "w1@here"
    assert first["celeryd_after_setup"]["keys"] == ["conf", "instance"]
    assert first["worker_shutting_down"]["values"] == {"sig": "SIGTERM", "how": "Warm", "exitcode": 0}
    assert first["heartbeat_sent"]["pid"] == worker.pid
    # One child, because a receiver of celeryd_init has said so.
    assert len(audit.lines("worker_process_init")) == len(audit.lines("worker_before_create_process")) == 1
    started, stopped = first["worker_process_init"], first["worker_process_shutdown"]
    assert started["pid"] == stopped["pid"] == stopped["values"]["pid"] != worker.pid
    assert stopped["values"]["exitcode"] == 0


def test_the_solo_pool_tells_of_the_start_of_its_process(workers: Workers, audit: Audit) -> None:
    worker = launch(workers, "-P", "solo", "-c", "1")
    assert [each["pid"] for each in audit.lines("worker_process_init")] == [worker.pid]


def test_receivers_that_raise_change_no_state(workers: Workers, audit: Audit) -> None:
    worker = launch(workers, "-c", "1", signals="raise", WORKER_HEARTBEAT_INTERVAL=0.2)
    assert value(tasks.add.delay(1, 2)) == 3
    assert error(tasks.break_down.delay(3)) == "ValueError: 3"
    assert error(tasks.overrun.delay(3)).startswith("TimeLimitExceeded")
    assert value(tasks.retried.delay()) == "None"
    expired = tasks.add.apply_async((1,), countdown=100, expires=0.1)
    assert ended(expired) == "REVOKED"
    line(audit, "task_revoked", expired)
    assert worker.stop() == 0
    assert audit.lines("worker_shutdown")


def test_with_no_receiver_a_worker_and_its_children_send_no_signal(workers: Workers, audit: Audit) -> None:
    worker = launch(workers, "-c", "2", signals="count", WORKER_HEARTBEAT_INTERVAL=0.2)
    results = [plain.noop.delay() for _ in range(100)]
    results += [tasks.overrun.delay(1), tasks.die.delay(1), tasks.break_down.delay(1), tasks.retried.delay()]
    results.append(tasks.add.apply_async((1,), countdown=100, expires=0.1))
    for result in results:
        ended(result)
    assert worker.stop() == 0
    # The log is set up with signals, whoever listens: two of them, once a process.
    assert {each["signal"] for each in audit.lines("sent")} <= {"import_modules"}


def test_what_a_dead_worker_held_is_told_by_the_one_that_finds_it(workers: Workers, audit: Audit, gate: Gate) -> None:
    first = launch(workers, "-c", "1", "-Q", "first", WORKER_HEARTBEAT_INTERVAL=0.5)
    result = plain.hold.apply_async((str(gate),), queue="first")
    audit.began(result)
    second = launch(workers, "-c", "1", "-Q", "second", WORKER_HEARTBEAT_INTERVAL=0.5)
    first.signal(signal.SIGKILL)
    assert error(result).startswith("WorkerLostError")
    failure = line(audit, "task_failure", result)
    assert (failure["sender"], failure["pid"]) == (plain.hold.name, second.pid)
