"""What becomes of a message whose process was lost: run again, or end.

With late acks it runs again, up to TASK_MAX_CRASHES losses, so that a task which kills its process cannot kill every
process there is. With early acks what has begun never begins again.
"""

from djtasks import acks, tracer
from djtasks.conf import settings
from djtasks.exceptions import TimeLimitExceeded, WorkerLostError
from djtasks.messages import Claimed, Outcome
from djtasks.registry import tasks


def outcome_of_loss(message: Claimed, how: str) -> Outcome | None:
    """The FAILURE that ends the message, or None when it is to run again."""
    most = settings.TASK_MAX_CRASHES
    if message.rerun and message.crashes < most:
        return None
    dead = None
    if message.rerun:
        text = f"The worker process was lost ({how}) for the {message.crashes + 1}. time while it ran this task; "
        text += f"more than {most} (TASK_MAX_CRASHES) are not tried."
        dead = "crashed"
    else:
        text = f"The worker process was lost ({how}). The task may or may not have run; set acks_late to run it again."
        task = tasks.get(message.name)
        if task is not None and not acks.on_failure(task):
            dead = "failed"
    return tracer.failure(message, WorkerLostError(text), dead=dead)


def outcome_of_limit(message: Claimed, limit: float) -> Outcome | None:
    """The FAILURE of a run that was over its hard limit of so many seconds, or None when the message is to run again.

    With `acks_on_timeout=False` it does, and counts as a crash, so that a task which is always too slow ends.
    """
    task = tasks.get(message.name)
    if task is None or acks.on_timeout(task):
        return tracer.failure(message, TimeLimitExceeded(limit))
    if message.crashes < settings.TASK_MAX_CRASHES:
        return None
    return tracer.failure(message, TimeLimitExceeded(limit), dead="crashed")
