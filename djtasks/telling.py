"""Who hears of a run: the task's handlers, the receivers of signals, the log.

What any of them raises does not change how the task ended.
"""

import logging
import threading
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from djtasks import aio, masking, signals
from djtasks.arguments import takes
from djtasks.conf import settings
from djtasks.current import Frame, hider
from djtasks.einfo import ExceptionInfo, hide_frames_of
from djtasks.exceptions import FATAL, safe_repr

logger = logging.getLogger("djtasks.tracer")
hide_frames_of(__file__)


class SoftLimitWindow(threading.local):
    """Whether a task's author's code runs in this thread: the only place where a soft time limit may be raised."""

    inside = False


soft_limit_window = SoftLimitWindow()


def tell(frame: Frame, handler: Callable[..., Any], *arguments: Any) -> None:
    """Call one of the task's handlers; what it raises does not change how the task ended."""
    outside = soft_limit_window.inside
    try:
        soft_limit_window.inside = True
        said = handler(*arguments)
        if type(said) is CoroutineType:
            aio.run(said)
        soft_limit_window.inside = outside
    except FATAL:
        raise
    except BaseException as error:
        soft_limit_window.inside = outside
        if frame.request.is_eager:
            raise
        _handler_failed(frame, handler, error)


def as_many_as_fit(handler: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """`arguments`, without the last one for a handler that was written without it."""
    if not takes(handler, arguments) and takes(handler, arguments[:-1]):
        return arguments[:-1]
    return arguments


def _handler_failed(frame: Frame, handler: Callable[..., Any], error: BaseException) -> None:
    einfo = ExceptionInfo(error, internal=True)
    name = getattr(handler, "__name__", "handler")
    log(logging.ERROR, f"Task %(name)s[%(id)s] {name} raised: %(exc)s", frame, einfo, exc=safe_repr(error))
    send_internal_error(frame, einfo)


def send_internal_error(frame: Frame, einfo: ExceptionInfo) -> None:
    """Tell the receivers of task_internal_error, if there are any."""
    if not signals.task_internal_error.receivers:
        return
    request = frame.request
    signals.task_internal_error.send(
        frame.task,
        task_id=request.id,
        args=request.args,
        kwargs=request.kwargs,
        request=request,
        exception=einfo.exception,
        traceback=einfo.tb,
        einfo=einfo,
    )


def send_failure(frame: Frame, einfo: ExceptionInfo) -> None:
    """Tell the receivers of task_failure."""
    request = frame.request
    signals.task_failure.send(
        frame.task,
        task_id=request.id,
        exception=einfo.exception,
        args=request.args,
        kwargs=request.kwargs,
        traceback=einfo.tb,
        einfo=einfo,
    )


def send_postrun(frame: Frame, retval: Any, state: str | None) -> None:
    """Tell the receivers of task_postrun."""
    request = frame.request
    signals.task_postrun.send(
        frame.task,
        task_id=request.id,
        task=frame.task,
        args=request.args,
        kwargs=request.kwargs,
        retval=retval,
        state=state,
    )


def log(level: int, line: str, frame: Frame, einfo: ExceptionInfo | None = None, **more: Any) -> None:
    """Log a line about the run; `more` is what the line names beside id, name and hostname."""
    if not logger.isEnabledFor(level):
        return
    request = frame.request
    data = {"id": request.id, "name": request.shadow or frame.task.name, "hostname": request.hostname, **more}
    exc_info = None if einfo is None else einfo.exc_info
    hide = hider()
    if settings.LOG_ARGUMENTS:
        args, kwargs = masking.shown(request.sensitive, request.args, request.kwargs)
        data["args"], data["kwargs"] = request.argsrepr or args, request.kwargsrepr or kwargs
    if hide is not None:
        data |= {key: hide(value) for key, value in more.items() if isinstance(value, str)}
        if einfo is not None:
            # What a handler makes of the exception itself would show all of it.
            line, exc_info, data["traceback"] = f"{line}\n%(traceback)s", None, einfo.traceback
    logger.log(level, line, data, exc_info=exc_info, extra={"data": data})
