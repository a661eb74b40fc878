"""Crowds of greenlets: permanent ones, so that each keeps its connection to the database, as a thread would.

A limit is raised in a greenlet by the hub, while that greenlet waits; where one lets nothing else run, by a signal.
"""

import importlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import FrameType
from typing import Any

from django.db import connections

from djtasks import aio, signals, tracer
from djtasks.messages import Claimed, Outcome, Progress
from djtasks.worker.clock import stale
from djtasks.worker.hygiene import clean_connections, clean_up
from djtasks.worker.pools.child import ChildOptions
from djtasks.worker.pools.crowd_child import AGAIN, FULL, Ended, Ends, Run, packet_of, unsendable
from djtasks.worker.pools.packets import Reader
from djtasks.worker.pools.slots import Slots
from djtasks.worker.pools.softlimit import SOFT_AGAIN, commits

logger = logging.getLogger("djtasks.worker")


class Hub(ABC):
    """What is asked of a library of greenlets."""

    name: str

    @abstractmethod
    def spawn(self, function: Callable[..., object], *arguments: Any) -> Any:
        """A greenlet that runs the function."""

    @abstractmethod
    def current(self) -> Any:
        """The greenlet that runs."""

    @abstractmethod
    def sleep(self, seconds: float) -> None:
        """Let others run for so long."""

    @abstractmethod
    def readable(self, descriptor: int) -> None:
        """Wait until there is something to read."""

    @abstractmethod
    def after(self, seconds: float, function: Callable[[], object]) -> Callable[[], object]:
        """Have the hub itself call the function; returns what calls that off."""

    @abstractmethod
    def semaphore(self, value: int) -> Any:
        """A semaphore."""

    @abstractmethod
    def queue(self) -> Any:
        """A queue without bounds."""


class Gevent(Hub):
    """gevent's."""

    name = "gevent"

    def __init__(self) -> None:
        self.gevent = importlib.import_module("gevent")
        self._socket = importlib.import_module("gevent.socket")
        self._lock = importlib.import_module("gevent.lock")
        self._queue = importlib.import_module("gevent.queue")

    def spawn(self, function: Callable[..., object], *arguments: Any) -> Any:
        return self.gevent.spawn(function, *arguments)

    def current(self) -> Any:
        return self.gevent.getcurrent()

    def sleep(self, seconds: float) -> None:
        self.gevent.sleep(seconds)

    def readable(self, descriptor: int) -> None:
        self._socket.wait_read(descriptor)

    def after(self, seconds: float, function: Callable[[], object]) -> Callable[[], object]:
        timer = self.gevent.get_hub().loop.timer(max(0.0, seconds))
        timer.start(function)
        close: Callable[[], object] = timer.close
        return close

    def semaphore(self, value: int) -> Any:
        return self._lock.Semaphore(value)

    def queue(self) -> Any:
        return self._queue.Queue()


class Eventlet(Hub):
    """eventlet's."""

    name = "eventlet"

    def __init__(self) -> None:
        self.eventlet = importlib.import_module("eventlet")
        self._hubs = importlib.import_module("eventlet.hubs")
        self._semaphore = importlib.import_module("eventlet.semaphore")
        self._queue = importlib.import_module("eventlet.queue")

    def spawn(self, function: Callable[..., object], *arguments: Any) -> Any:
        return self.eventlet.spawn(function, *arguments)

    def current(self) -> Any:
        return self.eventlet.getcurrent()

    def sleep(self, seconds: float) -> None:
        self.eventlet.sleep(seconds)

    def readable(self, descriptor: int) -> None:
        self._hubs.trampoline(descriptor, read=True)

    def after(self, seconds: float, function: Callable[[], object]) -> Callable[[], object]:
        cancel: Callable[[], object] = self._hubs.get_hub().schedule_call_global(max(0.0, seconds), function).cancel
        return cancel

    def semaphore(self, value: int) -> Any:
        return self._semaphore.Semaphore(value)

    def queue(self) -> Any:
        return self._queue.LightQueue()


def hub_of(name: str) -> Hub:
    """The hub of a library, which has patched the standard library already."""
    return {"gevent": Gevent, "eventlet": Eventlet}[name]()


