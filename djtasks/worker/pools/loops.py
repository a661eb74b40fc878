"""Crowds of coroutines: all `async def` tasks share one event loop, the others have a few threads beside it.

What coroutines ask of Django's ORM is done in threads, too, of which each task has one: so a session's state is its own
as long as it does not leave it behind, and no more sessions are open than there are threads.
"""

import asyncio
import contextvars
import itertools
import logging
import marshal
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.db import connections

from djtasks import execution_async, tracer
from djtasks.aio import Body
from djtasks.exceptions import FATAL
from djtasks.messages import Claimed, Outcome, Progress
from djtasks.registry import tasks
from djtasks.worker.clock import stale
from djtasks.worker.hygiene import clean_connections, clean_up
from djtasks.worker.pools.base import STUCK_AFTER, Job
from djtasks.worker.pools.child import ChildOptions
from djtasks.worker.pools.crowd_child import AGAIN, FULL, Ended, Ends, Run, packet_of, unsendable
from djtasks.worker.pools.packets import Reader
from djtasks.worker.pools.seats import Seat
from djtasks.worker.pools.slots import Slots
from djtasks.worker.pools.softlimit import SOFT_AGAIN

logger = logging.getLogger("djtasks.worker")

#: Threads for tasks that are no coroutines, and as many for what coroutines ask of the ORM.
THREADS = 20


