"""A worker on its own: in the background, after a HUP, with a watcher, as the first process of a container."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from djtasks.cli import worker as cli
from djtasks.exceptions import ImproperlyConfigured
from djtasks.worker.identity import file_name, indexed
from testproject.postgres.shared import CHECKOUT
from tests.worker.running import Gate, Workers, ended, error, living, query, took, value, wait_until, waits
from tests.worker_app import tasks

#: Stands for the first process of a container: it inherits what nobody else waits for.
FIRST = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
from djtasks.worker import signalling
pid, os.getpid = os.getpid, lambda: 1
signalling.leave_first_place()
os.getpid = pid
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
if (middle := os.fork()) == 0:
    if (left := os.fork()) == 0:
        os._exit(0)
    print(left, flush=True)
    os._exit(0)
os.waitpid(middle, 0)
print("ready", flush=True)
while True:
    signal.pause()
"""


def started(pid: int) -> int | None:
    """The incarnation of the worker that this process is now."""
    found = query("SELECT incarnation FROM djtasks_worker WHERE pid = %s", pid)
    return found[0][0] if found else None


def test_detached_it_goes_on_alone_and_a_hup_replaces_its_program_in_the_same_process(
    workers: Workers, gate: Gate
) -> None:
    folder = workers.folder
    purged = tasks.noted.delay()
    options = ("--detach", "--purge", "--pidfile", "%n.pid", "-f", "%n%I.log", "-n", "alone@here", "-c", "1")
    first = workers.launch(*options, "-l", "INFO", "--workdir", str(folder), "--umask", "027")
    assert first.wait() == 0, first.log
    pidfile = folder / "alone.pid"
    pid = int(pidfile.read_text())
    assert pid != first.pid
    assert not purged.exists()
    was = started(pid)
    assert was is not None
    again = workers.launch("--detach", "--pidfile", str(pidfile))
    assert (again.wait(), f"runs already (pid {pid})" in again.log) == (1, True), again.log

    held = tasks.hold.delay(str(gate))
    workers.audit.began(held)
    assert [each.cmdline()[0][:9] for each in psutil.Process(pid).children(recursive=True)] == ["[djtasks:"] * 2
    os.kill(pid, signal.SIGHUP)
    wait_until(lambda: "Warm shutdown at SIGHUP" in (folder / "alone.log").read_text(), "it stops")
    waiting = tasks.noted.delay(5)
    gate.open()
    ended(held)
    # It was called while the worker stopped: it is not thrown away by the --purge of the first start.
    assert value(waiting) == 5
    assert started(pid) != was
    assert pidfile.read_text() == f"{pid}\n"
    assert (folder / "alone.log").stat().st_mode & 0o777 == 0o640
    assert f"noted[{waiting.id}] succeeded" in (folder / "alone-1.log").read_text()
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not pidfile.exists(), "it has ended")
    wait_until(lambda: first.left() == [], "nothing is left of it")


def test_what_keeps_a_detached_one_from_starting_is_said_by_the_one_that_was_started(workers: Workers) -> None:
    worker = workers.launch("--detach", "--pidfile", "/no/such/folder/w.pid")
    assert (worker.wait(), "--pidfile /no/such/folder/w.pid: No such file" in worker.log) == (1, True), worker.log


def test_usr1_shows_what_threads_do_and_term_is_a_quit_where_the_environment_says_so(
    workers: Workers, gate: Gate
) -> None:
    worker = workers.launch(
        *("-l", "INFO", "-c", "1", "--without-gossip", "--without-mingle", "-Ofair", "-b", "redis://"),
        environment={"REMAP_SIGTERM": "SIGQUIT"},
    ).ready()
    said = worker.says("--broker does nothing: tasks are rows of the database")
    for option in ("--without-gossip", "--without-mingle", "--optimization"):
        assert f"{option} does nothing: " in said
    worker.signal(signal.SIGUSR1)
    text = worker.says("-- djtasks-pulse")
    assert "-- MainThread" in text
    assert "in turn" in text
    early = tasks.hold.delay(str(gate))
    workers.audit.began(early)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 1
    assert "Cold shutdown" in worker.log
    assert error(early).startswith("WorkerLostError")


