"""Which failures somebody is told of, and in which words; `djtasks.mail` sends them."""

from typing import Any

from djtasks.conf import settings
from djtasks.current import hider
from djtasks.exceptions import safe_repr

#: The class of the exception, and the exception as text.
Report = tuple[str, str]


def report_of(task: Any, error: BaseException) -> Report | None:
    """What an e-mail about this failure of `task` (None: unknown) says; None when none is wanted.

    The task's `error_emails` beats TASK_ERROR_EMAILS, and what is in its `throws` is no surprise.
    """
    wanted = None if task is None else task.error_emails
    if not (settings.TASK_ERROR_EMAILS if wanted is None else wanted):
        return None
    if task is not None and task.throws and isinstance(error, task.throws):
        return None
    text, hide = safe_repr(error), hider()
    kind = type(error)
    return f"{kind.__module__}.{kind.__qualname__}", text if hide is None else hide(text)
