"""What a task's options say about the fate of its message when a run does not end well.

Early acks (the default): a run counts as done when it begins. Late acks: when it has ended, so that what is lost with
its process is run again; only then is there anything to decide after a failure, or after a hard time limit.
"""

from typing import Any

from djtasks.conf import settings


def late(task: Any) -> bool:
    """Whether the message counts as done only when its run has ended; `atomic` implies it."""
    if task.atomic:
        return True
    return settings.TASK_ACKS_LATE if task.acks_late is None else bool(task.acks_late)


def runs_again(task: Any) -> bool:
    """Whether the message runs again when its process is lost.

    Late acks do, unless `reject_on_worker_lost` is False (Celery's default is to fail).
    """
    wanted = settings.TASK_REJECT_ON_WORKER_LOST if task.reject_on_worker_lost is None else task.reject_on_worker_lost
    return late(task) and wanted is not False


def on_failure(task: Any) -> bool:
    """Whether a failure is the end of the message; if not, it becomes a dead letter."""
    return not late(task) or _either(task, task.acks_on_failure, settings.TASK_ACKS_ON_FAILURE)


def on_timeout(task: Any) -> bool:
    """Whether a hard time limit is the end of the message; if not, it goes back into its queue."""
    return not late(task) or _either(task, task.acks_on_timeout, settings.TASK_ACKS_ON_TIMEOUT)


def _either(task: Any, own: bool | None, setting: bool | None) -> bool:
    """The option itself, or its setting; else the one for both, or that one's setting."""
    if own is None:
        own = setting
    if own is None:
        own = task.acks_on_failure_or_timeout
    return settings.TASK_ACKS_ON_FAILURE_OR_TIMEOUT if own is None else bool(own)
