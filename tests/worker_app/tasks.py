"""Tasks for the tests of workers. What they do they write to a file, to be audited outside of the database."""

import enum
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from django.db import connection, connections, transaction

from djtasks import current_task, shared_task
from djtasks.exceptions import SoftTimeLimitExceeded

#: Longer than any test waits, so that only what a test does ends a task that waits.
FOREVER = 600.0


def note(event: str, **more: Any) -> None:
    """Append a line to the audit: one write, so that lines of several processes do not mix."""
    line = {"event": event, "id": current_task.request.id, "pid": os.getpid(), "time": time.monotonic(), **more}
    descriptor = os.open(os.environ["AUDIT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


def wait_for(gate: str) -> None:
    """Wait until a test has made this file."""
    until = time.monotonic() + FOREVER
    while not os.path.exists(gate) and time.monotonic() < until:
        time.sleep(0.005)


# -- quick ones ---------------------------------------------------------------------------------------------------


@shared_task
def noop() -> None:
    """Do nothing."""


@shared_task
def echo(value: Any) -> Any:
    """Return the argument."""
    return value


@shared_task
def swallow(value: Any) -> None:
    """Take an argument and say nothing of it."""


@shared_task
def noted(number: int = 0) -> int:
    """Leave a line in the audit."""
    note("ran", number=number)
    return number


@shared_task(acks_late=True)
def noted_late(number: int = 0) -> int:
    """The same with late acknowledgement."""
    note("ran", number=number)
    return number


@shared_task
def brief(number: int, seconds: float) -> int:
    """A little work."""
    note("ran", number=number)
    time.sleep(seconds)
    return number


@shared_task
def redelivered() -> bool:
    """Whether a process was lost while it held this message."""
    note("ran")
    return bool(current_task.request.delivery_info["redelivered"])


@shared_task
def pid() -> int:
    """The process that ran this."""
    return os.getpid()


@shared_task
def allocate(megabytes: int) -> int:
    """Take memory, and let it go; returns the process."""
    taken = bytearray(megabytes << 20)
    taken[:: 1 << 12] = b"x" * len(taken[:: 1 << 12])
    return os.getpid()


@shared_task
def fail(text: str) -> NoReturn:
    """Raise ValueError."""
    raise ValueError(text)


class Unspeakable(Exception):
    """Has a text, but cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@shared_task
def fail_unspeakably(text: str) -> NoReturn:
    """Raise what cannot be shown."""
    raise Unspeakable(text)


@shared_task
def odd() -> object:
    """Return what cannot be stored."""
    return object()


@shared_task
def dig(depth: int) -> list[Any]:
    """Return a list in a list in a list."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@shared_task
def much(size: int) -> str:
    """Return so many characters."""
    return "x" * size


@shared_task(bind=True, max_retries=3)
def retried(self: Any) -> int:
    """Succeed at the third run."""
    note("ran", retries=self.request.retries)
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return int(self.request.retries)


class Level(enum.IntEnum):
    """A priority of a project's own, as an enumeration."""

    HIGH = 9


class Name(enum.StrEnum):
    """A queue of a project's own, as an enumeration."""

    OTHER = "celery"


@shared_task(bind=True, max_retries=1)
def retried_by_enumeration(self: Any) -> list[Any]:
    """Succeed at the second run, elsewhere."""
    if not self.request.retries:
        raise self.retry(countdown=0, priority=Level.HIGH, queue=Name.OTHER)
    return [self.request.delivery_info["priority"], self.request.delivery_info["routing_key"]]


class Stage(enum.StrEnum):
    """A state of a task's own, as an enumeration."""

    HALFWAY = "HALFWAY"


@shared_task(bind=True)
def halfway(self: Any, gate: str) -> str:
    """Report a state of its own, and wait."""
    self.update_state(state=Stage.HALFWAY, meta={"done": 50})
    wait_for(gate)
    return "done"


@shared_task(track_started=True)
def started(gate: str) -> int:
    """Be STARTED, and wait."""
    wait_for(gate)
    return os.getpid()


# -- those that hold on -------------------------------------------------------------------------------------------


def _hold(gate: str) -> int:
    note("begin")
    wait_for(gate)
    note("end")
    return os.getpid()


@shared_task
def hold(gate: str) -> int:
    """Wait for a file; returns the process."""
    return _hold(gate)


@shared_task(acks_late=True)
def hold_late(gate: str) -> int:
    """The same with late acknowledgement."""
    return _hold(gate)


@shared_task(acks_late=True, reject_on_worker_lost=False)
def hold_late_once(gate: str) -> int:
    """Late acknowledgement, but no second run after a loss: Celery's default."""
    return _hold(gate)


@shared_task
def hold_in_c(how: str) -> None:
    """Be in C code for longer than any test."""
    note("begin")
    if how == "sleep":
        time.sleep(FOREVER)
    elif how == "sum":
        sum(range(10**12))
    else:
        re.match(r"(a+)+$", "a" * 60 + "b")


@shared_task
def hold_grandchild() -> None:
    """Start a process and wait for it."""
    with subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({FOREVER})"]) as process:
        note("begin", grandchild=process.pid)


# -- those that lose their process --------------------------------------------------------------------------------


@shared_task
def leave(code: int) -> None:
    """End the process."""
    note("begin")
    os._exit(code)


@shared_task
def leave_at_once() -> None:
    """End the process."""
    os._exit(1)


@shared_task
def interrupt() -> None:
    """Raise what is to end the process."""
    raise KeyboardInterrupt


@shared_task(acks_late=True)
def die_once(mark: str) -> int:
    """Kill the process the first time."""
    note("begin")
    if not os.path.exists(mark):
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@shared_task(acks_late=True)
def poison() -> None:
    """Kill the process, every time."""
    note("begin")
    os.kill(os.getpid(), signal.SIGKILL)


# -- time limits --------------------------------------------------------------------------------------------------


def _linger() -> str:
    note("begin")
    try:
        time.sleep(FOREVER)
    except SoftTimeLimitExceeded as error:
        note("soft", limit=error.args[0])
        return "tidied up"
    return "slept"


@shared_task
def linger() -> str:
    """Sleep, and tidy up when the soft limit comes."""
    return _linger()


@shared_task(soft_time_limit=0.25)
def linger_briefly() -> str:
    """The same, with a soft limit of its own."""
    return _linger()


@shared_task(time_limit=0.5)
def linger_half_a_second() -> str:
    """The same, with a hard limit of its own."""
    return _linger()


@shared_task
def sleepy() -> None:
    """Sleep through everything."""
    note("begin")
    time.sleep(FOREVER)


@shared_task
def stubborn() -> None:
    """Do not let oneself be told."""
    note("begin")
    while True:
        try:
            time.sleep(FOREVER)
        except SoftTimeLimitExceeded:
            note("soft")


@shared_task
def nap(seconds: float) -> str:
    """Sleep for so long, soft limit or not."""
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "woken"
    return "slept"


@shared_task
def spin(seconds: float) -> str:
    """Compute for so long: code which a soft limit can strike anywhere."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return "done"


@shared_task
def commit_slowly(number: int) -> list[Any]:
    """Commit into a table whose trigger takes its time, and wait for the soft limit."""
    committed = False
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("INSERT INTO slow_commit (number) VALUES (%s)", [number])
        committed = True
        time.sleep(FOREVER)
    except SoftTimeLimitExceeded:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM slow_commit WHERE number = %s", [number])
            return [committed, cursor.fetchall()[0][0]]
    return []


# -- the database -------------------------------------------------------------------------------------------------


@shared_task
def session(gate: str | None = None) -> dict[str, Any]:
    """Which database session this is, and whether it was there before."""
    before = any(each.connection is not None for each in connections.all(initialized_only=True))
    note("begin")
    if gate is not None:
        wait_for(gate)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return {"before": before, "backend": cursor.fetchall()[0][0], "pid": os.getpid()}


@shared_task
def break_session() -> None:
    """Let the server end one's own database session."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
