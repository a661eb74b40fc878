"""What a worker is started with, and what it refuses to start with."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from djtasks.commanding import MOST_SLOTS
from djtasks.conf import settings
from djtasks.conf.kinds import SECONDS_MAX, Unfit, host_and_port, is_limit, is_storable, queue_name
from djtasks.exceptions import ImproperlyConfigured
from djtasks.queuenames import is_own, with_own
from djtasks.routing import known_queues
from djtasks.worker.pools.base import Pool, PoolOptions
from djtasks.worker.pools.registry import named, pool_class


class WorkerOptions(NamedTuple):
    """The options of `runworker`; None is the setting's value, or the default."""

    queues: tuple[str, ...]
    hostname: str
    pool: str = "prefork"
    concurrency: int = 1
    #: The most and the least tasks at a time, where that is to follow what there is to do: `autoscale_bounds`.
    autoscale: tuple[int, int] | None = None
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
    #: Modules to import, beside INCLUDE.
    include: tuple[str, ...] = ()
    #: What `-A` named, if anything.
    app: str = ""
    purge: bool = False
    #: Send periodic tasks, too.
    beat: bool = False
    #: Tell of tasks.
    events: bool = False
    quiet: bool = False
    #: What was given for options of the project's own.
    user: Mapping[str, Any] | None = None
    #: Where /healthz and /metrics are answered: `host_and_port` reads it.
    http: str | None = None

    def check(self) -> "WorkerOptions":
        """These options, if they fit together. Raises ImproperlyConfigured with a sentence that says what does not."""
        for problem in self._problems():
            raise ImproperlyConfigured(problem)
        return self._replace(pool=named(self.pool))

    def whole(self) -> "WorkerOptions":
        """These options with the queues that are this worker's own. Raises ImproperlyConfigured for a name too long."""
        queues = with_own(self.queues, self.hostname)
        for queue in queues:
            try:
                queue_name(queue)
            except Unfit as error:
                raise ImproperlyConfigured(f"a queue of this worker's own {error}; give it a shorter name") from None
        return self._replace(queues=queues)

    def _problems(self) -> list[str]:
        found = []
        kind: type[Pool] | None = None
        try:
            kind = pool_class(self.pool)
        except ImproperlyConfigured as error:
            found.append(str(error))
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
        if self.http is not None:
            try:
                host_and_port(self.http)
            except Unfit as error:
                found.append(f"--http {error}, as 8808 or 0.0.0.0:8808")
        if kind is not None:
            found.extend(self._pool_problems(kind))
        if self.autoscale is not None:
            found.extend(self._autoscale_problems(kind))
        return found

    def _pool_problems(self, kind: type[Pool]) -> list[str]:
        """What this pool cannot keep, by what its class says of it."""
        found = []
        name = named(self.pool)
        if kind.most is not None and self.concurrency > kind.most:
            most = "one task" if kind.most == 1 else f"{kind.most} tasks"
            found.append(
                f"the {name} pool runs {most} at a time; drop --concurrency {self.concurrency}, or WORKER_CONCURRENCY"
                " in DJTASKS"
            )
        wanted = (
            ("--time-limit", "TASK_TIME_LIMIT", self.time_limit, kind.hard_limits),
            ("--soft-time-limit", "TASK_SOFT_TIME_LIMIT", self.soft_time_limit, kind.soft_limits),
            ("--max-tasks-per-child", "WORKER_MAX_TASKS_PER_CHILD", self.max_tasks_per_child, kind.recycles),
            ("--max-memory-per-child", "WORKER_MAX_MEMORY_PER_CHILD", self.max_memory_per_child, kind.recycles),
        )
        for option, setting, value, kept in wanted:
            if value is not None and not kept:
                cure = f"use --pool prefork, or drop it, or {setting} in DJTASKS"
                found.append(f"the {name} pool cannot keep {option} ({value}); {cure}")
        return found

    def _autoscale_problems(self, kind: type[Pool] | None) -> list[str]:
        found = []
        most, least = self.autoscale or (1, 0)
        if not 1 <= most <= MOST_SLOTS or not 0 <= least <= most:
            found.append(
                f"--autoscale wants a most from 1 to {MOST_SLOTS} and a least from 0 on, 10,2 say, not {most},{least}"
            )
        if kind is not None and not kind.resizes:
            found.append(f"the {named(self.pool)} pool cannot keep --autoscale; use --pool prefork, or drop it")
        return found

    def make_pool(self) -> Pool:
        """The pool that these options ask for. Raises ImproperlyConfigured."""
        given = PoolOptions(
            self.hostname,
            self.concurrency,
            self.prefetch_multiplier,
            self.max_tasks_per_child,
            self.max_memory_per_child,
            self.loglevel,
            self.logfile,
            self.include,
            self.app,
        )
        return pool_class(self.pool).make(given)


def autoscale_bounds(text: str) -> tuple[int, int]:
    """The most and the least tasks at a time, from "10,2", in either order, or "10", which is 10,0.

    Raises ImproperlyConfigured for what is neither.
    """
    try:
        bounds = sorted(int(part) for part in text.split(","))
    except ValueError:
        bounds = []
    if len(bounds) not in (1, 2):
        raise ImproperlyConfigured(f"--autoscale takes the most and the least tasks at a time, 10,2 say, not {text!r}")
    return bounds[-1], bounds[0] if len(bounds) == 2 else 0


def consumed_queues(wanted: list[str] | None, excluded: list[str]) -> tuple[str, ...]:
    """The queues to consume: those of --queues, else TASK_QUEUES, else TASK_DEFAULT_QUEUE; less the excluded.

    Raises ImproperlyConfigured for what can name no queue, and for a queue that TASK_CREATE_MISSING_QUEUES=False does
    not allow.
    """
    declared = known_queues()
    if wanted is not None and not wanted:
        raise ImproperlyConfigured("--queues names no queue (an empty variable, perhaps): name one, or leave it out")
    for name in wanted or ():
        try:
            queue_name(name)
        except Unfit as error:
            raise ImproperlyConfigured(f"--queues: each {error}") from None
    if wanted and not settings.TASK_CREATE_MISSING_QUEUES:
        for name in wanted:
            if name not in declared and name != settings.TASK_DEFAULT_QUEUE and not is_own(name):
                raise ImproperlyConfigured(
                    f"--queues names {name!r}, which is not in TASK_QUEUES, and TASK_CREATE_MISSING_QUEUES is off"
                )
    return tuple(dict.fromkeys(name for name in wanted or declared if name not in excluded))
