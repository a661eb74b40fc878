"""What a worker is started with, and what it refuses to start with."""

import difflib
import logging
from typing import NamedTuple

from djtasks.conf import settings
from djtasks.conf.kinds import SECONDS_MAX, Unfit, is_limit, is_storable, queue_name
from djtasks.exceptions import ImproperlyConfigured
from djtasks.routing import known_queues

POOLS = ("prefork", "threads", "solo")
#: Celery's pools that djtasks will have.
POOLS_TO_COME = ("gevent", "eventlet")


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
    #: Seconds after which what runs is killed at a warm shutdown, too.
    shutdown_timeout: float | None = None
    loglevel: int = logging.WARNING
    logfile: str | None = None
    purge: bool = False
    #: Send periodic tasks, too.
    beat: bool = False
    quiet: bool = False

    def check(self) -> "WorkerOptions":
        """These options, if they fit together. Raises ImproperlyConfigured with a sentence that says what does not."""
        for problem in self._problems():
            raise ImproperlyConfigured(problem)
        return self

    def _problems(self) -> list[str]:
        found = []
        choice = f"choose {', '.join(POOLS[:-1])} or {POOLS[-1]}"
        if self.pool in POOLS_TO_COME:
            found.append(f"the {self.pool} pool is not part of this version of djtasks; {choice}")
        elif self.pool not in POOLS:
            near = difflib.get_close_matches(str(self.pool), POOLS, n=1)
            found.append(f"there is no pool {self.pool!r}; " + (f"did you mean {near[0]!r}?" if near else choice))
        if not is_storable(self.hostname):
            found.append(f"--hostname must be a text that UTF-8 can carry, not {self.hostname!r}")
        for option, number, least in (
            ("--concurrency", self.concurrency, 1),
            ("--max-tasks-per-child", self.max_tasks_per_child, 1),
            ("--max-memory-per-child", self.max_memory_per_child, 1),
            ("--prefetch-multiplier", self.prefetch_multiplier, 0),
        ):
            if number is not None and number < least:
                found.append(f"{option} must be at least {least}, not {number}")
        if self.pool == "solo" and self.concurrency > 1:
            found.append(
                f"the solo pool runs one task at a time; drop --concurrency {self.concurrency}, or WORKER_CONCURRENCY"
                " in DJTASKS"
            )
        if not self.queues:
            found.append("no queue is left to consume; look at --queues, --exclude-queues and TASK_QUEUES")
        for option, value in (("--time-limit", self.time_limit), ("--soft-time-limit", self.soft_time_limit)):
            if value is not None and not is_limit(value):
                wanted = f"{SECONDS_MAX:.0f} seconds at most" if value > 0 else "more than 0 seconds"
                found.append(f"{option} must be {wanted}, not {value}")
        timeout = self.shutdown_timeout
        if timeout is not None and not 0 <= timeout <= SECONDS_MAX:
            found.append(f"--shutdown-timeout must be from 0 to {SECONDS_MAX:.0f} seconds, not {timeout}")
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
        wanted = (
            ("--time-limit", "TASK_TIME_LIMIT", self.time_limit if self.pool == "solo" else None),
            ("--max-tasks-per-child", "WORKER_MAX_TASKS_PER_CHILD", self.max_tasks_per_child),
            ("--max-memory-per-child", "WORKER_MAX_MEMORY_PER_CHILD", self.max_memory_per_child),
        )
        for option, setting, value in wanted:
            if value is not None:
                cure = f"use --pool prefork, or drop it, or {setting} in DJTASKS"
                found.append(f"the {self.pool} pool cannot keep {option} ({value}); {cure}")
        return found


def consumed_queues(wanted: list[str] | None, excluded: list[str]) -> tuple[str, ...]:
    """The queues to consume: those of --queues, else TASK_QUEUES, else TASK_DEFAULT_QUEUE; less the excluded.

    Raises ImproperlyConfigured for what can name no queue, and for a queue that TASK_CREATE_MISSING_QUEUES=False does
    not allow.
    """
    declared = known_queues()
    for name in wanted or ():
        try:
            queue_name(name)
        except Unfit as error:
            raise ImproperlyConfigured(f"--queues: each {error}") from None
    if wanted and not settings.TASK_CREATE_MISSING_QUEUES:
        for name in wanted:
            if name not in declared and name != settings.TASK_DEFAULT_QUEUE:
                raise ImproperlyConfigured(
                    f"--queues names {name!r}, which is not in TASK_QUEUES, and TASK_CREATE_MISSING_QUEUES is off"
                )
    return tuple(dict.fromkeys(name for name in wanted or declared if name not in excluded))
