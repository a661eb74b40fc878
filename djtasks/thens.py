"""Callbacks that a process wants to be called when tasks have ended. One thread calls them, one after the other."""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any

from django.db import connections

from djtasks.messages import Stored
from djtasks.waiting import Waiter, join_hub

logger = logging.getLogger("djtasks.result")

Callback = Callable[[Any], Any]
OnError = Callable[[BaseException], Any]

#: How often the table is asked when no ring comes, in seconds.
INTERVAL = 0.5


class _Event:
    """Lets the thread call a callback when the last of its tasks has ended."""

    __slots__ = ("caller", "left", "lock")

    def __init__(self, caller: "_Caller", left: int) -> None:
        self.caller = caller
        self.left = left
        self.lock = threading.Lock()

    def set(self) -> None:
        """One more has."""
        with self.lock:
            self.left -= 1
            done = not self.left
        if done:
            _calls().put(self.caller)


class _Caller:
    """A result, and what is to be called with it."""

    __slots__ = ("callback", "on_error", "result")

    def __init__(self, result: Any, callback: Callback, on_error: OnError | None) -> None:
        self.result = result
        self.callback = callback
        self.on_error = on_error

    def __call__(self) -> None:
        try:
            self.callback(self.result)
        except Exception as error:
            if self.on_error is None:
                raise
            self.on_error(error)


_queue: "SimpleQueue[_Caller] | None" = None
_lock = threading.Lock()


def _forget() -> None:
    """A forked child has no such thread."""
    global _queue, _lock
    _queue, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)


def _calls() -> "SimpleQueue[_Caller]":
    """The queue of the thread, which is started when it is first needed."""
    global _queue
    with _lock:
        if _queue is None:
            _queue = SimpleQueue()
            threading.Thread(target=_serve, args=(_queue,), name="djtasks-then", daemon=True).start()
        return _queue


def _serve(queue: "SimpleQueue[_Caller]") -> None:
    while True:
        call = queue.get()
        try:
            call()
        except Exception:
            logger.exception("A callback of %s failed", call.result)
        finally:
            # The callback may have used the database; nobody else has this thread's connections.
            with contextlib.suppress(Exception):
                connections.close_all()


class _Waiter(Waiter):
    """Keeps the result where the callback will look for it."""

    __slots__ = ("keep",)

    def __init__(self, event: Any, keep: Callable[[Stored], None]) -> None:
        super().__init__(INTERVAL, event)
        self.keep = keep

    def arrive(self, stored: Stored) -> None:
        self.keep(stored)
        super().arrive(stored)


def then(result: Any, callback: Callback, on_error: OnError | None) -> None:
    """Call `callback(result)` once all tasks of `result` have ended."""
    caller = _Caller(result, callback, on_error)
    keeps: Mapping[str, Callable[[Stored], None]] = result.unended()
    if not keeps:
        caller()
        return
    event = _Event(caller, len(keeps))
    join_hub({task_id: _Waiter(event, keep) for task_id, keep in keeps.items()})
