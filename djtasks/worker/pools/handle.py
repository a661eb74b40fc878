"""The worker's side of one child: its sockets, what it has been given, and what is being done about its run."""

import contextlib
import socket
import time
from collections import deque

from djtasks.worker.pools import packets
from djtasks.worker.pools.base import Job
from djtasks.worker.pools.child import as_fields
from djtasks.worker.pools.forkserver import ForkServer


class ChildHandle:
    """The worker's side of one child."""

    def __init__(self, slot: int, server: ForkServer, remaining: int | None) -> None:
        self.slot = slot
        self.server = server
        self.pid = 0
        #: When its process was there, in monotonic seconds; None for not yet.
        self.spawned: float | None = None
        self.born = time.monotonic()
        self.ended = 0
        #: How many more tasks it may be given before it is replaced.
        self.remaining = remaining
        self.jobs: dict[int, Job] = {}
        self.unsent: deque[Job] = deque()
        #: The claim for whose hard limit it is being killed, and the limit.
        self.struck: tuple[int, float] | None = None
        #: The claim that was last told of its soft limit; 0 for none.
        self.soft_told = 0
        #: Claims whose runs are to end: the signal, and when that was sent, in monotonic seconds; None for not yet.
        self.ending: dict[int, tuple[int, float | None]] = {}
        self.tasks, theirs = packets.pair()
        self.tasks.setblocking(False)
        self.unread = packets.Reader(theirs.dup(), socket.MSG_DONTWAIT)
        outcomes, outcomes_theirs = packets.pair()
        outcomes.setblocking(False)
        self.outcomes = packets.Reader(outcomes)
        server.spawn(slot, theirs, outcomes_theirs)

    def give(self, job: Job) -> None:
        """Hand over a job, or keep it at hand while the socket is full."""
        self.jobs[job.message.claim] = job
        if self.remaining is not None:
            self.remaining -= 1
        if self.unsent or not self._send(job):
            self.unsent.append(job)

    def _send(self, job: Job) -> bool:
        """False while the socket is full, or no descriptor is left for a large payload."""
        try:
            packets.send(self.tasks, as_fields(job))
        except OSError:
            return False
        return True

    def push(self) -> None:
        """Send what could not be sent before."""
        while self.unsent and self._send(self.unsent[0]):
            self.unsent.popleft()

    def take_back(self) -> list[Job]:
        """Everything it has not read, so that it never will."""
        claims = [job.message.claim for job in self.unsent]
        self.unsent.clear()
        with contextlib.suppress(BlockingIOError):
            while (packet := self.unread.read()) is not None:
                claims.append(packet[1])
        jobs = [self.jobs.pop(claim) for claim in claims if claim in self.jobs]
        if self.remaining is not None:
            self.remaining += len(jobs)
        return jobs

    def end(self) -> None:
        """Let it end once it has read, and done, what it was given."""
        with contextlib.suppress(OSError):
            self.tasks.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the worker's ends."""
        for end in (self.tasks, self.unread.end, self.outcomes.end):
            end.close()