class Seat:
    """One greenlet, and what it runs."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.greenlet: Any = None
        self.run: Run | None = None
        #: This greenlet's part of `soft_limit_window`.
        self.window: dict[str, Any] = {}


class GreenCrowd:
    """A crowd of greenlets."""

    def __init__(self, hub: Hub, ends: Ends, slots: Slots, options: ChildOptions) -> None:
        self.hub = hub
        self.ends = ends
        self.slots = slots
        self.options = options
        self.seats = [Seat(number) for number in range(slots.count)]
        self.sitting: dict[Any, Seat] = {}
        self.free = hub.semaphore(slots.count)
        self.jobs = hub.queue()
        #: Claims whose runs are to end, by the signal: some may not have begun.
        self.ending: dict[int, int] = {}

    def run(self) -> None:
        """Take jobs until there are no more, and until those that run have ended."""
        aio.refusal = (
            f"async def tasks do not run in the {self.hub.name} pool, whose greenlets have no event loop: call it for a"
            " worker with --pool asyncio, prefork or threads"
        )
        for seat in self.seats:
            seat.greenlet = self.hub.spawn(self._sit, seat)
        orders = self.hub.spawn(self._obey)
        self._tell_eventlet(signals.eventlet_pool_started)
        self._send(("ready",))
        while True:
            self.free.acquire()
            if (packet := self._read(self.ends.tasks)) is None:
                break
            self.jobs.put(packet)
        for _ in self.seats[1:]:
            self.free.acquire()
        self._tell_eventlet(signals.eventlet_pool_preshutdown)
        for _ in self.seats:
            self.jobs.put(None)
        for seat in self.seats:
            while seat.greenlet:
                self.hub.sleep(FULL)
        self._tell_eventlet(signals.eventlet_pool_postshutdown)
        del orders

    def _tell_eventlet(self, signal: Any, **more: Any) -> None:
        if self.hub.name == "eventlet" and signal.receivers:
            signal.send(sender=self, **more)

    def _read(self, reader: Reader) -> tuple[Any, ...] | None:
        while True:
            try:
                return reader.read()
            except BlockingIOError:
                self.hub.readable(reader.end.fileno())

    def _send(self, packet: tuple[Any, ...]) -> None:
        while True:
            try:
                self.ends.send(packet)
            except BlockingIOError:
                self.hub.sleep(FULL)
            else:
                return

    # -- a seat ---------------------------------------------------------------------------------------------------

    def _sit(self, seat: Seat) -> None:
        """One greenlet's life."""
        seat.window = tracer.soft_limit_window.__dict__
        self.sitting[self.hub.current()] = seat
        while (packet := self.jobs.get()) is not None:
            asked, *fields, owner, soft, hard = packet
            message = Claimed._make(fields)
            if stale(asked):
                self._send(("stale", message.claim))
            else:
                self._tell_eventlet(signals.eventlet_pool_apply, target=tracer.trace, args=(message,), kwargs={})
                self._take(seat, Run(seat.number, message, soft, hard), owner)
            self.free.release()
        connections.close_all()

    def _take(self, seat: Seat, run: Run, owner: int | None) -> None:
        message = run.message
        run.signum = self.ending.get(message.claim)
        limits = [self.hub.after(limit, lambda: self._strike(seat, run)) for limit in (run.soft, run.hard) if limit]
        if run.signum is not None:
            limits.append(self.hub.after(0, lambda: self._strike(seat, run)))
        said: Outcome | tuple[Any, ...]
        try:
            said = self._traced(seat, run, owner)
            run.claim = 0
        except Ended as ended:
            said = ("ended", message.claim, ended.hard, ended.signum)
        except BaseException as error:
            # What would end a process ends nothing but this run here.
            said = ("lost", message.claim, f"{type(error).__name__} was raised")
        run.claim = 0
        seat.run = None
        self.ending.pop(message.claim, None)
        for cancel in limits:
            cancel()
        if isinstance(said, Outcome):
            self._tell(message, said)
            clean_up()
        else:
            self._send(said)
            # Broken off wherever it was: nobody knows what state they are in.
            connections.close_all()

    def _traced(self, seat: Seat, run: Run, owner: int | None) -> Outcome:
        self.slots.take(seat.number, run.claim, run.since)
        seat.run = run
        clean_connections()
        return tracer.trace(run.message, hostname=self.options.hostname, reporter=self._report, owner=owner)

    def _tell(self, message: Claimed, outcome: Outcome) -> None:
        try:
            self._send(packet_of(outcome))
        except ValueError as error:
            self._send(unsendable(message, outcome, error))

    def _report(self, progress: Progress) -> None:
        self._send(("progress", *progress._replace(state=str.__str__(progress.state))))

    # -- limits ---------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        """Hear which runs are to end."""
        while (packet := self._read(self.ends.orders)) is not None:
            self._end(packet[1], packet[2])

    def _end(self, claim: int, signum: int) -> None:
        self.ending[claim] = signum
        for seat in self.seats:
            run = seat.run
            if run is not None and run.claim == claim:
                run.signum = signum
                self.hub.after(0, lambda seat=seat, run=run: self._strike(seat, run))  # type: ignore[misc]

    def _strike(self, seat: Seat, run: Run) -> None:
        """In the hub, so that the greenlet waits: raise in it what is due, where that may be; again until it ends."""
        if not run.claim or (error := run.due(self._now())) is None:
            return
        where = seat.greenlet.gr_frame
        ends = isinstance(error, Ended)
        if commits(where) or not (ends or seat.window.get("inside")):
            self.hub.after(SOFT_AGAIN, lambda: self._strike(seat, run))
            return
        if ends:
            self.hub.after(AGAIN, lambda: self._strike(seat, run))
        else:
            run.tell_soft(self.slots)
        seat.greenlet.throw(error)

    def _now(self) -> float:
        # A timer may fire a moment early.
        return time.monotonic() + 0.001

    def nudge(self, number: int, frame: FrameType | None) -> None:
        """A greenlet that lets nothing else run, not even the hub with its timers."""
        seat = self.sitting.get(self.hub.current())
        if seat is None or (run := seat.run) is None or not run.claim:
            return
        try:
            while (packet := self.ends.orders.read()) is not None:
                self.ending[packet[1]] = packet[2]
        except BlockingIOError:
            run.signum = self.ending.get(run.claim)
        error = run.due(self._now())
        if error is None or commits(frame) or not (isinstance(error, Ended) or seat.window.get("inside")):
            return
        if not isinstance(error, Ended):
            run.tell_soft(self.slots)
        raise error
