"""A child: takes one message after another from its socket, runs it, sends its outcome back.

It holds no connection to the queue, only those that tasks open through Django, which are treated around each task as
around a request. It is a copy of the fork server and dies with it.
"""

import contextlib
import importlib
import logging
import os
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterable
from types import FrameType
from typing import Any, NamedTuple, Never

import django
from django.db import connections

from djtasks import aio, log, signals, tracer
from djtasks.exceptions import EncodeError
from djtasks.finding import find_app
from djtasks.messages import Claimed, Outcome, Progress
from djtasks.registry import import_default_modules
from djtasks.worker import titles
from djtasks.worker.clock import stale
from djtasks.worker.hygiene import clean_connections, clean_up, drop_inherited
from djtasks.worker.identity import indexed
from djtasks.worker.pools import packets
from djtasks.worker.pools.base import Job
from djtasks.worker.pools.slots import Slots
from djtasks.worker.pools.softlimit import may_strike, soft_limit

logger = logging.getLogger("djtasks.worker")

#: The exit code of a child that has run all the tasks, or taken all the memory, that it may.
RECYCLED = 155


class ChildOptions(NamedTuple):
    """What a child has to know; plain values, so that they can be handed to another interpreter."""

    hostname: str
    max_tasks: int | None = None
    #: KiB of resident memory.
    max_memory: int | None = None
    loglevel: int = logging.WARNING
    logfile: str | None = None
    #: Modules that a fresh interpreter imports, besides those of the settings.
    include: tuple[str, ...] = ()
    #: The app that a fresh interpreter makes the current one, as `-A` names it.
    app: str = ""
    #: Of a crowd: what kind, by its pool's name.
    crowd: str = ""

    def load(self, modules: Iterable[str] = ()) -> None:
        """Import, in an interpreter that is no copy of the worker, what the worker has; and these modules."""
        django.setup()
        if self.app:
            find_app(self.app).set_current()
        import_default_modules()
        for name in (*self.include, *modules):
            importlib.import_module(name)

    def with_logging(self) -> "ChildOptions":
        """Set up logging in an interpreter that is no copy of the worker."""
        log.setup_logging(self.loglevel, self.logfile and indexed(self.logfile, 0))
        return self

    def with_own_log(self, index: int) -> None:
        """Log into the child's own file, where each has one."""
        if self.logfile and (name := indexed(self.logfile, index)) != indexed(self.logfile, 0):
            log.setup_logging(self.loglevel, name)


class Child:
    """The loop of a child's own process."""

    def __init__(self, slot: int, tasks: socket.socket, outcomes: socket.socket, slots: Slots, options: ChildOptions):
        self.slot = slot
        self.reader = packets.Reader(tasks)
        self.outcomes = outcomes
        self.slots = slots
        self.options = options
        self.claim = 0

    def run(self) -> int:
        """Run until the socket is closed (0) or the child is to be replaced (RECYCLED); returns the exit code."""
        done = 0
        read, take, slot = self.reader.read, self.slots.take, self.slot
        hostname = self.options.hostname
        packets.send(self.outcomes, ("ready",))
        while (packet := read()) is not None:
            asked, *fields, owner = packet
            message = Claimed._make(fields)
            if stale(asked):
                packets.send(self.outcomes, ("stale", message.claim))
                continue
            take(slot, message.claim, time.monotonic())
            self.claim = message.claim
            clean_connections()
            outcome = tracer.trace(message, hostname=hostname, reporter=self.report, owner=owner)
            self.claim = 0
            self.tell(message, outcome)
            clean_up()
            done += 1
            if self.used_up(done):
                return RECYCLED
        return 0

    def tell(self, message: Claimed, outcome: Outcome) -> None:
        """Send an outcome up to the worker."""
        again = outcome.again
        try:
            packets.send(self.outcomes, ("outcome", *outcome[:-1], None if again is None else tuple(again)))
        except ValueError as error:
            # An option of a retry that is no plain value, say: it ends this task, not this process.
            failure = tracer.failure(message, EncodeError(f"the outcome ({outcome.state}) could not be sent: {error}"))
            packets.send(self.outcomes, ("outcome", *failure))

    def report(self, progress: Progress) -> None:
        """Send a state that is no end up to the worker, which stores it."""
        # A state may be a member of an enum, which does not travel.
        packets.send(self.outcomes, ("progress", *progress._replace(state=str.__str__(progress.state))))

    def used_up(self, done: int) -> bool:
        """Whether this child is to be replaced."""
        most, memory = self.options.max_tasks, self.options.max_memory
        if most is not None and done >= most:
            return True
        if memory is not None and resident() > memory:
            logger.warning("Child %d uses more than %d KiB of memory and will be replaced", os.getpid(), memory)
            return True
        return False

    def on_signal(self, number: int, _: FrameType | None) -> None:
        """End the process as the signal does, if it is this very run that is to end; else it means nothing."""
        if self.claim and self.slots.asked_end(self.slot) == self.claim:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def on_soft_limit(self, _: int, frame: FrameType | None) -> None:
        """Raise SoftTimeLimitExceeded, if it is this very run that is over its limit, and only in the task's code."""
        claim, limit = self.slots.asked_soft(self.slot)
        if claim != self.claim:
            return
        if aio.strike(limit):
            self.slots.hear_soft(self.slot, claim)
        elif may_strike(frame):
            self.slots.hear_soft(self.slot, claim)
            raise soft_limit(limit)


def resident() -> int:
    """The largest resident memory this process has had, in KiB."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used // 1024 if sys.platform == "darwin" else used


def run_child(slot: int, tasks: socket.socket, outcomes: socket.socket, slots: Slots, options: ChildOptions) -> Never:
    """Be a child until there is nothing left to do; never returns."""
    code = 1
    try:
        child = Child(slot, tasks, outcomes, slots, options)
        signal.signal(signal.SIGUSR1, child.on_soft_limit)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, child.on_signal)
        random.seed()
        drop_inherited()
        log.set_process_name(f"ForkPoolWorker-{slot + 1}")
        titles.name(f"{options.hostname}:ForkPoolWorker-{slot + 1}")
        options.with_own_log(slot + 1)
        if signals.worker_process_init.receivers:
            signals.worker_process_init.send(sender=None)
        code = child.run()
        if signals.worker_process_shutdown.receivers:
            signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=code)
        connections.close_all()
    except (BrokenPipeError, ConnectionResetError):
        code = 1
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        logger.exception("The child %d failed outside of any task", os.getpid())
    finally:
        with contextlib.suppress(Exception):
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def as_fields(job: Job) -> tuple[Any, ...]:
    """The packet in which a job is handed over; the worker keeps its limits."""
    return (job.asked, *job.message, job.owner)
