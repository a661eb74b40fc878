"""Real workers in processes of their own, and what they leave behind: a log, an audit, rows."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import environ
import psutil
from django.db import connection, connections, transaction

from djtasks import AsyncResult
from testproject.postgres.shared import CHECKOUT
from tests.waits import wait_until as wait_for_so_long
from tests.worker_app import tasks as worker_tasks

T = TypeVar("T")

#: What takes longer than this has failed, on however slow a machine.
DEADLINE = 20.0
MARK = "DJTASKS_WORKER_TEST"
_numbers = itertools.count(1)


def wait_until(condition: Callable[[], T], what: str, seconds: float = DEADLINE) -> T:
    """The first true answer of `condition`; AssertionError with `what` after so many seconds."""
    return wait_for_so_long(condition, what, seconds)


def took(work: Callable[[], object]) -> float:
    """How many seconds that takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


@contextmanager
def django_at(url: str) -> Iterator[None]:
    """Point Django's default database, in this process, at another address."""
    before, configured = connections["default"], connections.settings["default"]
    before.close()
    fresh = connections.configure_settings({"default": environ.Env.db_url_config(url)})
    connections.settings["default"] = fresh["default"]
    connections["default"] = connections.create_connection("default")
    try:
        yield
    finally:
        connections["default"].close()
        connections.settings["default"] = configured
        connections["default"] = before


def migrate(url: str, *upto: str) -> None:
    """Make the tables in a database; `upto` an app and one of its migrations, if not all."""
    subprocess.run(
        [sys.executable, "manage.py", "migrate", *upto, "--verbosity", "0"],
        cwd=CHECKOUT,
        env={**os.environ, "DATABASE_URL": url, "EXTRA_APPS": ""},
        check=True,
    )


