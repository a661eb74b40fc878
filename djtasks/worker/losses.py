"""What becomes of a message whose process was lost: run again, or end.

With late acks it runs again, up to TASK_MAX_CRASHES losses, so that a task which kills its process cannot kill every
process there is. With early acks what has begun never begins again.
"""

from djtasks import tracer
from djtasks.conf import settings
from djtasks.exceptions import WorkerLostError
from djtasks.messages import Claimed, Outcome


def outcome_of_loss(message: Claimed, how: str) -> Outcome | None:
    """The FAILURE that ends the message, or None when it is to run again."""
    most = settings.TASK_MAX_CRASHES
    if message.rerun and message.crashes < most:
        return None
    if message.rerun:
        text = f"The worker process was lost ({how}) for the {message.crashes + 1}. time while it ran this task; "
        text += f"more than {most} (TASK_MAX_CRASHES) are not tried."
    else:
        text = f"The worker process was lost ({how}). The task may or may not have run; set acks_late to run it again."
    return tracer.failure(message, WorkerLostError(text))
