"""More or fewer at a time while tasks run: grow, shrink, restart, and the autoscaler."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.test import override_settings

from djtasks import app
from djtasks.exceptions import ImproperlyConfigured
from djtasks.worker.autoscaler import autoscaler_class, keepalive_seconds
from djtasks.worker.options import autoscale_bounds
from testproject.postgres.shared import CHECKOUT
from tests.worker.running import Gate, RunningWorker, Workers, ended, living, query, value, wait_until
from tests.worker_app import tasks


def said(worker: RunningWorker, command: str, *args: Any, **options: Any) -> Any:
    """What this worker answers."""
    node = f"{worker.name}@here"
    (reply,) = getattr(app.control, command)(*args, destination=[node], reply=True, timeout=10, **options)
    return reply[node]


def told(worker: RunningWorker, command: str, **arguments: Any) -> Any:
    """What this worker answers to what the caller would not even send."""
    return said(worker, "broadcast", command, arguments)


def stats(worker: RunningWorker) -> dict[str, Any]:
    """What this worker says of itself."""
    found: dict[str, Any] = app.control.inspect([f"{worker.name}@here"], timeout=10).stats()[f"{worker.name}@here"]
    return found


def slots_of(worker: RunningWorker) -> int:
    """How many at a time, by its row."""
    found: int = query("SELECT concurrency FROM djtasks_worker WHERE pid = %s", worker.pid)[0][0]
    return found


def group_of(worker: RunningWorker) -> int:
    """The process group in its row."""
    found: int = query("SELECT process_group FROM djtasks_worker WHERE pid = %s", worker.pid)[0][0]
    return found


def servers(worker: RunningWorker) -> list[psutil.Process]:
    """Its fork servers, the oldest first."""
    own = os.getpgid(worker.pid)
    found = [each for each in living(psutil.Process(worker.pid).children()) if os.getpgid(each.pid) != own]
    return sorted(found, key=lambda each: each.create_time())


@pytest.fixture(scope="module")
def worker(shared: Workers) -> RunningWorker:
    """A worker of one child that may be restarted."""
    return shared.start("-c", "1", "-Q", "shared", WORKER_POOL_RESTARTS=True)


def test_a_pool_grows_and_shrinks_while_tasks_run_and_ends_none(
    worker: RunningWorker, shared: Workers, gate: Gate
) -> None:
    first = tasks.hold.apply_async([str(gate)], queue="shared")
    shared.audit.began(first)
    assert said(worker, "pool_grow", 2) == {"ok": "pool will grow"}
    assert slots_of(worker) == 3
    second = tasks.hold.apply_async([str(gate)], queue="shared")
    shared.audit.began(second)
    found = stats(worker)["pool"]
    assert (found["max-concurrency"], len(found["processes"])) == (3, 3)
    # One is idle, and two are to go: two are busy.
    assert said(worker, "pool_shrink", 2) == {"ok": "pool will shrink by 1: the others are busy"}
    assert said(worker, "pool_shrink", 1) == {"error": 'ValueError("Can\'t shrink pool. All processes busy!")'}
    worker.children(2)
    assert slots_of(worker) == 2
    gate.open()
    assert ended(first) == ended(second) == "SUCCESS"
    assert said(worker, "pool_shrink") == {"ok": "pool will shrink"}
    worker.children(1)
    assert "exited with" not in worker.log
    assert value(tasks.echo.apply_async(["after"], queue="shared")) == "after"


def test_sizes_that_make_no_sense_are_refused_by_the_worker_too(worker: RunningWorker) -> None:
    assert "one is to be left" in said(worker, "pool_shrink", 1)["error"]
    assert "can run 1024 at most" in told(worker, "pool_grow", n=1024)["error"]
    for bad in (0, -1, 1_000_000, "2", 1.5, None, True):
        assert "n must be a whole number from 1 to 1024" in told(worker, "pool_grow", n=bad)["error"]
        assert "n must be a whole number from 1 to 1024" in told(worker, "pool_shrink", n=bad)["error"]
    assert said(worker, "autoscale", 4, 1) == {"error": "ValueError('Autoscale not enabled')"}
    assert slots_of(worker) == 1
    assert "autoscaler" not in stats(worker)


def test_a_restarted_pool_runs_fresh_code_and_the_old_one_ends_what_it_runs(
    worker: RunningWorker, shared: Workers, gate: Gate
) -> None:
    held = tasks.hold.apply_async([str(gate)], queue="shared")
    old = shared.audit.began(held)["pid"]
    (before,) = servers(worker)
    group = group_of(worker)
    assert said(worker, "pool_restart", ["tests.worker_app.tasks"], reload=True) == {"ok": "reload started"}
    assert "already" in said(worker, "pool_restart")["error"]
    worker.says("The pool begins anew")
    assert value(tasks.pid.apply_async([], queue="shared")) != old
    # Both are in the group that the worker's row names, so that a rescue sees both.
    assert [os.getpgid(each.pid) for each in servers(worker)] == [group, group]
    assert group_of(worker) == group
    # It is not the child that ends, when it is revoked from now on, but its run: limits are kept for it, too.
    assert len(stats(worker)["pool"]["processes"]) == 2
    gate.open()
    assert value(held) == old
    wait_until(lambda: not living([before]), "the old server has ended")
    assert len(servers(worker)) == 1
    assert "exited with" not in worker.log


def test_modules_that_cannot_be_imported_stop_no_pool(worker: RunningWorker) -> None:
    (before,) = servers(worker)
    assert "ModuleNotFoundError" in said(worker, "pool_restart", ["no_such_module"])["error"]
    assert "names of modules" in told(worker, "pool_restart", modules=[1])["error"]
    assert servers(worker) == [before]
    assert value(tasks.echo.apply_async([1], queue="shared")) == 1


FRESH = """
from djtasks import shared_task

