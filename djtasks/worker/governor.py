"""The governor: which of the claimed messages may start now, and who is let in next.

A rate is one worker's own: a bucket in its memory. What may not start yet is set aside in the table (`reason` rate),
out of the way of all claims, and comes back when some worker's bucket has a token for it: that one takes it from there,
the highest priority and the oldest first. A name without a rate, here or by now, takes from there as it likes.

Limits of the cluster are rows: see `djtasks.db.limits`. Here is what a worker does for them now and then.
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Sequence

import psycopg

from djtasks import ratelimits
from djtasks.conf import settings
from djtasks.db import limits, notify, rates, uniques
from djtasks.exceptions import safe_repr
from djtasks.keys import definition
from djtasks.messages import Claimed
from djtasks.ratelimits import SLACK, Bucket
from djtasks.registry import tasks

logger = logging.getLogger("djtasks.worker")

#: How many keys are looked after in one transaction.
SWEEP_BATCH = 200
#: How long the row of a limit outlives its last use, in seconds.
LIMIT_AGE = 3600.0
#: Rates are looked after no more often than that, in seconds.
SOONEST = 0.01


class Governor:
    """Keeps one worker's rates. Belongs to the consumer's thread."""

    def __init__(self, queues: Callable[[], Collection[str]]) -> None:
        #: The queues from which the worker takes now.
        self.queues = queues
        #: What to do with the claim of a message that may not start yet.
        self.hold: Callable[[int], None] = lambda claim: None
        #: By name: the bucket, or None for no limit.
        self._buckets: dict[str, Bucket | None] = {}
        #: Names of which messages have been set aside, as far as this worker knows.
        self.backlog: set[str] = set()
        #: Those of which some have been held since the last look: they may still be on their way to the table.
        self._held: set[str] = set()
        #: (lane, names) of messages that stand in the way of a claim, and are to be set aside in one go.
        self.crowded: dict[str, set[str]] = {}

    def set_rate(self, name: str, rate: str | float | None) -> None:
        """Another rate for the task of this name, as long as this worker lives. Raises TypeError, ValueError."""
        found = ratelimits.parse(rate)
        self._buckets[name] = None if found is None else Bucket(found)

    def rate_of(self, name: str) -> float | None:
        """The rate of a task here, in runs per second; None for no limit."""
        bucket = self._bucket_of(name)
        return None if bucket is None else bucket.rate

    def _bucket_of(self, name: str) -> Bucket | None:
        if name not in self._buckets:
            task = tasks.get(name)
            said = None if task is None else task.rate_limit
            said = settings.TASK_DEFAULT_RATE_LIMIT if said is None else said
            try:
                rate = None if settings.WORKER_DISABLE_RATE_LIMITS else ratelimits.parse(said)
            except (TypeError, ValueError) as error:
                logger.error("The task %s has no rate limit here: %s", name, safe_repr(error))
                rate = None
            self._buckets[name] = None if rate is None else Bucket(rate)
        return self._buckets[name]

    def sift(self, found: list[Claimed], full: bool) -> list[Claimed]:
        """Those of the messages, just claimed from their lanes, that may start; the others are held.

        `full` says that there may be more like them in the lanes.
        """
        buckets = self._buckets
        if all(buckets.get(message.name, 0) is None for message in found):
            return found
        go, now = [], time.monotonic()
        for message in found:
            bucket = self._bucket_of(message.name)
            if bucket is None:
                go.append(message)
            elif message.name not in self.backlog and bucket.tokens(now):
                bucket.take(1, now)
                go.append(message)
            else:
                # Behind those that were set aside before it.
                self.backlog.add(message.name)
                self._held.add(message.name)
                self.hold(message.claim)
                if full:
                    self.crowded.setdefault(message.queue, set()).add(message.name)
        return go

    def clear(self, conn: psycopg.Connection) -> None:
        """Set aside what stands at the heads of lanes and may not start: a limited name blocks no other."""
        for lane, names in list(self.crowded.items()):
            if not rates.park_backlog(conn, lane, names):
                del self.crowded[lane]

    def look(self, conn: psycopg.Connection) -> None:
        """Learn what others have set aside."""
        self.backlog = self._held | {name for name in rates.names(conn) if name in tasks}
        self._held = set()

    @property
    def due(self) -> bool:
        """Whether something that was set aside may start now."""
        return bool(self.backlog) and self.next_at() <= time.monotonic()

    def next_at(self) -> float:
        """When the next of what was set aside may start, in monotonic seconds."""
        if not self.backlog:
            return math.inf
        return min(-math.inf if (bucket := self._bucket_of(name)) is None else bucket.next_at for name in self.backlog)

    def pull(self, conn: psycopg.Connection, owner: int, first: int, room: int, rerun: Sequence[str]) -> list[Claimed]:
        """Claim what was set aside and may start now, `room` messages at the most."""
        now, counts = time.monotonic(), {}
        for name in self.backlog:
            bucket = self._bucket_of(name)
            tokens = room if bucket is None else min(room, bucket.tokens(now, SLACK))
            if tokens > 0:
                counts[name] = tokens
        queues = list(self.queues())
        if not queues:
            # All are paused: until the next look there is nothing to wait for.
            self.backlog.clear()
        if not counts or not queues:
            return []
        found = rates.claim(conn, owner, first, counts, queues, room, rerun=rerun)
        taken = dict.fromkeys(counts, 0)
        for message in found:
            taken[message.name] += 1
        for name, count in taken.items():
            bucket = self._bucket_of(name)
            if bucket is not None and count:
                bucket.take(count, now, SLACK)
            if count < counts[name] and len(found) < room:
                self.backlog.discard(name)
        return found


def sweep(conn: psycopg.Connection, has_time: Callable[[], bool]) -> None:
    """Admit wherever messages wait for a limit that has room for them: what a crash has left undone."""
    after = ""
    while True:
        with conn.transaction():
            if not limits.try_sweep(conn):
                return
            found = limits.waiting(conn, after, SWEEP_BATCH)
            queues = limits.admit(conn, {key: definition(name) for key, name in found})
        if queues:
            notify.ring_workers(conn, set(queues), len(queues))
        if len(found) < SWEEP_BATCH or not has_time():
            return
        after = found[-1][0]


def prune(conn: psycopg.Connection) -> None:
    """Forget limits that nobody uses, and aliases whose time is over."""
    limits.prune(conn, LIMIT_AGE)
    uniques.prune_aliases(conn)
