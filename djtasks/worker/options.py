"""What a worker is started with, and what it refuses to start with."""

import logging
from typing import NamedTuple

from djtasks.conf import settings
from djtasks.exceptions import ImproperlyConfigured
from djtasks.routing import known_queues

POOLS = ("prefork", "threads", "solo")


class WorkerOptions(NamedTuple):
    """The options of `runworker`; None is the setting's value, or the default."""

    queues: tuple[str, ...]
    hostname: str
    pool: str = "prefork"
    concurrency: int = 1
    time_limit: float | None = None
    soft_time_limit: float | None = None
    max_tasks_per_child: int | None = None
    #: KiB
    max_memory_per_child: int | None = None
    prefetch_multiplier: int = 0
    soft_shutdown_timeout: float = 0.0
    loglevel: int = logging.WARNING
    logfile: str | None = None
    purge: bool = False
    quiet: bool = False

    def check(self) -> "WorkerOptions":
        """These options, if they fit together. Raises ImproperlyConfigured with a sentence that says what does not."""
        for problem in self._problems():
            raise ImproperlyConfigured(problem)
        return self

    def _problems(self) -> list[str]:
        found = []
        if self.pool not in POOLS:
            found.append(f"there is no pool {self.pool!r}; choose one of {', '.join(POOLS)}")
        for option, number, least in (
            ("--concurrency", self.concurrency, 1),
            ("--max-tasks-per-child", self.max_tasks_per_child, 1),
            ("--max-memory-per-child", self.max_memory_per_child, 1),
            ("--prefetch-multiplier", self.prefetch_multiplier, 0),
        ):
            if number is not None and number < least:
                found.append(f"{option} must be at least {least}, not {number}")
        if self.pool == "solo" and self.concurrency > 1:
            found.append(f"the solo pool runs one task at a time; drop --concurrency {self.concurrency}")
        if not self.queues:
            found.append("no queue is left to consume; look at --queues, --exclude-queues and TASK_QUEUES")
        for option, value in (("--time-limit", self.time_limit), ("--soft-time-limit", self.soft_time_limit)):
            if value is not None and not value > 0:
                found.append(f"{option} must be more than 0 seconds, not {value}")
        hard, soft = self.time_limit, self.soft_time_limit
        if hard is not None and soft is not None and soft > hard:
            found.append(f"--soft-time-limit {soft} would never be reached before --time-limit {hard}; make it smaller")
        found.extend(self._pool_problems())
        return found

    def _pool_problems(self) -> list[str]:
        """Options that only children in processes can keep."""
        if self.pool == "prefork":
            return []
        found = []
        wanted = {
            "--time-limit": self.time_limit,
            "--soft-time-limit": None if self.pool == "solo" else self.soft_time_limit,
            "--max-tasks-per-child": self.max_tasks_per_child,
            "--max-memory-per-child": self.max_memory_per_child,
        }
        for option, value in wanted.items():
            if value is not None:
                found.append(f"the {self.pool} pool cannot keep {option} ({value}); use --pool prefork or drop it")
        return found


def consumed_queues(wanted: list[str] | None, excluded: list[str]) -> tuple[str, ...]:
    """The queues to consume: those of --queues, else TASK_QUEUES, else TASK_DEFAULT_QUEUE; less the excluded.

    Raises ImproperlyConfigured for a queue that TASK_CREATE_MISSING_QUEUES=False does not allow.
    """
    declared = known_queues()
    if wanted and not settings.TASK_CREATE_MISSING_QUEUES:
        for name in wanted:
            if name not in declared and name != settings.TASK_DEFAULT_QUEUE:
                raise ImproperlyConfigured(
                    f"--queues names {name!r}, which is not in TASK_QUEUES, and TASK_CREATE_MISSING_QUEUES is off"
                )
    return tuple(dict.fromkeys(name for name in wanted or declared if name not in excluded))
