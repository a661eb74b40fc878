"""What a task's options say about its runs: its time limits, and whether it runs again after a loss."""

import logging
from typing import Any, NamedTuple

from djtasks import acks
from djtasks.conf.kinds import is_limit
from djtasks.messages import Claimed
from djtasks.payload import headers_of
from djtasks.registry import tasks
from djtasks.worker.pools.base import Pool

logger = logging.getLogger("djtasks.worker")


class Limits(NamedTuple):
    """Time limits in seconds; None for none."""

    soft: float | None = None
    hard: float | None = None

    def of(self, message: Claimed, task: Any) -> "Limits":
        """The limits of this call: what the call says, else the task, else these. What can be no limit says nothing."""
        soft = self.soft if task.soft_time_limit is None else _either(task.soft_time_limit, self.soft)
        hard = self.hard if task.time_limit is None else _either(task.time_limit, self.hard)
        if message.headers is not None and '"timelimit"' in message.headers:
            said = headers_of(message.headers).get("timelimit")
            if isinstance(said, list) and len(said) == 2:
                hard, soft = _either(said[0], hard), _either(said[1], soft)
        return Limits(soft, hard)


def _either(said: Any, otherwise: float | None) -> float | None:
    return said if is_limit(said) else otherwise


NO_LIMITS = Limits()


class Promises:
    """Which limits a worker's pool can keep. Of the others it is said so, once a task: they are no protection."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._said: set[str] = set()

    @property
    def whole(self) -> bool:
        """Whether it keeps them all."""
        return self.pool.soft_limits and self.pool.hard_limits

    def _broken(self, limits: Limits) -> list[str]:
        soft = limits.soft is not None and not self.pool.soft_limits
        hard = limits.hard is not None and not self.pool.hard_limits
        return [name for name, broken in (("soft_time_limit", soft), ("time_limit", hard)) if broken]

    def check_tasks(self) -> None:
        """Name the tasks whose own limits will not be kept."""
        if self.whole:
            return
        found = {
            name: broken
            for name, task in sorted(tasks.items())
            if (broken := self._broken(Limits(task.soft_time_limit, task.time_limit)))
        }
        if found:
            self._said.update(found)
            logger.warning(
                "The %s pool cannot keep the limits of these tasks, which will run as long as they like: %s."
                " Run them in a worker with --pool prefork",
                self.pool.name,
                ", ".join(f"{name} ({', '.join(broken)})" for name, broken in found.items()),
            )

    def check(self, message: Claimed, limits: Limits) -> None:
        """Say that a limit of this call will not be kept."""
        if message.name not in self._said and (broken := self._broken(limits)):
            self._said.add(message.name)
            logger.warning(
                "The %s pool cannot keep the %s of the task %s[%s], which will run as long as it likes; call it for a"
                " worker with --pool prefork. This is said once for each task",
                self.pool.name,
                " and ".join(broken),
                message.name,
                message.id,
            )


def rerun_names() -> list[str]:
    """The tasks whose messages run again when their process is lost."""
    return sorted(name for name, task in tasks.items() if acks.runs_again(task))
