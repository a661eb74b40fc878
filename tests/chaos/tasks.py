"""The tasks of the chaos runs. Each run says that it began, and that it ended, in a file which only grows."""

import asyncio
import functools
import os
import time
from typing import Any

from djtasks import shared_task
from djtasks.current import running

#: How much later a task runs again that asks for it, in seconds.
AGAIN_AFTER = 0.05
#: How much memory a task keeps, and how much one wants that wants too much, in bytes.
LEAK, HOG = 10 << 20, 16 << 30
#: Whether the usual tasks are coroutines.
COROUTINES = bool(os.environ.get("CHAOS_COROUTINES"))
_leaked: list[bytes] = []


@functools.cache
def _descriptor(pid: int) -> int:
    """The file, opened once a process: one write a line, so that lines of several processes do not mix."""
    return os.open(os.environ["AUDIT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def _note(*words: object) -> None:
    os.write(_descriptor(os.getpid()), (" ".join(map(str, words)) + "\n").encode())


def _work(serial: int, seconds: float) -> str:
    """Be one run: begin, take so long, end. The value names the run, so that a result can be traced to it."""
    token = _begun(serial)
    if seconds:
        time.sleep(seconds)
    _note("end", token, time.time())
    return token


async def _work_meanwhile(serial: int, seconds: float) -> str:
    """The same as a coroutine."""
    token = _begun(serial)
    if seconds:
        await asyncio.sleep(seconds)
    _note("end", token, time.time())
    return token


def _begun(serial: int) -> str:
    """The token of a run, which begins."""
    frame = running()
    assert frame is not None
    assert frame.message is not None
    message, worker = frame.message, frame.request.hostname
    token = os.urandom(8).hex()
    _note("begin", serial, message.id, message.retries, worker, os.getpid(), message.claim, token, time.time())
    return token


def _work_twice(task: Any, serial: int, seconds: float) -> str:
    """The first run asks for a second one."""
    token = _work(serial, seconds)
    if not task.request.retries:
        raise task.retry(countdown=AGAIN_AFTER)
    return token


async def early_meanwhile(serial: int, seconds: float = 0.0, payload: str = "") -> str:
    """`early` for a pool of coroutines."""
    return await _work_meanwhile(serial, seconds)


async def late_meanwhile(serial: int, seconds: float = 0.0, payload: str = "") -> str:
    """`late` for a pool of coroutines."""
    return await _work_meanwhile(serial, seconds)


async def late_slow_meanwhile(serial: int, seconds: float) -> str:
    """`late_slow` for a pool of coroutines."""
    return await _work_meanwhile(serial, seconds)


def early(serial: int, seconds: float = 0.0, payload: str = "") -> str:
    """Acknowledged before it runs, as is the default."""
    return _work(serial, seconds)


def late(serial: int, seconds: float = 0.0, payload: str = "") -> str:
    """Acknowledged when it has ended."""
    return _work(serial, seconds)


def late_slow(serial: int, seconds: float) -> str:
    """Takes long, and can be told from others in the table."""
    return _work(serial, seconds)


shared_task(name="chaos.early")(early_meanwhile if COROUTINES else early)
shared_task(name="chaos.late", acks_late=True)(late_meanwhile if COROUTINES else late)
shared_task(name="chaos.late_slow", acks_late=True)(late_slow_meanwhile if COROUTINES else late_slow)


@shared_task(name="chaos.early_leak")
def early_leak(serial: int, seconds: float = 0.0, payload: str = "") -> str:
    """Keeps memory for ever."""
    _leaked.append(b"x" * LEAK)
    return _work(serial, seconds)


@shared_task(name="chaos.late_leak", acks_late=True)
def late_leak(serial: int, seconds: float = 0.0, payload: str = "") -> str:
    """The same, late."""
    _leaked.append(b"x" * LEAK)
    return _work(serial, seconds)


@shared_task(name="chaos.late_hog", acks_late=True)
def late_hog(serial: int, seconds: float = 0.0, payload: str = "") -> str:
    """Wants more memory than a limited process may have; what it gets where there is no limit, it does not touch."""
    token = _work(serial, seconds)
    # Zeros that the kernel gives when they are touched, and nobody touches them.
    bytes(HOG)
    return token


@shared_task(name="chaos.early_again", bind=True, max_retries=1)
def early_again(self: Any, serial: int, seconds: float = 0.0) -> str:
    """Retried once."""
    return _work_twice(self, serial, seconds)


@shared_task(name="chaos.late_again", bind=True, max_retries=1, acks_late=True)
def late_again(self: Any, serial: int, seconds: float = 0.0) -> str:
    """Retried once, late."""
    return _work_twice(self, serial, seconds)


@shared_task(name="chaos.early_tracked", track_started=True)
def early_tracked(serial: int, seconds: float = 0.0) -> str:
    """Has a result row before it has ended."""
    return _work(serial, seconds)


@shared_task(name="chaos.late_silent", acks_late=True, ignore_result=True)
def late_silent(serial: int, seconds: float = 0.0) -> None:
    """Leaves no result: that it ended shows only in the audit."""
    _work(serial, seconds)
