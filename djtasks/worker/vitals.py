"""Vitals: what a worker says of itself, with its heartbeat, to its HTTP page, and to the samples.

Everything here may be asked from any thread: it copies what belongs to the consumer's.
"""

import os
import platform
import resource
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import django

import djtasks
from djtasks.conf import settings
from djtasks.worker.clock import since_boot
from djtasks.worker.consumer import SILENT_SHARE, Consumer
from djtasks.worker.counting import Runs
from djtasks.worker.pulse import Pulse

#: What is true of this process as long as it lives.
VERSIONS: Final = {
    "djtasks": djtasks.__version__,
    "django": django.get_version(),
    "python": platform.python_version(),
}


class Vitals:
    """One worker's, of this name."""

    def __init__(self, node: str, consumer: Consumer) -> None:
        self.node = node
        self.consumer = consumer
        self.pool = consumer.pool
        #: Set once there is one.
        self.pulse: Pulse | None = None
        self.began = time.time()
        #: How many events were sent, by type and name of the task; None where none are counted.
        self.events: Callable[[], Mapping[tuple[str, str], int]] | None = None
        #: What else is to be said with each heartbeat, by its name: small things, made by what is fast and never fails.
        self.more: dict[str, Callable[[], Any]] = {}

    def running(self) -> Counter[str]:
        """How many of each task run."""
        held = self.consumer.state.held
        return Counter(message.name for claim in self.pool.begun() if (message := held.get(claim)) is not None)

    def prefetched(self) -> Counter[str]:
        """How many of each task have been taken, and not begun."""
        begun = self.pool.begun()
        return Counter(message.name for claim, message in list(self.consumer.state.held.items()) if claim not in begun)

    @property
    def runs(self) -> Runs:
        """How long runs took."""
        return self.consumer.state.runs

    def counts(self) -> dict[str, float]:
        """What was counted since the start: ended tasks by state, what was refused …, and `Runs.sums`."""
        rescued = 0 if self.pulse is None else self.pulse.rescuer.rescued
        return {**dict(self.consumer.state.counters), "rescued": rescued, **self.runs.sums()}

    def levels(self) -> dict[str, float]:
        """How it stands."""
        return {"pool": self.pool.concurrency, "busy": self.busy()}

    def busy(self) -> int:
        """How many run."""
        return len(self.pool.begun())

    def say(self) -> dict[str, Any]:
        """What stands in the worker's row, beside its counters: less than 1 kB."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        running = self.busy()
        return {
            "running": running,
            "prefetched": max(0, len(self.consumer.state.held) - running),
            "processes": len(self.pool.processes()),
            "load": [round(each, 2) for each in os.getloadavg()],
            "rusage": {"utime": round(used.ru_utime, 2), "stime": round(used.ru_stime, 2), "maxrss": used.ru_maxrss},
            "versions": VERSIONS,
            **{name: made() for name, made in self.more.items()},
        }

    def heartbeat_age(self) -> float:
        """Seconds since the last heartbeat that was written, as far as whoever claims here knows of it."""
        heard = self.consumer.beat_at
        if self.pulse is not None and self.pool.runs_here:
            # The consumer runs a task itself, and reads no news until that has ended.
            heard = max(heard, self.pulse.beaten_at)
        return max(0.0, since_boot() - heard)

    def problems(self) -> list[str]:
        """What is wrong, in sentences; none while all is well."""
        consumer, found = self.consumer, []
        limit = SILENT_SHARE * settings.WORKER_DEAD_AFTER
        if (age := self.heartbeat_age()) > limit:
            found.append(f"heartbeat: the last one was written {age:.0f} s ago, more than {limit:g} s")
        if not consumer.database.connected:
            found.append("database: the connection is lost; it is tried again all the time")
        if self.pool.concurrency and not self.pool.processes():
            found.append("pool: it has no children")
        if not consumer.accepting:
            found.append("shutdown: the worker takes no more tasks, and ends")
        return found
