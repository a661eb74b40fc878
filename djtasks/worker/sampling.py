"""Sampling: once a minute the pulse writes down what its worker did, and one of all workers how the queues stand."""

import logging
import time
from collections.abc import Callable, Mapping

import psycopg

from djtasks.conf import settings
from djtasks.db import health, queues, samples
from djtasks.db.connections import reason
from djtasks.worker.patience import HOPELESS

logger = logging.getLogger("djtasks.worker")

#: A sample is written this long after its minute's end, in seconds, so that the clocks need not agree by the second.
AFTER = 2.0
MINUTE = 60.0
#: Of queues that hold something the deepest ones are written down; what is missing was empty.
MOST_QUEUES = 200
#: A queue is counted up to here.
MOST_DEEP = 10_000
PRUNE_BATCH = 5000


class Sampler:
    """Belongs to the pulse's thread."""

    def __init__(
        self,
        node: str,
        counts: Callable[[], Mapping[str, float]],
        levels: Callable[[], Mapping[str, float]],
    ) -> None:
        """`counts` is what was counted since the start, `levels` how it stands."""
        self.node = node
        self.counts = counts
        self.levels = levels
        self._written: dict[str, float] = {}
        self._levels: dict[str, float] = {}
        self._at = self._next()

    def _next(self) -> float:
        """When the minute is over, in monotonic seconds."""
        return time.monotonic() + MINUTE - time.time() % MINUTE + AFTER

    def look(self, conn: psycopg.Connection) -> None:
        """Note how it stands, and write when the minute is over."""
        for name, level in self.levels().items():
            self._levels[name] = max(level, self._levels.get(name, level))
        if time.monotonic() >= self._at:
            self._at = self._next()
            try:
                self.write(conn, ago=MINUTE / 2)
                self.measure(conn)
            except HOPELESS as error:
                # Nothing that a worker needs.
                logger.warning("No samples are written: %s", reason(error))

    def write(self, conn: psycopg.Connection, ago: float = 0.0) -> None:
        """Add what was counted since the last time to the minute of so many seconds ago.

        Is the answer lost, it may be added twice.
        """
        now = dict(self.counts())
        numbers = {name: count - self._written.get(name, 0.0) for name, count in now.items()}
        numbers = {name: round(count, 6) for name, count in numbers.items() if count}
        samples.write(conn, "worker", {self.node: {**numbers, **(self._levels or self.levels())}}, ago)
        self._written, self._levels = now, {}

    def measure(self, conn: psycopg.Connection) -> None:
        """How the queues stand, unless another worker has said so; and delete what is too old."""
        with conn.transaction():
            if not samples.try_measure(conn):
                return
            found = queues.depths(conn, health.filled(conn), MOST_DEEP)
            deepest = sorted(found.items(), key=lambda item: -item[1].known)[:MOST_QUEUES]
            if deepest:
                samples.write(conn, "queue", {name: _numbers(depth) for name, depth in deepest})
            samples.prune(conn, settings.SAMPLES_EXPIRES.total_seconds(), PRUNE_BATCH)


def _numbers(depth: queues.Depth) -> dict[str, float]:
    found = {"depth": float(depth.known)}
    return found if depth.oldest is None else {**found, "oldest": round(max(0.0, depth.oldest), 3)}