def query(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of a statement, through Django's connection."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall()) if cursor.description else []


def ended(result: AsyncResult[Any], seconds: float = DEADLINE) -> str:
    """Wait for the end of a task; returns its state."""
    wait_until(result.ready, f"the task {result.id} has ended", seconds)
    return result.state


def value(result: AsyncResult[Any], seconds: float = DEADLINE) -> Any:
    """What a task returned; an exception is raised."""
    ended(result, seconds)
    return result.maybe_throw()


def error(result: AsyncResult[Any], seconds: float = DEADLINE) -> str:
    """The name and text of the exception in which a task ended."""
    state = ended(result, seconds)
    assert state == "FAILURE", (state, result.result)
    return f"{type(result.result).__name__}: {result.result}"


def row(result: AsyncResult[Any]) -> dict[str, Any] | None:
    """A task's row while it waits or runs."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM djtasks_message WHERE id = %s", [result.id])
        found = cursor.fetchone()
        return found and dict(zip([column.name for column in cursor.description], found, strict=True))


def waits(result: AsyncResult[Any]) -> bool:
    """Whether a task is in its queue, in nobody's hands."""
    found = row(result)
    return found is not None and found["owner"] is None


def taken(result: AsyncResult[Any]) -> bool:
    """Whether a task is in a worker's hands."""
    found = row(result)
    return found is not None and found["owner"] is not None


def processes_with(mark: Mapping[str, str]) -> list[psutil.Process]:
    """All living processes that have these variables in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and mark.items() <= process.environ().items():
                found.append(process)
        except psutil.Error:
            continue
    return found


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of them that have not ended."""
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


class Gate:
    """A file that tasks wait for."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"gate-{uuid.uuid4().hex}"

    def __str__(self) -> str:
        return str(self.path)

    def open(self) -> None:
        """Let them go on."""
        self.path.touch()


class Audit:
    """What tasks have written about their runs, outside of the database."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, event: str | None = None, result: AsyncResult[Any] | None = None) -> list[dict[str, Any]]:
        """What was noted, in order; only of this event, and of this task."""
        text = self.path.read_text() if self.path.exists() else ""
        found = [json.loads(line) for line in text.splitlines()]
        return [
            line
            for line in found
            if (event is None or line["event"] == event) and (result is None or line["id"] == result.id)
        ]

    def began(self, result: AsyncResult[Any], runs: int = 1) -> dict[str, Any]:
        """Wait until a run of the task has begun (the second, say); returns its line."""

        def look() -> dict[str, Any] | None:
            lines = self.lines("begin", result)
            return lines[runs - 1] if len(lines) >= runs else None

        found = wait_until(look, f"run {runs} of {result.id} has begun")
        assert found is not None
        return found

    def numbers(self) -> list[int]:
        """The numbers that have run, in order."""
        return [line["number"] for line in self.lines("ran")]


class RunningWorker:
    """One `manage.py runworker`, in a session of its own."""

    def __init__(
        self,
        folder: Path,
        options: tuple[str, ...],
        *,
        settings: dict[str, Any],
        environment: Mapping[str, str],
        program: tuple[str, ...] = ("manage.py",),
        cwd: Path = CHECKOUT,
    ) -> None:
        number = next(_numbers)
        self.name = f"worker{number}"
        self.output = folder / f"{self.name}.log"
        self.mark = {MARK: uuid.uuid4().hex}
        if "-n" not in options:
            options = (*options, "-n", f"{self.name}@here")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *program, "runworker", *options],
                cwd=cwd,
                env={**os.environ, "DJTASKS": json.dumps(settings), **environment, **self.mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self.process.pid

    @property
    def log(self) -> str:
        """All it has said: its banner and its log."""
        return self.output.read_text(errors="replace")

    def says(self, text: str, seconds: float = DEADLINE) -> str:
        """Wait until it has said this; returns all it has said."""
        wait_until(lambda: text in self.log or self.process.poll() is not None, f"{self.name} says {text!r}", seconds)
        assert text in self.log, self.log
        return self.log

    def ready(self) -> "RunningWorker":
        """Wait until it takes tasks."""
        self.says(" ready.")
        return self

    @property
    def server(self) -> psutil.Process:
        """Its fork server."""

        def look() -> list[psutil.Process]:
            found = living(psutil.Process(self.pid).children())
            return [each for each in found if os.getpgid(each.pid) == each.pid]

        return wait_until(look, f"{self.name} has a fork server")[0]

    def children(self, count: int) -> list[psutil.Process]:
        """Wait until there are so many children; returns them."""

        def look() -> list[psutil.Process]:
            found = living(self.server.children())
            return found if len(found) == count else []

        return wait_until(look, f"{self.name} has {count} children")

    def tree(self) -> list[psutil.Process]:
        """The worker and all processes below it, parents first."""
        process = psutil.Process(self.pid)
        return living([process, *process.children(recursive=True)])

    def signal(self, number: int) -> None:
        """Signal the worker itself."""
        self.process.send_signal(number)

    def wait(self, seconds: float = DEADLINE) -> int:
        """Wait for its end; returns the exit code."""
        wait_until(lambda: self.process.poll() is not None, f"{self.name} has ended; it said: {self.log}", seconds)
        return int(self.process.returncode)

    def stop(self) -> int:
        """End it as `kill` does."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def left(self) -> list[psutil.Process]:
        """All its processes that live, wherever they are in the tree by now."""
        return processes_with(self.mark)

    def rows(self) -> list[tuple[Any, ...]]:
        """The incarnations of its rows."""
        return query("SELECT incarnation FROM djtasks_worker WHERE pid = %s", self.pid)

    def registered(self) -> int:
        """Wait until it has its row with the fork server's process group; returns its incarnation."""
        found = wait_until(
            lambda: query(
                "SELECT incarnation FROM djtasks_worker WHERE pid = %s AND (process_group > 0 OR pool <> 'prefork')",
                self.pid,
            ),
            f"{self.name} is registered",
        )
        return int(found[0][0])


class Workers:
    """Starts workers on one database; none of their processes outlives it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.audit = Audit(folder / "audit")
        self.started: list[RunningWorker] = []

    def launch(
        self,
        *options: str,
        apps: str = "tests.worker_app",
        environment: Mapping[str, str] | None = None,
        program: tuple[str, ...] = ("manage.py",),
        cwd: Path = CHECKOUT,
        **settings: Any,
    ) -> RunningWorker:
        """Start a worker with these options and DJTASKS settings; do not wait for it."""
        given = {
            "AUDIT": str(self.audit.path),
            "DATABASE_URL": self.url,
            "EXTRA_APPS": apps,
            **(environment or {}),
        }
        worker = RunningWorker(self.folder, options, settings=settings, environment=given, program=program, cwd=cwd)
        self.started.append(worker)
        return worker

    def start(self, *options: str, **settings: Any) -> RunningWorker:
        """Start a worker and wait until it takes tasks."""
        return self.launch("-l", "INFO", *options, **settings).ready()

    def gate(self) -> Gate:
        """A new gate."""
        return Gate(self.folder)

    def close(self) -> None:
        """Kill whatever is left of them."""
        for worker in self.started:
            for _ in range(5):
                for process in worker.left():
                    process.kill()
                if not worker.left():
                    break
            worker.process.wait(DEADLINE)


def hand_over(queue: str, first: Any, gate: Gate, others: list[Any]) -> tuple[AsyncResult[Any], list[AsyncResult[Any]]]:
    """Let the one child of this queue's worker be given a task that waits at the gate, and in one go the others.

    Returns the task, and those of the others that the worker has taken: they lie unread in the child's socket, for a
    second at the most.
    """
    # First it has to learn how fast tasks can be: until then it takes them one by one.
    for result in worker_tasks.noop.bulk_apply_async((([], {}) for _ in range(300)), queue=queue):
        ended(result)
    with transaction.atomic():
        held = first.apply_async([str(gate)], queue=queue)
        behind = [task.apply_async(queue=queue) for task in others]
    wait_until(lambda: taken(behind[0]), "they are handed over")
    return held, [each for each in behind if taken(each)]