class _Desk:
    """A thread in which coroutines have Django's synchronous code done."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(1, "djtasks-orm")
        self.context = ThreadSensitiveContext()
        SyncToAsync.context_to_thread_executor[self.context] = self.executor
        #: Tasks that have it now.
        self.shared = 0

    def leave(self) -> None:
        """One task less: what it has left in a bad state is mended, and all of it when nobody else is there."""
        self.shared -= 1
        self.executor.submit(_mend if self.shared else clean_up)


def _mend() -> None:
    for conn in connections.all(initialized_only=True):
        if conn.errors_occurred and not conn.in_atomic_block:
            conn.close_if_unusable_or_obsolete()


class _Sitting(threading.local):
    """The seat of one of the threads."""

    def __init__(self) -> None:
        self.seat = Seat()
        self.seat.arrive()


class LoopCrowd:
    """A crowd of coroutines."""

    def __init__(self, ends: Ends, slots: Slots, options: ChildOptions) -> None:
        self.ends = ends
        self.slots = slots
        self.options = options
        self.loop = asyncio.new_event_loop()
        self.free = deque(range(slots.count))
        self.threads = ThreadPoolExecutor(THREADS, "djtasks-sync")
        #: For handlers and receivers, which are not to wait for tasks that take long.
        self.aside_threads = ThreadPoolExecutor(THREADS, "djtasks-aside")
        self.desks = itertools.cycle([_Desk() for _ in range(min(THREADS, slots.count))])
        self.runs: dict[int, Run] = {}
        self.ending: dict[int, int] = {}
        self._sitting = _Sitting()
        self._unsent: deque[tuple[Any, ...]] = deque()

    def run(self) -> None:
        """Take jobs until there are no more, and until those that run have ended."""
        asyncio.set_event_loop(self.loop)
        self.room = asyncio.Semaphore(self.slots.count)
        self.thread_room = asyncio.Semaphore(min(THREADS, self.slots.count))
        whole = self.loop.create_task(self._work())
        while not whole.done():
            try:
                self.loop.run_until_complete(whole)
            except FATAL as error:
                # In a coroutine that nobody awaits: no reason to leave the others alone.
                logger.error("A coroutine would have ended the event loop: %r", error)
        for desk in {id(desk): desk for desk in itertools.islice(self.desks, THREADS)}.values():
            desk.executor.submit(connections.close_all)

    async def _work(self) -> None:
        orders = asyncio.create_task(self._obey())
        running: set[asyncio.Task[None]] = set()
        self._post(("ready",))
        while True:
            await self.room.acquire()
            if (packet := await self._read(self.ends.tasks)) is None:
                break
            task = asyncio.create_task(self._take(packet))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)
        orders.cancel()
        while self._unsent:
            await asyncio.sleep(FULL)

    async def _read(self, reader: Reader) -> tuple[Any, ...] | None:
        while True:
            try:
                return reader.read()
            except BlockingIOError:
                there = self.loop.create_future()
                self.loop.add_reader(reader.end.fileno(), _resolve, there)
                try:
                    await there
                finally:
                    self.loop.remove_reader(reader.end.fileno())

    # -- to the worker --------------------------------------------------------------------------------------------

    def _post(self, packet: tuple[Any, ...]) -> None:
        """Send a packet, or keep it while there is no room. In the loop's thread. Raises ValueError."""
        if self._unsent:
            marshal.dumps(packet)
            self._unsent.append(packet)
            return
        try:
            self.ends.send(packet)
        except BlockingIOError:
            self._unsent.append(packet)
            self.loop.call_later(FULL, self._push)

    def _push(self) -> None:
        try:
            while self._unsent:
                self.ends.send(self._unsent[0])
                self._unsent.popleft()
        except BlockingIOError:
            self.loop.call_later(FULL, self._push)

    def _report(self, progress: Progress) -> None:
        packet = ("progress", *progress._replace(state=str.__str__(progress.state)))
        if threading.current_thread() is threading.main_thread():
            self._post(packet)
        else:
            marshal.dumps(packet)
            self.loop.call_soon_threadsafe(self._post, packet)

    # -- a run ----------------------------------------------------------------------------------------------------

    async def _take(self, packet: tuple[Any, ...]) -> None:
        asked, *fields, owner, soft, hard = packet
        message = Claimed._make(fields)
        seat = self.free.popleft()
        try:
            if stale(asked):
                self._post(("stale", message.claim))
                return
            run = Run(seat, message, soft, hard)
            try:
                said = await self._traced(run, owner)
            except Ended as ended:
                said = ("ended", message.claim, ended.hard, ended.signum)
            except BaseException as error:
                # What would end a process ends nothing but this run here.
                said = ("lost", message.claim, f"{type(error).__name__} was raised")
            run.claim = 0
            self.runs.pop(message.claim, None)
            self.ending.pop(message.claim, None)
            if not isinstance(said, Outcome):
                self._post(said)
                return
            try:
                self._post(packet_of(said))
            except ValueError as error:
                self._post(unsendable(message, said, error))
        finally:
            self.free.append(seat)
            self.room.release()

    async def _traced(self, run: Run, owner: int | None) -> Outcome | tuple[Any, ...]:
        task = tasks.get(run.message.name)
        if task is not None and asyncio.iscoroutinefunction(task.run):
            self._begin(run)
            return await self._coroutine(run, owner)
        try:
            # With nobody to wait for, unless threads are all taken.
            await asyncio.wait_for(self.thread_room.acquire(), STUCK_AFTER)
        except TimeoutError:
            return ("stale", run.message.claim)
        try:
            self._begin(run)
            return await self.loop.run_in_executor(self.threads, self._in_thread, run, owner)
        finally:
            self.thread_room.release()

    def _begin(self, run: Run) -> None:
        run.since = time.monotonic()
        run.signum = self.ending.get(run.claim)
        self.slots.take(run.seat, run.claim, run.since)
        self.runs[run.claim] = run
        for limit in (run.soft, run.hard, None if run.signum is None else 0.0):
            if limit is not None:
                self.loop.call_later(limit, self._strike, run)

    async def _coroutine(self, run: Run, owner: int | None) -> Outcome:
        message = run.message
        frame = tracer.framed(message, self.options.hostname, self._report, owner)
        if isinstance(frame, Outcome):
            return frame
        desk = next(self.desks)
        desk.shared += 1
        SyncToAsync.thread_sensitive_context.set(desk.context)

        def began(body: Body[Any]) -> None:
            run.body = body

        try:
            return (await execution_async.execute(frame, self._aside, began)).outcome
        except FATAL:
            raise
        except BaseException as error:
            return tracer.broken(frame, message, error)
        finally:
            desk.leave()

    async def _aside(self, function: Callable[..., Any], *arguments: Any) -> Any:
        context = contextvars.copy_context()
        return await self.loop.run_in_executor(self.aside_threads, context.run, _cleanly, function, *arguments)

    def _in_thread(self, run: Run, owner: int | None) -> Outcome:
        """A task that is no coroutine."""
        message, seat = run.message, self._sitting.seat
        clean_connections()
        run.body = seat
        seat.enter(Job(message, run.soft, run.hard))
        try:
            outcome = tracer.trace(message, hostname=self.options.hostname, reporter=self._report, owner=owner)
        except Exception as error:
            # The soft limit came in the last moment, when the task's own code was over.
            outcome = tracer.failure(message, error)
        finally:
            seat.leave()
        clean_up()
        return outcome

    # -- limits ---------------------------------------------------------------------------------------------------

    async def _obey(self) -> None:
        """Hear which runs are to end."""
        while (packet := await self._read(self.ends.orders)) is not None:
            self.ending[packet[1]] = packet[2]
            if (run := self.runs.get(packet[1])) is not None:
                run.signum = packet[2]
                self._strike(run)

    def _strike(self, run: Run) -> None:
        """In the loop: raise what is due, where that can be done; again until the run ends.

        A thread cannot be ended: when its task does not end by itself, the worker kills this process.
        """
        if not run.claim or (error := run.due(time.monotonic() + 0.001)) is None:
            return
        body = run.body
        if isinstance(error, Ended):
            if isinstance(body, Body):
                body.break_off(error)
            self.loop.call_later(AGAIN, self._strike, run)
        elif isinstance(body, Body):
            run.tell_soft(self.slots)
            body.strike(float(run.soft or 0))
        elif isinstance(body, Seat) and (job := body.job) is not None and body.strike(job, float(run.soft or 0)):
            run.tell_soft(self.slots)
        else:
            self.loop.call_later(SOFT_AGAIN, self._strike, run)

    def nudge(self, number: int, frame: FrameType | None) -> None:
        """A coroutine that lets nothing else run, not even the loop with its timers."""
        for run in list(self.runs.values()):
            if isinstance(run.body, Body) and run.body.inside:
                break
        else:
            return
        try:
            while (packet := self.ends.orders.read()) is not None:
                self.ending[packet[1]] = packet[2]
        except BlockingIOError:
            run.signum = self.ending.get(run.claim)
        error = run.due(time.monotonic() + 0.001)
        if error is None:
            return
        if not isinstance(error, Ended):
            run.tell_soft(self.slots)
        raise error


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _cleanly(function: Callable[..., Any], *arguments: Any) -> Any:
    clean_connections()
    try:
        return function(*arguments)
    finally:
        clean_up()
