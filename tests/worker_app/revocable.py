"""Tasks for the tests of revocation; `tasks` brings them in."""

import os
import signal
import time
from typing import Any

from django.db import connection, transaction

from djtasks import shared_task, signals
from djtasks.exceptions import SoftTimeLimitExceeded
from tests.worker_app.tasks import FOREVER, note, wait_for


@shared_task(bind=True, max_retries=None)
def come_back(self: Any, gate: str, countdown: float) -> None:
    """Wait for a file, and ask to run again."""
    note("begin")
    wait_for(gate)
    raise self.retry(countdown=countdown)


@shared_task
def spawn(gate: str, depth: int) -> str:
    """Call the same task again, over and over, from inside of it."""
    note("begin")
    if depth:
        spawn.delay(gate, depth - 1)
    wait_for(gate)
    return "done"


@shared_task
def breed(depth: int) -> None:
    """Call the same task three times from inside of it: more than a thousand in the end."""
    note("begin")
    if depth:
        for _ in range(3):
            breed.delay(depth - 1)
    time.sleep(0.02)


@shared_task
def deaf() -> None:
    """Take SIGTERM for nothing."""
    signal.signal(signal.SIGTERM, lambda *_: note("term"))
    note("begin")
    until = time.monotonic() + FOREVER
    while time.monotonic() < until:
        time.sleep(0.01)


@shared_task(ignore_result=True)
def quiet(gate: str) -> None:
    """Wait for a file, and leave nothing."""
    note("begin")
    wait_for(gate)


@shared_task
def hold_on() -> str:
    """Wait in many short steps, and tidy up when the soft limit comes."""
    note("begin")
    until = time.monotonic() + FOREVER
    try:
        while time.monotonic() < until:
            time.sleep(0.01)
    except SoftTimeLimitExceeded as error:
        note("soft", limit=error.args[0])
        return "tidied up"
    return "slept"


@shared_task
def commit_slowly_and_spin(number: int) -> list[Any]:
    """Commit into a table whose trigger takes its time, and wait for the soft limit in Python code."""
    committed = False
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("INSERT INTO slow_commit (number) VALUES (%s)", [number])
        committed = True
        while True:
            time.sleep(0.01)
    except SoftTimeLimitExceeded:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM slow_commit WHERE number = %s", [number])
            return [committed, cursor.fetchall()[0][0]]


@signals.task_revoked.connect
def _note_revoked(sender: Any, request: Any, terminated: bool, signum: int | None, expired: bool, **_: Any) -> None:
    """In the worker's own process there is no current task: the line names the one that was revoked."""
    path = os.environ.get("REVOKED")
    if path:
        name = getattr(sender, "name", sender)
        with open(path, "a") as file:
            file.write(f"{request.id} {name.rpartition('.')[2]} {terminated} {signum} {expired}\n")
