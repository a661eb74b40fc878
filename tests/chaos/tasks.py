"""The tasks of the chaos runs. Each run says that it began, and that it ended, in a file which only grows."""

import functools
import os
import time
from typing import Any

from djtasks import shared_task
from djtasks.current import running

#: How much later a task runs again that asks for it, in seconds.
AGAIN_AFTER = 0.05


@functools.cache
def _descriptor(pid: int) -> int:
    """The file, opened once a process: one write a line, so that lines of several processes do not mix."""
    return os.open(os.environ["AUDIT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def _note(*words: object) -> None:
    os.write(_descriptor(os.getpid()), (" ".join(map(str, words)) + "\n").encode())


def _work(serial: int, seconds: float) -> str:
    """Be one run: begin, take so long, end. The value names the run, so that a result can be traced to it."""
    frame = running()
    assert frame is not None
    assert frame.message is not None
    message, worker = frame.message, frame.request.hostname
    token = os.urandom(8).hex()
    _note("begin", serial, message.id, message.retries, worker, os.getpid(), message.claim, token, time.time())
    if seconds:
        time.sleep(seconds)
    _note("end", token, time.time())
    return token


def _work_twice(task: Any, serial: int, seconds: float) -> str:
    """The first run asks for a second one."""
    token = _work(serial, seconds)
    if not task.request.retries:
        raise task.retry(countdown=AGAIN_AFTER)
    return token


@shared_task(name="chaos.early")
def early(serial: int, seconds: float = 0.0, payload: str = "") -> str:
    """Acknowledged before it runs, as is the default."""
    return _work(serial, seconds)


@shared_task(name="chaos.late", acks_late=True)
def late(serial: int, seconds: float = 0.0, payload: str = "") -> str:
    """Acknowledged when it has ended."""
    return _work(serial, seconds)


@shared_task(name="chaos.late_slow", acks_late=True)
def late_slow(serial: int, seconds: float) -> str:
    """Takes long, and can be told from others in the table."""
    return _work(serial, seconds)


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
