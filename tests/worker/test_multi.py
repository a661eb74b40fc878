"""`djtasks multi` and real workers in the background: it starts them, finds them again, and ends them."""

import os
import sys
import uuid
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import psutil
import pytest
from django.core.management import CommandError, call_command

from testproject.postgres.shared import CHECKOUT
from tests.worker.running import MARK, living, processes_with, query


def multi(*words: str) -> tuple[int, str]:
    """The exit code, and what is said."""
    said = StringIO()
    try:
        call_command("djtasks", "multi", *words, stdout=said)
    except CommandError as error:
        return error.returncode, f"{said.getvalue()}{error}"
    except SystemExit as error:
        return int(error.code or 0), said.getvalue()
    return 0, said.getvalue()


@pytest.fixture
def background(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for workers in the background, all of which are gone in the end."""
    mark = uuid.uuid4().hex
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("EXTRA_APPS", "tests.worker_app")
    monkeypatch.setenv(MARK, mark)
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "manage.py", "djtasks", "multi"])
    yield tmp_path
    for process in processes_with({MARK: mark}):
        if process.pid != os.getpid():
            process.kill()


def test_nodes_are_started_restarted_and_stopped(background: Path) -> None:
    files = (f"--pidfile={background}/run/%n.pid", f"--logfile={background}/%n%I.log")
    options = (*files, "-P", "solo", "-l", "INFO", "-Q:m2", "of_m2")

    def pids() -> list[int]:
        return [int((background / "run" / f"{name}.pid").read_text()) for name in ("m1", "m2")]

    # Of what cannot start it is said which one it is, and why.
    code, said = multi("start", "m1@here", "m2@here", "m3@here", *options, "-I:m3", "no_such_module", "--nosplash")
    assert (code, said.splitlines()[:3]) == (1, ["> Starting nodes...", "\t> m1@here: OK", "\t> m2@here: OK"]), said
    assert "\t> m3@here: FAILED\n* Child terminated with exit code 1" in said
    assert "no_such_module" in said
    assert not (background / "run" / "m3.pid").exists()
    assert query("SELECT name, queues->>0 FROM djtasks_worker ORDER BY name") == [
        ("m1@here", "celery"),
        ("m2@here", "of_m2"),
    ]
    first = pids()
    assert "ready." in (background / "m1.log").read_text()

    code, said = multi("start", "m1@here", *options, "--quiet")
    assert (code, f"runs already (pid {first[0]})" in said, "m1@here: FAILED" in said) == (1, True, True)
    code, said = multi("start", "m1@here", *files, "--executable=/no/such/python")
    assert (code, "/no/such/python: No such file or directory; look at --executable" in said) == (1, True)

    # What a killed one has left does not keep it from being started.
    code, said = multi("kill", "m2@here", *files)
    assert (code, f"\t> m2@here: SIGKILL -> {first[1]}" in said) == (0, True)
    code, said = multi("restart", "m1@here", "m2@here", *options, "--nosplash")
    assert code == 0, said
    assert f"\t> m1@here: SIGTERM -> {first[0]}" in said
    assert "> Restarting node m1@here: OK" in said
    assert "> Restarting node m2@here: OK" in said
    again = pids()
    assert not set(again) & set(first)

    code, said = multi("stopwait", "m1@here", "m2@here", "m3@here", "-INT", *files)
    assert code == 0, said
    assert f"\t> m1@here: SIGINT -> {again[0]}" in said
    assert "> m3@here: DOWN" in said
    assert said.count(": OK") == 2
    assert [pid for pid in (*first, *again) if psutil.pid_exists(pid) and living([psutil.Process(pid)])] == []
    assert not (background / "run" / "m1.pid").exists()
    assert multi("stop", "m1@here", *files)[0] == 0