def test_a_warm_shutdown_lasts_no_longer_than_it_may(workers: Workers, gate: Gate) -> None:
    worker = workers.start("-c", "2", "--shutdown-timeout", "0.5")
    early, late = (task.delay(str(gate)) for task in (tasks.hold, tasks.hold_late))
    for result in (early, late):
        workers.audit.began(result)
    worker.signal(signal.SIGTERM)
    assert took(worker.wait) < 4.0
    assert worker.process.returncode == 1
    assert "did not end within 0.5 seconds" in worker.log
    assert error(early).startswith("WorkerLostError")
    assert waits(late)


def test_a_warm_shutdown_ends_in_time_where_the_task_runs_in_the_worker_itself(workers: Workers, gate: Gate) -> None:
    worker = workers.start("-P", "solo", "--shutdown-timeout", "0.2")
    late = tasks.hold_late.delay(str(gate))
    workers.audit.began(late)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 1
    assert waits(late)


def test_a_worker_with_a_watcher_starts_anew_when_its_code_changes(workers: Workers) -> None:
    module = workers.folder / "watched_module.py"
    module.write_text("from djtasks import shared_task\n@shared_task(name='watched')\ndef watched(): return 1\n")
    worker = workers.launch(
        *("--autoreload", "-P", "threads", "-c", "1", "-l", "INFO", "-I", "watched_module"),
        environment={"PYTHONPATH": str(workers.folder)},
    ).ready()
    [before] = [pid for (pid,) in query("SELECT pid FROM djtasks_worker")]
    assert before != worker.pid
    module.write_text(module.read_text().replace("return 1", "return 2"))
    os.utime(module, (2e9, 2e9))
    worker.says("watched_module.py has changed; starting the worker anew")
    wait_until(lambda: {pid for (pid,) in query("SELECT pid FROM djtasks_worker")} - {before}, "there is a new one")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.log
    assert worker.left() == []


def test_the_first_process_of_a_container_reaps_what_is_left_to_it_and_hands_signals_on() -> None:
    with subprocess.Popen([sys.executable, "-c", FIRST], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left = int(process.stdout.readline())
        assert process.stdout.readline() == "ready\n"
        wait_until(lambda: not Path(f"/proc/{left}").exists(), "what was left to it is reaped")
        [child] = living(psutil.Process(process.pid).children())
        assert os.getpgid(child.pid) == child.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 7


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"autoreload": True, "detach": True}, "does not go with --detach"),
        ({"autoreload": True, "pidfile": "x"}, "does not go with --pidfile"),
        ({"shutdown_timeout": -1.0}, "--shutdown-timeout must be from 0"),
        ({"shutdown_timeout": float("nan")}, "--shutdown-timeout must be from 0"),
        ({"workdir": "/no/such/folder"}, "--workdir /no/such/folder"),
        ({"uid": "nobody at all"}, "name a user and a group"),
    ],
)
def test_what_a_worker_cannot_start_with_is_said_in_a_sentence(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        cli.run(given)
    assert said in str(caught.value)


def test_a_remapping_of_signals_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMAP_SIGTERM", "SIGKILL")
    with pytest.raises(ImproperlyConfigured, match="REMAP_SIGTERM can be SIGQUIT, not 'SIGKILL'"):
        cli.run({})


def test_names_of_files_stand_for_the_node_and_its_processes() -> None:
    pattern = file_name("/var/log/%n@%h%I-%i-%d-%p-%%n-%x.log", "w1@web.example.org")
    assert indexed(pattern, 0) == "/var/log/w1@web.example.org-0-example.org-w1@web.example.org-%n-%x.log"
    assert indexed(pattern, 3) == "/var/log/w1@web.example.org-3-3-example.org-w1@web.example.org-%n-%x.log"
