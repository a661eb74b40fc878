"""The prefork pool: N child processes, one task at a time each.

The pool owns the worker's ends of the children's sockets. What a child has taken is known from its outcomes, from
the shared slot (what it has in hand) and from what can still be read back out of its socket.
"""

import contextlib
import functools
import logging
import math
import selectors
import signal
import socket
import time
from collections.abc import Collection, Sequence

from djtasks import signals
from djtasks.messages import Again, Outcome, Progress
from djtasks.worker.pools.base import STUCK_AFTER, Begun, Event, Job, Lost, Pool, Unstarted
from djtasks.worker.pools.child import RECYCLED, ChildOptions
from djtasks.worker.pools.forkserver import ForkServer, Spawned
from djtasks.worker.pools.handle import ChildHandle
from djtasks.worker.pools.slots import Slots
from djtasks.worker.pools.softlimit import SOFT_AGAIN

logger = logging.getLogger("djtasks.worker")

#: A child that ends sooner than this without having ended a task is not replaced at once.
TOO_SOON = 1.0
#: And a fresh fork server so soon after its start.
SERVER_TOO_SOON = 5.0
#: How long a run that is to end has for it, in seconds, before its process is killed.
END_WITHIN = 0.5
#: Nothing more is laid behind a run that has already lasted this long.
LONG_RUN = 0.1


