"""Tasks for the tests of crowds: many that wait at the same time."""

import asyncio
import contextvars
import os
import threading
import time
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction

from djtasks import Task, current_app, current_task, shared_task
from djtasks.exceptions import SoftTimeLimitExceeded
from tests.worker_app.tasks import FOREVER, note, wait_for

_left = contextvars.ContextVar("left", default="nothing")


@shared_task
def name_of_app() -> Any:
    """The name of the current app."""
    return current_app.main


@shared_task
def sleep_in_sql(seconds: float) -> list[float]:
    """When the query began and ended, by the server's clock, and the session that ran it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM clock_timestamp())::float8, pg_backend_pid(), pg_sleep(%s)", [seconds]
        )
        began, session, _ = cursor.fetchone()
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
        return [began, cursor.fetchone()[0], session]


@shared_task
def doze(seconds: float) -> list[float]:
    """When it began and ended, and its process."""
    began = time.monotonic()
    time.sleep(seconds)
    return [began, time.monotonic(), os.getpid()]


@shared_task
async def drowse(seconds: float) -> list[float]:
    """The same, as a coroutine."""
    began = time.monotonic()
    await asyncio.sleep(seconds)
    return [began, time.monotonic(), os.getpid()]


@shared_task
async def meet(count: int) -> int:
    """Wait until so many of these run at once; the most that were seen."""
    meet.seen = getattr(meet, "seen", 0) + 1  # type: ignore[attr-defined]
    while meet.seen < count:  # type: ignore[attr-defined]
        await asyncio.sleep(0.01)
    return int(meet.seen)  # type: ignore[attr-defined]


@shared_task
async def ask_orm() -> int:
    """The ORM's answer."""
    return await User.objects.acount()


@shared_task(acks_late=True)
def wait_late(gate: str) -> str:
    """Wait at the gate; run again after a loss."""
    note("begin")
    wait_for(gate)
    return "late"


@shared_task
def wait_early(gate: str) -> str:
    """Wait at the gate; never run twice."""
    note("begin")
    wait_for(gate)
    return "early"


@shared_task
async def await_early(gate: str) -> str:
    """The same, as a coroutine."""
    note("begin")
    while not os.path.exists(gate):
        await asyncio.sleep(0.01)
    return "early"


@shared_task(acks_late=True)
async def await_late(gate: str) -> str:
    """The same; run again after a loss."""
    note("begin")
    while not os.path.exists(gate):
        await asyncio.sleep(0.01)
    return "late"


@shared_task
def tidy(seconds: float) -> str:
    """Sleep, in SQL, until the soft limit comes; the session is as good as before."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(%s)", [seconds])
    except SoftTimeLimitExceeded as error:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 'tidied up after ' || %s", [str(error.args[0])])
            return str(cursor.fetchone()[0])
    return "never"


@shared_task
async def atidy(seconds: float) -> str:
    """The same, as a coroutine."""
    try:
        await asyncio.sleep(seconds)
    except SoftTimeLimitExceeded as error:
        await asyncio.sleep(0.01)
        return f"tidied up after {error.args[0]}"
    return "never"


@shared_task
def overrun() -> None:
    """Wait for ever."""
    note("begin")
    with transaction.atomic():
        User.objects.create(username="overrun")
        time.sleep(FOREVER)


@shared_task
async def aoverrun() -> None:
    """Wait for ever, in a coroutine."""
    note("begin")
    await asyncio.sleep(FOREVER)


@shared_task
def hog(seconds: float) -> str:
    """Let nothing else run."""
    note("begin")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return "done"


@shared_task
async def ahog(seconds: float) -> str:
    """Let nothing else run, in a coroutine."""
    note("begin")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return "done"


@shared_task
def who_am_i(seconds: float) -> list[Any]:
    """Its own id before and after others have run, and what another task left in its context."""
    before, left = current_task.request.id, _left.get()
    time.sleep(seconds)
    return [before, current_task.request.id, left]


@shared_task(atomic=True)
def atomically(name: str, seconds: float) -> None:
    """Make a user, in the task's own transaction."""
    User.objects.create(username=name)
    time.sleep(seconds)


@shared_task
def patched() -> str:
    """The library that has patched this process."""
    if type(threading.Lock()).__module__.startswith("gevent"):
        return "gevent"
    return "eventlet" if "eventlet" in str(getattr(time, "sleep", None).__module__) else "none"


class Handled(Task):
    """A task whose handlers note that they were called, from synchronous code that may use the ORM."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        User.objects.count()
        note("before")

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        User.objects.count()
        note("success")

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note("retry")

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        if status == "SUCCESS":
            note("after")


@shared_task(bind=True, base=Handled)
async def handled(self: Any) -> int:
    """Succeed at the second run."""
    note("ran")
    await asyncio.sleep(0)
    if not self.request.retries:
        raise self.retry(countdown=0)
    return 2


@shared_task
async def afail() -> None:
    """Raise ValueError."""
    raise ValueError("no")


@shared_task
def lock_in_sql(number: int) -> int:
    """Wait, in SQL, until nobody else holds this lock exclusively; the session that did."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock_shared(%s), pg_backend_pid()", [number])
        return int(cursor.fetchone()[1])


@shared_task
def meet_green(count: int) -> int:
    """As `meet`, in a greenlet."""
    meet.seen = getattr(meet, "seen", 0) + 1  # type: ignore[attr-defined]
    while meet.seen < count:  # type: ignore[attr-defined]
        time.sleep(0.1)
    return int(meet.seen)  # type: ignore[attr-defined]
