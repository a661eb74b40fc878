"""Coroutines of `async def` tasks: run to their end from a thread that is not asynchronous itself.

Each thread that runs tasks has an event loop of its own, in a thread beside it, which is kept for its next task: a
client that belongs to a loop may live in a module. Code that needs the task's own thread (Django's ORM does) runs
there, on that thread's connection, exactly as in a task that is a plain function.
"""

import asyncio
import contextvars
import logging
import os
import sys
import threading
from collections.abc import Coroutine, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import _base as concurrent_futures
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from asgiref import sync as asgiref
from asgiref.sync import SyncToAsync, async_to_sync
from django.db import close_old_connections, connections

from djtasks.current import Frame, pop, push
from djtasks.einfo import hide_frames_of
from djtasks.exceptions import ImproperlyConfigured, SoftTimeLimitExceeded

R = TypeVar("R")

logger = logging.getLogger("djtasks.tracer")
for _module in (sys.modules[__name__], asgiref, concurrent_futures):
    hide_frames_of(str(_module.__file__))

#: How long coroutines that a task has left behind are given to end, once they are cancelled (seconds).
LEFT_BEHIND = 5.0


class SoftTimeLimitCancelled(SoftTimeLimitExceeded, asyncio.CancelledError):
    """The soft time limit, as a coroutine sees it: libraries clean up after a cancellation, authors after a limit."""


class Body(Coroutine[Any, Any, R]):
    """A task's coroutine. A cancellation that is meant as the soft time limit reaches it as such."""

    def __init__(self, coroutine: Coroutine[Any, Any, R]) -> None:
        self._coroutine = coroutine
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        #: The limit that is to be raised at the next `await`.
        self._due: float | None = None
        #: The limit that was raised.
        self.struck: float | None = None
        #: What it is to end with at the next `await`.
        self._end: BaseException | None = None
        #: Whether its own code runs at this very moment.
        self.inside = False

    def begin(self) -> None:
        """It is about to run, in the asyncio task that runs now."""
        self._task, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        if self._due is not None:
            self._cancel()

    def end(self) -> None:
        """It has ended."""
        self._task = None

    def strike(self, limit: float) -> None:
        """Raise the soft time limit in it; from any thread, or a signal handler."""
        self._due = limit
        self.cancel()

    def break_off(self, error: BaseException) -> None:
        """Raise this in it, to end it; from any thread."""
        self._end = error
        self.cancel()

    def cancel(self) -> None:
        """Cancel it, if it runs; from any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # -- being awaited --------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, R]:
        return self

    def __iter__(self) -> "Body[R]":
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        """Go on."""
        self.inside = True
        try:
            return self._coroutine.send(value)
        finally:
            self.inside = False

    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any:
        """Go on with an exception."""
        error = kind if isinstance(kind, BaseException) else value if isinstance(value, BaseException) else kind()
        if self._end is not None and isinstance(error, asyncio.CancelledError):
            error, self._end = self._end, None
        elif self._due is not None and isinstance(error, asyncio.CancelledError):
            self.struck, self._due = self._due, None
            if self._task is not None:
                # It may go on for as long as the hard limit lets it.
                self._task.uncancel()
            error = SoftTimeLimitCancelled(self.struck)
        self.inside = True
        try:
            return self._coroutine.throw(error)
        finally:
            self.inside = False

    def close(self) -> None:
        """Give it up."""
        self._coroutine.close()


class _Threads(ThreadPoolExecutor):
    """Where `asyncio.to_thread` runs what it is given: connections are treated there as around a request."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        return super().submit(_cleanly, fn, *args, **kwargs)


def _cleanly(fn: Any, *args: Any, **kwargs: Any) -> Any:
    close_old_connections()
    try:
        return fn(*args, **kwargs)
    finally:
        close_old_connections()


class _LoopThread(threading.Thread):
    """Runs the event loop of one other thread."""

    def __init__(self) -> None:
        super().__init__(name="djtasks-loop", daemon=True)
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(_Threads(thread_name_prefix="djtasks-loop-worker"))

    def run(self) -> None:
        """Until the loop is stopped."""
        asyncio.set_event_loop(self.loop)
        while True:
            try:
                self.loop.run_forever()
                break
            except BaseException:
                # SystemExit, say, in a coroutine that nobody awaits: no reason to leave the others alone.
                logger.exception("A coroutine would have ended the event loop")
        self.loop.close()


