"""The autoscaler: grows and shrinks the pool of a worker between two sizes.

It grows at once, to as many slots as have something to run, and one more for each message that waits in the worker's
queues. It shrinks to the most that was needed within the last `keepalive` seconds, and never below one slot: nothing
would take a message. It is asked by the consumer, in its thread, between two turns.
"""

import importlib
import logging
import math
import os
import time
from collections.abc import Callable
from typing import Any, Final

import psycopg

from djtasks.conf import settings
from djtasks.db import queues
from djtasks.exceptions import ImproperlyConfigured
from djtasks.worker.consumer import Consumer
from djtasks.worker.pools.base import Pool

logger = logging.getLogger("djtasks.worker")

#: How often it looks, in seconds.
LOOK_EVERY: Final = 0.5
#: In the environment: seconds for which a slot is kept that nothing needs.
KEEPALIVE: Final = "AUTOSCALE_KEEPALIVE"
USUAL_KEEPALIVE: Final = 30.0


def keepalive_seconds() -> float:
    """What AUTOSCALE_KEEPALIVE says, or 30. Raises ImproperlyConfigured."""
    text = os.environ.get(KEEPALIVE, "")
    try:
        seconds = float(text) if text else USUAL_KEEPALIVE
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 86400:
        raise ImproperlyConfigured(f"{KEEPALIVE} in the environment must be seconds, 30 say, not {text!r}")
    return seconds


class Autoscaler:
    """Its names are those of Celery's, for classes of one's own that WORKER_AUTOSCALER names.

    `maybe_scale` is what is called every half second; `qty` says how much there is to run.
    """

    def __init__(
        self,
        pool: Pool,
        max_concurrency: int,
        min_concurrency: int = 0,
        worker: Any = None,
        keepalive: float | None = None,
    ) -> None:
        self.pool = pool
        self.max_concurrency = max_concurrency
        self.min_concurrency = min_concurrency
        #: The worker: its `consumer` knows what waits.
        self.worker = worker
        self.keepalive = keepalive_seconds() if keepalive is None else keepalive
        self._look_at = 0.0
        #: Since when fewer slots are needed than there are, in monotonic seconds, and the most that were since then.
        self._since: float | None = None
        self._most = 0

    # -- asked by the consumer ------------------------------------------------------------------------------------

    def turn(self, now: float) -> float:
        """Look, if it is time; when to be asked again. Both are monotonic seconds."""
        if now >= self._look_at:
            self._look_at = now + min(LOOK_EVERY, self.keepalive / 4)
            try:
                self.maybe_scale()
            except Exception:
                # A class of one's own, or a limit of the system: the tasks go on all the same.
                logger.exception("The autoscaler failed")
                self._look_at = now + max(self.keepalive, LOOK_EVERY)
        return self._look_at

    def maybe_scale(self, req: Any = None) -> None:
        """Grow or shrink, if that is to be."""
        wanted = max(min(self.qty, self.max_concurrency), self.min_concurrency, 1)
        missing = wanted - self.processes
        if missing >= 0:
            self._since = None
            if missing:
                self.scale_up(missing)
            return
        now = time.monotonic()
        if self._since is None:
            self._since, self._most = now, wanted
        self._most = max(self._most, wanted)
        if self.processes > self.max_concurrency:
            # It was told to have no more than that, at a moment when all were busy.
            self.scale_down(self.processes - self.max_concurrency)
        elif now - self._since >= self.keepalive:
            self.scale_down(self.processes - self._most)
            self._since = None

    def scale_up(self, n: int) -> None:
        """So many more."""
        logger.info("Scaling up %d slots, to %d", n, self.processes + n)
        self.pool.grow(n)

    def scale_down(self, n: int) -> None:
        """So many less, as far as they have nothing to run."""
        if done := self.pool.shrink(n):
            logger.info("Scaling down %d slots, to %d", done, self.processes)

    # -- asked by commands ----------------------------------------------------------------------------------------

    def update(self, max: int | None = None, min: int | None = None) -> tuple[int, int]:
        """Other bounds, from now on; None for the same. Returns both. Raises ValueError."""
        most = self.max_concurrency if max is None else max
        least = self.min_concurrency if min is None else min
        if least > most:
            raise ValueError(f"min ({least}) must not be above max ({most})")
        if self.processes < least:
            self.scale_up(least - self.processes)
        elif self.processes > most:
            self.scale_down(self.processes - most)
        self.max_concurrency, self.min_concurrency = most, least
        return most, least

    def info(self) -> dict[str, int]:
        """What `inspect stats` says of it."""
        return {
            "max": self.max_concurrency,
            "min": self.min_concurrency,
            "current": self.processes,
            "qty": self.pool.at_work,
        }

    @property
    def processes(self) -> int:
        """How many slots there are."""
        return self.pool.concurrency

    @property
    def qty(self) -> int:
        """How many slots have something to run, and, if all have, how many messages wait besides, `max` at the most."""
        at_work = self.pool.at_work
        if at_work < self.processes or self.processes >= self.max_concurrency:
            return at_work
        return at_work + self._waiting(self.max_concurrency - at_work)

    def _waiting(self, most: int) -> int:
        consumer: Consumer = self.worker.consumer
        if consumer.claimer.drained:
            return 0
        found: list[int] = []

        def count(conn: psycopg.Connection) -> None:
            found.append(queues.waiting(conn, consumer.claimer.lanes.open, most))

        return found[0] if consumer.database.attempt(count) else 0


def autoscaler_class() -> Callable[..., Autoscaler]:
    """The class that WORKER_AUTOSCALER names. Raises ImproperlyConfigured."""
    path = settings.WORKER_AUTOSCALER
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ImproperlyConfigured(f"WORKER_AUTOSCALER: {path!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Autoscaler)):
        raise ImproperlyConfigured(
            f"WORKER_AUTOSCALER: {path!r} is no subclass of djtasks.worker.autoscaler.Autoscaler; make it one"
        )
    return found


def autoscaler_of(pool: Pool, bounds: tuple[int, int] | None, worker: Any) -> Autoscaler | None:
    """The autoscaler of a worker that is to have one. Raises ImproperlyConfigured."""
    if bounds is None:
        return None
    most, least = bounds
    return autoscaler_class()(pool, most, least, worker=worker)
