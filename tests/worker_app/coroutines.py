"""Tasks that are coroutines, for the tests of workers."""

import asyncio
import os
import threading
import time

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connection

from djtasks import shared_task
from djtasks.exceptions import SoftTimeLimitExceeded
from tests.worker_app.tasks import FOREVER, note


@shared_task
async def count_users(pause: float = 0.0) -> int:
    """Ask the database, asynchronously."""
    await asyncio.sleep(pause)
    return await User.objects.acount()


@shared_task
async def backend_pid() -> list[int]:
    """The process, and the database session in which the ORM of this task works."""

    def ask() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return int(cursor.fetchone()[0])

    first, second = await sync_to_async(ask)(), await asyncio.to_thread(ask)
    return [os.getpid(), first, second]


@shared_task
async def loop_number() -> list[int]:
    """The process, and which loop of it this is."""
    return [os.getpid(), threading.get_ident(), id(asyncio.get_running_loop())]


@shared_task
async def linger() -> str:
    """Wait, and clean up when the soft limit comes."""
    note("begin")
    try:
        await asyncio.sleep(FOREVER)
    except SoftTimeLimitExceeded as error:
        note("soft", limit=error.args[0])
        await asyncio.sleep(0.01)
        return "tidied up"
    return "never"


@shared_task
async def sleepy() -> None:
    """Wait, and know nothing of limits."""
    await asyncio.gather(asyncio.sleep(FOREVER), asyncio.sleep(FOREVER))


@shared_task
async def hog() -> None:
    """Never await anything."""
    note("begin")
    while True:
        time.sleep(0.01)