class _Loop:
    """The event loop of the thread that holds this; ends with it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        thread = _LoopThread()
        self.loop = thread.loop
        thread.start()

    def __del__(self) -> None:
        with suppress(Exception):
            if self.pid == os.getpid():
                self.loop.call_soon_threadsafe(self.loop.stop)


class _Home(threading.local):
    """What belongs to one thread."""

    loop: _Loop | None = None


_home = _Home()
#: What runs, by the thread that waits for it.
_bodies: dict[int, Body[Any]] = {}
#: Loops of the process that this one was forked from: closing them here would touch what they share with it.
_inherited: list[asyncio.AbstractEventLoop] = []


def _forget() -> None:
    _bodies.clear()
    if (left := _home.loop) is not None:
        _inherited.append(left.loop)
        _home.loop = None


os.register_at_fork(after_in_child=_forget)


@contextmanager
def _lent_loop() -> Iterator[bool]:
    """A loop for `async_to_sync`; True when nothing else runs in it.

    Where this thread does the synchronous work of a loop that runs, that loop goes on with the coroutine.
    """
    local = SyncToAsync.threadlocal
    before = {name: getattr(local, name) for name in _NAMES if hasattr(local, name)}
    loop = before.get("main_event_loop")
    if loop is not None and before.get("main_event_loop_pid") == os.getpid() and loop.is_running():
        yield _home.loop is not None and loop is _home.loop.loop and threading.get_ident() not in _bodies
        return
    if _home.loop is None:
        _home.loop = _Loop()
    local.main_event_loop, local.main_event_loop_pid = _home.loop.loop, os.getpid()
    try:
        yield True
    finally:
        for name in _NAMES:
            if name in before:
                setattr(local, name, before[name])
            elif hasattr(local, name):
                delattr(local, name)


#: Where asgiref looks for a loop to use before it makes one.
_NAMES = ("main_event_loop", "main_event_loop_pid")


#: Why no coroutine can be run in this process, where that is so.
refusal: str | None = None


def run(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a task's coroutine to its end in this thread's loop; returns what it returns, raises what it raises.

    What it has left behind in its loop is cancelled. In a thread whose own event loop runs, which stands still
    meanwhile, it is run in yet another thread. Raises ImproperlyConfigured in a process that runs none.
    """
    if refusal is not None:
        coroutine.close()
        raise ImproperlyConfigured(refusal)
    if not _in_a_loop():
        return _run_here(coroutine)
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1, "djtasks-beside") as executor:
        return executor.submit(context.run, _run_beside, coroutine).result()


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_beside(coroutine: Coroutine[Any, Any, R]) -> R:
    try:
        return _run_here(coroutine)
    finally:
        connections.close_all()


def _run_here(coroutine: Coroutine[Any, Any, R]) -> R:
    body = Body(coroutine)
    thread = threading.get_ident()
    outer = _bodies.get(thread)
    with _lent_loop() as alone:
        _bodies[thread] = body
        try:
            value: R = async_to_sync(_main)(body, alone)
            return value
        except BaseException as error:
            # Not its own exception, perhaps, but one that was raised in this thread: it must not go on alone.
            body.cancel()
            if body.struck is not None and isinstance(error, asyncio.CancelledError):
                raise SoftTimeLimitExceeded(body.struck).with_traceback(error.__traceback__) from error.__cause__
            raise
        finally:
            if outer is None:
                del _bodies[thread]
            else:
                _bodies[thread] = outer


async def _main(body: Body[R], alone: bool) -> R:
    body.begin()
    try:
        return await body
    finally:
        body.end()
        if alone:
            await _end_the_rest()


async def _end_the_rest() -> None:
    """Cancel what the task has begun and not awaited: the loop stands still until the next task."""
    loop = asyncio.get_running_loop()
    rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in rest:
        task.cancel()
    if not rest:
        return
    done, pending = await asyncio.wait(rest, timeout=LEFT_BEHIND)
    for task in done:
        if not task.cancelled() and (error := task.exception()) is not None:
            loop.call_exception_handler(
                {"message": "a coroutine that a task had left behind failed", "exception": error, "task": task}
            )
    for task in pending:
        logger.warning("A coroutine that a task had left behind does not let itself be cancelled: %r", task)


def strike(limit: float, thread: int | None = None) -> bool:
    """Raise the soft time limit in the coroutine that a thread runs (by its ident; None: this one).

    It is raised at its next `await`. False when the thread runs none. May be called in a signal handler.
    """
    body = _bodies.get(threading.get_ident() if thread is None else thread)
    if body is None:
        return False
    body.strike(limit)
    return True


async def framed(frame: Frame, coroutine: Coroutine[Any, Any, R]) -> R:
    """Await a coroutine with `frame` as the task that runs."""
    push(frame)
    try:
        return await coroutine
    finally:
        pop(frame)
