"""Seats: the threads of a threads pool, and how a soft time limit is raised in one of them.

CPython can have an exception raised in another thread, at that thread's next step in Python code. So a limit that
comes while a thread waits in C code (a query, a sleep, a read) is raised when that returns, and no sooner.

Source: https://docs.python.org/3/c-api/threads.html#c.PyThreadState_SetAsyncExc
"""

import ctypes
import sys
import threading
import time
from typing import Any

from djtasks import aio, tracer
from djtasks.exceptions import SoftTimeLimitExceeded
from djtasks.worker.pools.base import Job
from djtasks.worker.pools.softlimit import commits, soft_limit

# It keeps the GIL from first to last.
_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc


def _strike_of(limit: float) -> type[SoftTimeLimitExceeded]:
    """A class whose making gives SoftTimeLimitExceeded(limit): another thread can only be given a class."""

    class Strike(SoftTimeLimitExceeded):
        def __new__(cls, *_: Any) -> Any:
            return soft_limit(limit)

    return Strike


class Seat:
    """One thread of a pool, and what it runs."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.job: Job | None = None
        #: When that began, in monotonic seconds.
        self.since = 0.0
        #: Its job was given up: the thread ends when the job does.
        self.abandoned = False
        #: Its thread has ended.
        self.left = False
        self._ident = 0
        self._window: dict[str, Any] = {}
        self._struck = False
        self._lock = threading.Lock()

    def arrive(self) -> None:
        """In the thread itself, once: where it can be seen whether it runs a task's own code."""
        self._ident = threading.get_ident()
        self._window = tracer.soft_limit_window.__dict__

    def enter(self, job: Job) -> None:
        """In the thread itself: this begins."""
        self._struck = False
        self.since = time.monotonic()
        self.job = job

    def leave(self) -> None:
        """In the thread itself: it is over, and nothing more is raised in here."""
        while True:
            try:
                with self._lock:
                    self.job = None
                    if self._struck:
                        _set_async_exc(ctypes.c_ulong(self._ident), None)
                return
            except SoftTimeLimitExceeded:
                continue

    def abandon(self, job: Job) -> bool:
        """From another thread: give up this run, and the thread with it; False if it is over."""
        with self._lock:
            if self.job is not job:
                return False
            self.abandoned = True
            return True

    @property
    def struck(self) -> bool:
        """Whether the soft limit of the present job has been raised."""
        return self._struck

    def strike(self, job: Job, limit: float) -> bool:
        """From another thread: raise SoftTimeLimitExceeded in this very run; False if that may not be now.

        It is raised in the task's own code only, and not while it commits. Where the thread stands is looked at again
        in the last moment before, with nothing in between at which this thread could be switched away from.
        """
        with self._lock:
            if self.job is not job or self._struck or not self._window.get("inside"):
                return False
            if aio.strike(limit, self._ident):
                # It waits for a coroutine, and that is where the limit belongs.
                self._struck = True
                return True
            ident, exception = ctypes.c_ulong(self._ident), ctypes.py_object(_strike_of(limit))
            frame = sys._current_frames().get(self._ident)
            if frame is None:
                return False
            where = frame.f_lasti
            if commits(frame):
                return False
            now = sys._current_frames().get(self._ident)
            if now is frame and frame.f_lasti == where and self._window["inside"]:
                self._struck = _set_async_exc(ident, exception) == 1
            return self._struck