@shared_task(name="fresh.version")
def version():
    return {}
"""


def test_a_restart_takes_changed_code_and_broken_code_changes_nothing(workers: Workers, tmp_path: Path) -> None:
    module, broken = tmp_path / "fresh_code.py", tmp_path / "broken"
    module.write_text(FRESH.format(1))
    worker = workers.start(
        *("-c", "1", "-I", "fresh_code"),
        apps="tests.worker_app,tests.fragile_app",
        environment={"PYTHONPATH": f"{tmp_path}:{CHECKOUT}", "FRAGILE": str(broken), "PYTHONDONTWRITEBYTECODE": "1"},
        WORKER_POOL_RESTARTS=True,
        WORKER_PROC_ALIVE_TIMEOUT=1,
    )
    assert value(app.send_task("fresh.version")) == 1
    module.write_text(FRESH.format(2))
    broken.touch()
    assert said(worker, "pool_restart") == {"ok": "reload started"}
    worker.says("The pool does not begin anew: its new fork server ended before it was ready")
    assert "the new code is broken" in worker.log
    assert value(app.send_task("fresh.version")) == 1
    assert len(servers(worker)) == 1
    broken.unlink()
    assert said(worker, "pool_restart") == {"ok": "reload started"}
    worker.says("The pool begins anew")
    assert value(app.send_task("fresh.version")) == 2
    # A system without a process to spare ends no child that is there.
    full = Path(f"{broken}.full")
    full.touch()
    assert said(worker, "pool_grow") == {"ok": "pool will grow"}
    worker.says("A child process could not be forked: [Errno 11] no process is left")
    assert value(app.send_task("fresh.version")) == 2
    full.unlink()
    wait_until(lambda: len(stats(worker)["pool"]["processes"]) == 2, "the second child is there")
    assert said(worker, "pool_shrink") == {"ok": "pool will shrink"}
    wait_until(lambda: len(stats(worker)["pool"]["processes"]) == 1, "it has gone")
    # A child that never comes to take tasks is replaced, and what it was given goes on.
    hangs = Path(f"{broken}.hangs")
    hangs.touch()
    (child,) = [psutil.Process(pid) for pid in stats(worker)["pool"]["processes"]]
    child.kill()
    given = app.send_task("fresh.version")
    worker.says("was not ready within 1 seconds (WORKER_PROC_ALIVE_TIMEOUT): it is replaced")
    hangs.unlink()
    assert value(given) == 2


def test_a_restart_outlives_the_kill_of_either_server(worker: RunningWorker, shared: Workers, gate: Gate) -> None:
    held = tasks.hold_late.apply_async([str(gate)], queue="shared")
    first = shared.audit.began(held)["pid"]
    said(worker, "pool_restart")
    old, new = servers(worker)
    new.kill()
    worker.says("The pool does not begin anew")
    assert servers(worker) == [old]
    assert psutil.pid_exists(first)
    # And now the old one, with its child, while the new one boots.
    said(worker, "pool_restart")
    new = servers(worker)[-1]
    os.kill(new.pid, signal.SIGSTOP)
    old.kill()
    worker.says("is gone, and its children with it")
    assert psutil.pid_exists(new.pid)
    os.kill(new.pid, signal.SIGCONT)
    assert shared.audit.began(held, runs=2)["pid"] != first
    assert servers(worker) == [new]
    gate.open()
    assert ended(held) == "SUCCESS"


def test_a_worker_killed_in_the_middle_of_a_restart_leaves_nothing_and_is_rescued(workers: Workers) -> None:
    gate = workers.gate()
    victim = workers.start("-c", "2", WORKER_POOL_RESTARTS=True, WORKER_DEAD_AFTER=600)
    held = tasks.hold_late.delay(str(gate))
    first = workers.audit.began(held)["pid"]
    said(victim, "pool_restart")
    wait_until(lambda: len(servers(victim)) == 2, "the new server boots")
    workers.start("-c", "1", WORKER_DEAD_AFTER=600)
    wait_until(lambda: "The pool begins anew" in victim.log or len(servers(victim)) == 2, "both servers are there")
    victim.signal(signal.SIGKILL)
    # By whichever worker looks first; before its heartbeat is late, and so by the proof that nothing of it lives.
    wait_until(lambda: not victim.rows(), "it is rescued")
    assert not victim.left()
    assert workers.audit.began(held, runs=2)["pid"] != first
    gate.open()
    assert ended(held) == "SUCCESS"
    assert len(workers.audit.lines("begin", held)) == 2


def test_nothing_is_lost_or_runs_twice_while_a_pool_changes_all_the_time(workers: Workers) -> None:
    worker = workers.start("-c", "2", "--max-tasks-per-child", "7", WORKER_POOL_RESTARTS=True)
    results = [tasks.brief.delay(number, 0.01) for number in range(150)]
    assert said(worker, "pool_restart") == {"ok": "reload started"}
    for turn in range(8):
        said(worker, "pool_grow" if turn % 2 == 0 else "pool_shrink", 2)
    assert [value(result) for result in results] == list(range(150))
    assert sorted(workers.audit.numbers()) == list(range(150))
    worker.says("The pool begins anew")
    assert "lost" not in worker.log


def test_threads_grow_and_shrink_too(workers: Workers) -> None:
    gate = workers.gate()
    worker = workers.start("-c", "1", "-P", "threads", WORKER_POOL_RESTARTS=True)
    assert said(worker, "pool_grow", 3) == {"ok": "pool will grow"}
    held = [tasks.hold.delay(str(gate)) for _ in range(3)]
    for each in held:
        workers.audit.began(each)
    assert said(worker, "pool_shrink", 3) == {"ok": "pool will shrink by 1: the others are busy"}
    assert slots_of(worker) == 3
    behind = tasks.echo.delay("behind")
    assert "All processes busy" in said(worker, "pool_shrink")["error"]
    gate.open()
    assert [ended(each) for each in (*held, behind)] == ["SUCCESS"] * 4
    assert said(worker, "pool_shrink", 2) == {"ok": "pool will shrink"}
    wait_until(lambda: psutil.Process(worker.pid).num_threads() <= 5, "their threads have ended")
    assert value(tasks.echo.delay("after")) == "after"
    # Its code is the worker's: that begins anew, with the same pid.
    assert "no_such_module" in said(worker, "pool_restart", ["no_such_module"])["error"]
    assert said(worker, "pool_restart") == {"ok": "reload started"}
    wait_until(lambda: worker.log.count(" ready.") == 2, "it has started anew")
    assert value(tasks.pid.delay()) == worker.pid


def test_bounds_are_read_in_either_order_and_what_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert autoscale_bounds("10,3") == autoscale_bounds("3,10") == (10, 3)
    assert autoscale_bounds("10") == (10, 0)
    for text in ("", "10,", "a,b", "1,2,3", "1.5"):
        with pytest.raises(ImproperlyConfigured, match="the most and the least tasks at a time"):
            autoscale_bounds(text)
    for text in ("soon", "0", "-1", "nan"):
        monkeypatch.setenv("AUTOSCALE_KEEPALIVE", text)
        with pytest.raises(ImproperlyConfigured, match="AUTOSCALE_KEEPALIVE in the environment must be seconds"):
            keepalive_seconds()
    for path, why in (
        ("nothing", "cannot be imported"),
        ("djtasks.worker.autoscaler:Nothing", "cannot be imported"),
        ("djtasks.worker.pools.solo.SoloPool", "is no subclass of"),
    ):
        with override_settings(DJTASKS={"WORKER_AUTOSCALER": path}), pytest.raises(ImproperlyConfigured, match=why):
            autoscaler_class()


def test_a_pool_grows_under_a_burst_and_shrinks_when_it_is_over(workers: Workers) -> None:
    gate = workers.gate()
    worker = workers.start("--autoscale", "1,4", "-c", "7", environment={"AUTOSCALE_KEEPALIVE": "0.5"})
    worker.says("--concurrency 7 is not used: --autoscale says how many")
    assert len(worker.children(1)) == 1
    held = [tasks.hold.delay(str(gate)) for _ in range(6)]
    worker.children(4)
    wait_until(lambda: len(workers.audit.lines("begin")) == 4, "four run")
    assert stats(worker)["autoscaler"] == {"max": 4, "min": 1, "current": 4, "qty": 4}
    for command in ("pool_grow", "pool_shrink"):
        assert f"{command} is not supported with autoscale" in said(worker, command)["error"]
    assert said(worker, "autoscale", 6, 2) == {"ok": "autoscale now max=6 min=2"}
    worker.children(6)
    for bad in ({"max": 1025}, {"max": 0}, {"min": -1}, {"max": "7"}, {"max": 1}, {"min": 7}):
        assert "error" in told(worker, "autoscale", **bad)
    gate.open()
    assert [ended(each) for each in held] == ["SUCCESS"] * 6
    worker.children(2)
    wait_until(lambda: stats(worker)["autoscaler"] == {"max": 6, "min": 2, "current": 2, "qty": 0}, "it is small again")
    assert told(worker, "autoscale", min=0) == {"ok": "autoscale now max=6 min=0"}
    # One stays: nothing would take a message.
    worker.children(1)
    assert value(tasks.echo.delay("after")) == "after"
    assert "exited with" not in worker.log
