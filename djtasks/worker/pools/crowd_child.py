"""What the children of crowds have in common: a crowd is one process in which many tasks wait at the same time.

Its greenlets or coroutines are its seats: each has a slot in the shared memory, and takes one job after another.
"""

import _socket
import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import sys
import time
from types import FrameType
from typing import Any, Never, Protocol

from django.db import connections

from djtasks import log, signals, tracer
from djtasks.exceptions import EncodeError, WorkerTerminate
from djtasks.messages import Claimed, Outcome
from djtasks.worker import titles
from djtasks.worker.pools import packets
from djtasks.worker.pools.child import ChildOptions
from djtasks.worker.pools.slots import Slots
from djtasks.worker.pools.softlimit import soft_limit

logger = logging.getLogger("djtasks.worker")

#: A run that is broken off and goes on is broken off again after so many seconds.
AGAIN = 0.5
#: How long to wait for room in the worker's socket, in seconds.
FULL = 0.005
#: The open files of the process, and those of each seat.
FILES, FILES_A_SEAT = 256, 4


class Ended(WorkerTerminate, asyncio.CancelledError):
    """Raised in a run that is to end: over its hard limit, or revoked. No task's code should catch it.

    For libraries it is a cancellation, so that they clean up.
    """

    def __init__(self, hard: float | None = None, signum: int | None = None) -> None:
        super().__init__("the run is to end")
        self.hard = hard
        self.signum = signum


class Run:
    """What a seat is at."""

    __slots__ = ("body", "claim", "hard", "message", "seat", "signum", "since", "soft", "told")

    def __init__(self, seat: int, message: Claimed, soft: float | None, hard: float | None) -> None:
        self.seat = seat
        self.message = message
        #: 0 once it is over: nothing is raised any more.
        self.claim = message.claim
        self.soft = soft
        self.hard = hard
        #: The signal by which it is to end, because it is revoked.
        self.signum: int | None = None
        #: Whether its soft limit was raised.
        self.told = False
        self.since = time.monotonic()
        #: The coroutine.
        self.body: Any = None

    def due(self, now: float) -> BaseException | None:
        """What is to be raised in it now, if anything is."""
        if self.signum is not None:
            return Ended(signum=self.signum)
        if self.hard is not None and now - self.since >= self.hard:
            return Ended(hard=self.hard)
        if self.soft is not None and not self.told and now - self.since >= self.soft:
            return soft_limit(self.soft)
        return None

    def tell_soft(self, slots: Slots) -> None:
        """Note that the soft limit is raised."""
        self.told = True
        slots.hear_soft(self.seat, self.claim)
        message = self.message
        logger.warning("Soft time limit (%ss) exceeded for %s[%s]", self.soft, message.name, message.id)


class Ends:
    """The child's ends of its two sockets, which never block."""

    def __init__(self, tasks: int, outcomes: int) -> None:
        # Not the sockets of a patched standard library: when to wait, and how, is said by the crowd itself.
        self._outcomes = _socket.socket(fileno=outcomes)
        self._outcomes.setblocking(False)
        self.tasks = packets.Reader(_socket.socket(fileno=tasks), socket.MSG_DONTWAIT)  # type: ignore[arg-type]
        #: What the worker says of runs that have begun comes this way.
        self.orders = packets.Reader(self._outcomes, socket.MSG_DONTWAIT)  # type: ignore[arg-type]

    def send(self, packet: tuple[Any, ...]) -> None:
        """Send a packet. Raises BlockingIOError while there is no room, ValueError for what cannot travel."""
        try:
            packets.send(self._outcomes, packet)  # type: ignore[arg-type]
        except (BrokenPipeError, ConnectionResetError):
            # Nobody is there to be told.
            os._exit(1)


def packet_of(outcome: Outcome) -> tuple[Any, ...]:
    """An outcome as it travels."""
    again = outcome.again
    return ("outcome", *outcome[:-1], None if again is None else tuple(again))


def unsendable(message: Claimed, outcome: Outcome, error: ValueError) -> tuple[Any, ...]:
    """What is sent where an outcome cannot travel: an option of a retry that is no plain value, say."""
    text = f"the outcome ({outcome.state}) could not be sent: {error}"
    return ("outcome", *tracer.failure(message, EncodeError(text)))


class Crowd(Protocol):
    """The loop of a crowd's process."""

    slots: Slots

    def run(self) -> None:
        """Take jobs until there are no more."""

    def nudge(self, number: int, frame: FrameType | None) -> None:
        """At SIGUSR1: what runs at this very moment, and lets nothing else run, may be over its limit."""


def _ignore(*_: object) -> None:
    """As the children of prefork do: not SIG_IGN, which what a task executes would inherit."""


def allow_files(seats: int) -> None:
    """Let each seat have a few open files, a session of the database among them, as far as the system lets us."""
    may, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES + FILES_A_SEAT * seats
    if most != resource.RLIM_INFINITY:
        wanted = min(wanted, most)
    if may != resource.RLIM_INFINITY and may < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def work(crowd: Crowd, options: ChildOptions) -> Never:
    """Be a crowd until there is nothing left to do; never returns."""
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, _ignore)
        signal.signal(signal.SIGUSR1, crowd.nudge)
        allow_files(crowd.slots.count)
        log.set_process_name("CrowdWorker-1")
        titles.name(f"{options.hostname}:CrowdWorker-1")
        if signals.worker_process_init.receivers:
            signals.worker_process_init.send(sender=None)
        crowd.run()
        code = 0
        if signals.worker_process_shutdown.receivers:
            signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=code)
        connections.close_all()
    except BaseException:
        logger.exception("The child %d failed outside of any task", os.getpid())
    finally:
        with contextlib.suppress(Exception):
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
