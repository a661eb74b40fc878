"""What a task's options say about its runs: its time limits, and whether it runs again after a loss."""

from typing import Any, NamedTuple

from djtasks.conf import settings
from djtasks.conf.kinds import is_limit
from djtasks.messages import Claimed
from djtasks.payload import headers_of
from djtasks.registry import tasks


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


def rerun_names() -> list[str]:
    """The tasks whose messages run again when their process is lost."""
    return sorted(name for name, task in tasks.items() if runs_again(task))


def runs_again(task: Any) -> bool:
    """Late acks run again after a loss, unless `reject_on_worker_lost` is False (Celery's default is to fail)."""
    late = settings.TASK_ACKS_LATE if task.acks_late is None else task.acks_late
    wanted = settings.TASK_REJECT_ON_WORKER_LOST if task.reject_on_worker_lost is None else task.reject_on_worker_lost
    return bool(late) and wanted is not False