class PreforkPool(Pool):
    """`concurrency` children of one fork server."""

    name = "prefork"
    soft_limits = hard_limits = terminates = True

    def __init__(self, concurrency: int, options: ChildOptions, prefetch_multiplier: int = 0) -> None:
        super().__init__(concurrency, prefetch_multiplier)
        self.options = options
        self.slots = Slots(concurrency)
        self.server = ForkServer(self.slots, options)
        self.children: dict[int, ChildHandle] = {}
        self.events: list[Event] = []
        self._ready: set[int] = set()
        self._server_ready = False
        self._respawn: dict[int, float] = {}
        self._closing = self._killed = False
        self._server_born = -math.inf
        self._start_server_at: float | None = None

    def fork_server(self) -> None:
        """Fork the server. Before the worker has threads or connections."""
        self.server.fork()

    @property
    def busy(self) -> int:
        return sum(len(child.jobs) for child in self.children.values()) + len(self.events)

    @property
    def process_group(self) -> int | None:
        return self.server.pid or None

    def start(self, selector: selectors.BaseSelector) -> None:
        self.selector = selector
        self._watch_server()
        for slot in range(self.concurrency):
            self._spawn(slot)

    def _watch_server(self) -> None:
        self.selector.register(self.server.control, selectors.EVENT_READ, self._server_speaks)

    def _server_speaks(self) -> None:
        self._server_ready = True

    def _spawn(self, slot: int) -> None:
        if signals.worker_before_create_process.receivers:
            signals.worker_before_create_process.send(sender=self)
        child = ChildHandle(slot, self.server, self.options.max_tasks)
        self.children[slot] = child
        self.selector.register(child.outcomes.end, selectors.EVENT_READ, functools.partial(self._ready.add, slot))

    def room(self) -> int:
        """None while all children have more than three quarters of what they may hold: a claim is to be worth it."""
        depth, now = self.depth(), time.monotonic()
        room, worth_it = 0, False
        for child in self.children.values():
            if free := self._free(child, depth, now):
                room += free
                worth_it = worth_it or len(child.jobs) * 4 <= depth * 3
        return room if worth_it else 0

    def _free(self, child: ChildHandle, depth: int, now: float) -> int:
        free = depth - len(child.jobs)
        if child.jobs and free > 0:
            claim, since = self.slots.in_hand(child.slot)
            if now - since > LONG_RUN and claim in child.jobs:
                return 0
        return max(0, free if child.remaining is None else min(free, child.remaining))

    def submit(self, jobs: Sequence[Job]) -> None:
        now = time.monotonic()
        depth = self.depth()
        free = {child.slot: self._free(child, depth, now) for child in self.children.values()}
        for job in jobs:
            slot = max(free, key=free.__getitem__, default=None)
            if slot is None:
                self.events.append(Unstarted(job))
                continue
            free[slot] -= 1
            self.children[slot].give(job)

    def collect(self) -> list[Event]:
        if self._server_ready:
            self._server_ready = False
            self._hear_server()
        while self._ready:
            slot = self._ready.pop()
            if child := self.children.get(slot):
                self._read(child)
        events, self.events = self.events, []
        return events

    def _read(self, child: ChildHandle) -> None:
        """Everything the child has sent."""
        jobs, events, saw = child.jobs, self.events, self.pace.saw
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while (packet := child.outcomes.read()) is not None:
                kind = packet[0]
                if kind == "outcome":
                    outcome = Outcome._make(packet[1:])
                    if outcome.again is not None:
                        outcome = outcome._replace(again=Again._make(outcome.again))
                    if jobs.pop(outcome.claim, None) is not None:
                        child.ended += 1
                        saw(outcome.runtime)
                        events.append(outcome)
                elif kind == "progress":
                    events.append(Progress._make(packet[1:]))
                elif (job := jobs.pop(packet[1], None)) is not None:
                    events.append(Unstarted(job))
            # The end of the stream is only news to the selector: the server reports the child's end.
            with contextlib.suppress(KeyError):
                self.selector.unregister(child.outcomes.end)
        if child.unsent:
            child.push()

    def _hear_server(self) -> None:
        try:
            reports = self.server.events()
        except EOFError:
            self._replace_server()
            return
        for report in reports:
            child = self.children.get(report.slot)
            if child is None:
                continue
            if isinstance(report, Spawned):
                child.pid = report.pid
            elif child.pid == report.pid:
                self._bury(child, report.code)

    def _bury(self, child: ChildHandle, code: int) -> None:
        """A child has ended: its outcomes count, what it had not read goes on, what it was at is lost."""
        self._read(child)
        self.events.extend(Unstarted(job) for job in child.take_back())
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        in_hand = self.slots.in_hand(child.slot).claim
        for claim, job in child.jobs.items():
            if code < 0 and claim != in_hand:
                # Read, and not begun: it was killed for another one, at that very moment.
                self.events.append(Unstarted(job))
                continue
            struck = child.struck
            signum, sent = child.ending.get(claim, (None, None))
            revoked = None if sent is None else signum
            self.events.append(Lost(job, how, struck[1] if struck and struck[0] == claim else None, revoked))
        child.jobs.clear()
        with contextlib.suppress(KeyError):
            self.selector.unregister(child.outcomes.end)
        child.close()
        del self.children[child.slot]
        if self._closing:
            return
        if code != RECYCLED:
            logger.error("Child process pid:%d exited with %s", child.pid, how)
        if not child.ended and time.monotonic() - child.born < TOO_SOON:
            self._respawn[child.slot] = time.monotonic() + TOO_SOON
        else:
            self._spawn(child.slot)

    def _replace_server(self) -> None:
        """The fork server was killed, and so were its children."""
        logger.error("The fork server pid:%d is gone, and its children with it; starting another", self.server.pid)
        self.selector.unregister(self.server.control)
        self.server.kill()
        closing, self._closing = self._closing, True
        self._respawn.clear()
        for child in list(self.children.values()):
            # Their end is certain but not instant: what they still say is waited for, up to the end of the stream.
            child.outcomes.end.setblocking(True)
            child.outcomes.end.settimeout(1.0)
            with contextlib.suppress(TimeoutError):
                self._read(child)
            child.outcomes.end.setblocking(False)
            self._bury(child, -signal.SIGKILL)
        self._closing = closing
        self.server.close()
        if not closing:
            # A fresh one that has ended so soon would do so again.
            self._start_server_at = max(time.monotonic(), self._server_born + SERVER_TOO_SOON)

    def _start_server(self) -> None:
        self._start_server_at = None
        self._server_born = time.monotonic()
        self.server.execute()
        self._watch_server()
        for slot in range(self.concurrency):
            self._spawn(slot)

    def tend(self, now: float) -> float | None:
        """Replace what has died, keep limits, take back what lies behind a long run."""
        wanted: list[float] = []
        if self._start_server_at is not None:
            if now >= self._start_server_at:
                self._start_server()
            else:
                wanted.append(self._start_server_at)
        for slot, due in list(self._respawn.items()):
            if now >= due:
                del self._respawn[slot]
                self._spawn(slot)
            else:
                wanted.append(due)
        for child in self.children.values():
            if child.jobs:
                wanted.append(self._tend_child(child, now))
        return min(wanted, default=None)

    def _tend_child(self, child: ChildHandle, now: float) -> float:
        """Keep the limits of the running job; take back what has lain behind it for too long."""
        if child.unsent:
            child.push()
        claim, since = self.slots.in_hand(child.slot)
        job = child.jobs.get(claim)
        if job is None:
            return now + 0.1
        ran = now - since
        wanted = [since + STUCK_AFTER if ran < STUCK_AFTER else now + STUCK_AFTER]
        if len(child.jobs) > 1 and ran >= STUCK_AFTER:
            self.events.extend(Unstarted(each) for each in child.take_back())
        if claim in child.ending:
            wanted.append(self._end_run(child, claim, now))
        if job.hard is not None:
            if ran >= job.hard and child.pid:
                child.struck = (claim, job.hard)
                self.server.tell("strike", child.slot, child.pid, claim)
            wanted.append(since + job.hard if ran < job.hard else now + 0.1)
        if job.soft is not None and self.slots.heard_soft(child.slot) != claim:
            if ran >= job.soft and child.pid:
                self._tell_soft(child, job, job.soft)
            wanted.append(since + job.soft if ran < job.soft else now + SOFT_AGAIN)
        if len(child.jobs) > 1:
            wanted.extend(now + limit for each in child.jobs.values() for limit in (each.soft, each.hard) if limit)
        return min(wanted)

    def _end_run(self, child: ChildHandle, claim: int, now: float) -> float:
        """Signal the run, and kill its process when that has not helped; when to look again."""
        signum, sent = child.ending[claim]
        if sent is None:
            if not child.pid:
                return now + 0.02
            sent = now
            child.ending[claim] = signum, sent
            self.server.tell("strike", child.slot, child.pid, claim, signum)
        elif now >= sent + END_WITHIN:
            self.server.tell("strike", child.slot, child.pid, claim, int(signal.SIGKILL))
            return now + 0.1
        return sent + END_WITHIN

    def _tell_soft(self, child: ChildHandle, job: Job, limit: float) -> None:
        """Have the limit raised in the child; it is asked again until it does, and logged once."""
        message = job.message
        self.server.tell("soft", child.slot, child.pid, message.claim, limit)
        if child.soft_told != message.claim:
            child.soft_told = message.claim
            logger.warning("Soft time limit (%ss) exceeded for %s[%s]", limit, message.name, message.id)

    def running(self) -> list[int]:
        found = [self.slots.in_hand(child.slot).claim for child in self.children.values()]
        return [claim for claim, child in zip(found, self.children.values(), strict=True) if claim in child.jobs]

    def begun(self) -> dict[int, Begun]:
        found = [(self.slots.in_hand(child.slot), child) for child in list(self.children.values())]
        return {
            in_hand.claim: Begun(in_hand.since, child.pid) for in_hand, child in found if in_hand.claim in child.jobs
        }

    def processes(self) -> list[int]:
        return [child.pid for child in self.children.values() if child.pid]

    def withdraw(self) -> list[Job]:
        return [job for child in self.children.values() for job in child.take_back()]

    def recall(self, claims: Collection[int]) -> list[Job]:
        found: list[Job] = []
        for child in self.children.values():
            if not child.jobs.keys().isdisjoint(claims):
                for job in child.take_back():
                    if job.message.claim in claims:
                        found.append(job)
                    else:
                        self.events.append(Unstarted(job))
        return found

    def terminate(self, claim: int, signum: int) -> bool:
        for child in self.children.values():
            if claim in child.jobs:
                child.ending.setdefault(claim, (signum, None))
                return True
        return False

    def close(self) -> None:
        self._closing = True
        self._start_server_at = None
        self._respawn.clear()
        for child in self.children.values():
            with contextlib.suppress(OSError):
                child.tasks.shutdown(socket.SHUT_WR)

    def join(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.children and (left := deadline - time.monotonic()) > 0:
            for key, _ in self.selector.select(left):
                key.data()
            if self._server_ready:
                self._server_ready = False
                self._hear_server()

    def kill(self) -> None:
        self._closing = True
        if self._killed:
            return
        self._killed = True
        self._start_server_at = None
        with contextlib.suppress(KeyError, ValueError, AttributeError):
            self.selector.unregister(self.server.control)
        self.server.close()
        for child in list(self.children.values()):
            self._bury(child, -signal.SIGKILL)
