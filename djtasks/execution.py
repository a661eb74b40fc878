"""One run of a task: its code, its handlers, the signals and the log lines about it, and the outcome.

`trace` runs messages with it in a worker, and `apply()` in the caller's own process. Nothing here touches the task
tables.

    before_start, the task itself -> encoded result -> on_success or its kin, signals, log -> Outcome
"""

import logging
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from djtasks import signals
from djtasks.arguments import takes
from djtasks.backoff import exponential
from djtasks.conf import settings
from djtasks.current import Frame, pop, push, report
from djtasks.einfo import ExceptionInfo, hide_frames_of
from djtasks.exceptions import FATAL, Ignore, Reject, Retry, safe_repr
from djtasks.messages import Again, Outcome, Progress
from djtasks.payload import Payload, pack_exception, pack_value
from djtasks.states import State

logger = logging.getLogger("djtasks.tracer")
hide_frames_of(__file__)

_INFO = logging.INFO
# As plain texts: they go to the database, and over sockets.
SUCCESS, FAILURE, RETRY = State.SUCCESS.value, State.FAILURE.value, State.RETRY.value
IGNORED, REJECTED, STARTED = State.IGNORED.value, State.REJECTED.value, State.STARTED.value
_NOTHING: Payload = ("application/json", "", b"")


class SoftLimitWindow:
    """Whether a task's author's code runs at this moment: the only place where a soft time limit may be raised."""

    __slots__ = ("inside",)

    def __init__(self) -> None:
        self.inside = False


soft_limit_window = SoftLimitWindow()


class Run(NamedTuple):
    """What came of one run: the outcome for a worker, the objects themselves for a caller in this process."""

    outcome: Outcome
    #: What was returned, or the exception.
    value: Any
    einfo: ExceptionInfo | None = None


def ignores_result(task: Any, said: bool | None) -> bool:
    """Whether nothing is stored of a success. What the call said beats the task, which beats the settings."""
    if said is None and task is not None:
        said = task.ignore_result
    return settings.TASK_IGNORE_RESULT if said is None else said


def stores_errors(task: Any, said: bool | None) -> bool:
    """Whether a failure is stored."""
    if not ignores_result(task, said):
        return True
    store = None if task is None else task.store_errors_even_if_ignored
    return settings.TASK_STORE_ERRORS_EVEN_IF_IGNORED if store is None else store


def execute(frame: Frame) -> Run:
    """Run the task of `frame`, tell its handlers and the receivers of signals, and say how it ended.

    The result is encoded before anybody hears of a success: what cannot be stored is a failure. In eager mode what a
    handler raises is raised; in a worker it is logged, and the outcome stands.
    """
    task, request = frame.task, frame.request
    args, kwargs = request.args, request.kwargs
    window = soft_limit_window
    outside = window.inside
    run: Run | None = None
    push(frame)
    try:
        if signals.task_prerun.receivers:
            signals.task_prerun.send(task, task_id=request.id, task=task, args=args, kwargs=kwargs)
        if settings.TASK_TRACK_STARTED if task.track_started is None else task.track_started:
            _report_started(frame)
        try:
            window.inside = True
            task.before_start(request.id, args, kwargs)
            value = task.run(*args, **kwargs) if frame.entered else task(*args, **kwargs)
            window.inside = outside
            packed = _packed(frame, value)
        except BaseException as error:
            window.inside = outside
            run = _raised(frame, error)
        else:
            run = _succeeded(frame, value, packed)
        if frame.again is not None and run.outcome.state != RETRY:
            run = _again_after_all(frame, run)
        return run
    finally:
        window.inside = outside
        try:
            if signals.task_postrun.receivers:
                _postrun(frame, run)
        finally:
            pop(frame)


def _packed(frame: Frame, value: Any) -> Payload | None:
    """The encoded result, or None when it is not to be stored."""
    if frame.message is None or ignores_result(frame.task, frame.request.ignore_result):
        return None
    packed = pack_value(value)
    if (size := len(packed[2])) > settings.RESULT_WARN_BYTES:
        line = "Task %(name)s[%(id)s] returned %(size)s bytes, over RESULT_WARN_BYTES (%(limit)s): "
        line += "store the data and return its key"
        _log(logging.WARNING, line, frame, size=f"{size:,}", limit=f"{settings.RESULT_WARN_BYTES:,}")
    return packed


def _outcome(frame: Frame, state: str, packed: Payload | None, traceback: str | None = None) -> Outcome:
    message = frame.message
    content_type, encoding, body = packed or _NOTHING
    return Outcome(
        0 if message is None else message.claim,
        frame.request.id or "" if message is None else message.id,
        state,
        None if packed is None else body,
        content_type,
        encoding,
        traceback,
        packed is not None,
        state != SUCCESS or settings.RESULT_EXTENDED,
        frame.began,
        time.perf_counter() - frame.clock,
        again=frame.again,
    )


def _succeeded(frame: Frame, value: Any, packed: Payload | None) -> Run:
    task, request = frame.task, frame.request
    outcome = _outcome(frame, SUCCESS, packed)
    if not hasattr(task.on_success, "does_nothing"):
        _tell(frame, task.on_success, value, request.id, request.args, request.kwargs)
    if signals.task_success.receivers:
        signals.task_success.send(task, result=value, runtime=outcome.runtime)
    if logger.isEnabledFor(_INFO):
        _log(
            _INFO,
            "Task %(name)s[%(id)s] succeeded in %(runtime)ss: %(return_value)s",
            frame,
            runtime=outcome.runtime,
            return_value=safe_repr(value, task.resultrepr_maxsize),
        )
    if not hasattr(task.after_return, "does_nothing"):
        _tell(frame, task.after_return, SUCCESS, value, request.id, request.args, request.kwargs, None)
    return Run(outcome, value)


def _raised(frame: Frame, error: BaseException) -> Run:
    task = frame.task
    if isinstance(error, FATAL):
        raise error
    if isinstance(error, Retry):
        return _retried(frame, error)
    if isinstance(error, Ignore):
        _log(_INFO, "Task %(name)s[%(id)s] ignored", frame)
        return Run(_outcome(frame, IGNORED, None), error)
    if isinstance(error, Reject):
        return _rejected(frame, error)
    if task.autoretry_for and isinstance(error, task.autoretry_for) and not isinstance(error, task.dont_autoretry_for):
        error = _autoretry(frame, error)
        if isinstance(error, Retry):
            return _retried(frame, error)
    return _failed(frame, error)


def _autoretry(frame: Frame, error: BaseException) -> BaseException:
    """What `retry()` raises for `error`: Retry, or the error itself when the task has been retried often enough."""
    task = frame.task
    options = dict(task.retry_kwargs)
    if task.retry_backoff:
        options["countdown"] = exponential(
            frame.request.retries,
            1 if task.retry_backoff is True else task.retry_backoff,
            task.retry_backoff_max,
            task.retry_jitter,
        )
    if frame.max_retries is not None:
        options["max_retries"] = frame.max_retries
    traceback = error.__traceback__
    try:
        retry: BaseException = task.retry(exc=error, **options)
        return retry
    except BaseException as raised:
        return raised.with_traceback(traceback) if raised is error else raised


def _retried(frame: Frame, retry: Retry) -> Run:
    task, request = frame.task, frame.request
    if frame.again is None:
        # Raised by hand: the same as calling retry() with what it says.
        when = {"countdown" if isinstance(retry.when, int | float) else "eta": retry.when}
        try:
            retry = task.retry(exc=retry.exc, throw=False, **when)
        except BaseException as error:
            return _failed(frame, error)
    einfo = ExceptionInfo(retry)
    packed = None
    if frame.message is not None and stores_errors(task, request.ignore_result):
        packed = _NOTHING if retry.exc is None else pack_exception(retry.exc)
    outcome = _outcome(frame, RETRY, packed, einfo.traceback)
    if retry.exc is None:
        outcome = outcome._replace(result=None)
    _tell(frame, task.on_retry, retry.exc, request.id, request.args, request.kwargs, einfo)
    if signals.task_retry.receivers:
        signals.task_retry.send(task, request=request, reason=retry, einfo=einfo)
    _log(_INFO, "Task %(name)s[%(id)s] retry: %(exc)s", frame, exc=str(retry))
    return Run(outcome, retry, einfo)


def _again_after_all(frame: Frame, run: Run) -> Run:
    """`retry(throw=False)` was called and the task went on: it runs again, however this run ended."""
    outcome = run.outcome._replace(state=RETRY, result=None, traceback=None, again=frame.again, keep=True)
    return Run(outcome, run.value, run.einfo)


def _rejected(frame: Frame, error: Reject) -> Run:
    """Back into the queue, or a dead letter: a FAILURE that keeps its message."""
    task, request = frame.task, frame.request
    _log(logging.WARNING, "Task %(name)s[%(id)s] %(exc)s", frame, exc=safe_repr(error))
    if error.requeue:
        return Run(_outcome(frame, REJECTED, None)._replace(again=Again(counts=False)), error)
    einfo = ExceptionInfo(error)
    packed = pack_exception(error) if frame.message and stores_errors(task, request.ignore_result) else None
    if signals.task_failure.receivers:
        _send_failure(frame, einfo)
    return Run(_outcome(frame, FAILURE, packed, einfo.traceback), error, einfo)


def _failed(frame: Frame, error: BaseException) -> Run:
    task, request = frame.task, frame.request
    einfo = ExceptionInfo(error)
    packed = pack_exception(error) if frame.message and stores_errors(task, request.ignore_result) else None
    outcome = _outcome(frame, FAILURE, packed, einfo.traceback)
    told = (error, request.id, request.args, request.kwargs, einfo)
    _tell(frame, task.on_failure, *_as_many_as_fit(task.on_failure, told))
    if signals.task_failure.receivers:
        _send_failure(frame, einfo)
    expected = bool(task.throws) and isinstance(error, task.throws)
    _log(
        _INFO if expected else logging.ERROR,
        f"Task %(name)s[%(id)s] raised {'expected' if expected else 'unexpected'}: %(exc)s",
        frame,
        None if expected else einfo,
        exc=safe_repr(error),
    )
    _tell(frame, task.after_return, FAILURE, error, request.id, request.args, request.kwargs, None)
    return Run(outcome, error, einfo)


# -- telling ------------------------------------------------------------------------------------------------------


def _tell(frame: Frame, handler: Callable[..., Any], *arguments: Any) -> None:
    """Call one of the task's handlers; what it raises does not change how the task ended."""
    outside = soft_limit_window.inside
    try:
        soft_limit_window.inside = True
        handler(*arguments)
        soft_limit_window.inside = outside
    except FATAL:
        raise
    except BaseException as error:
        soft_limit_window.inside = outside
        if frame.request.is_eager:
            raise
        _handler_failed(frame, handler, error)


def _as_many_as_fit(handler: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """`arguments`, without the last one for a handler that was written without it."""
    if not takes(handler, arguments) and takes(handler, arguments[:-1]):
        return arguments[:-1]
    return arguments


def _handler_failed(frame: Frame, handler: Callable[..., Any], error: BaseException) -> None:
    task, request = frame.task, frame.request
    einfo = ExceptionInfo(error, internal=True)
    name = getattr(handler, "__name__", "handler")
    _log(logging.ERROR, f"Task %(name)s[%(id)s] {name} raised: %(exc)s", frame, einfo, exc=safe_repr(error))
    if signals.task_internal_error.receivers:
        signals.task_internal_error.send(
            task,
            task_id=request.id,
            args=request.args,
            kwargs=request.kwargs,
            request=request,
            exception=error,
            traceback=error.__traceback__,
            einfo=einfo,
        )


def _send_failure(frame: Frame, einfo: ExceptionInfo) -> None:
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


def _postrun(frame: Frame, run: Run | None) -> None:
    request = frame.request
    signals.task_postrun.send(
        frame.task,
        task_id=request.id,
        task=frame.task,
        args=request.args,
        kwargs=request.kwargs,
        retval=None if run is None else run.value,
        state=None if run is None else run.outcome.state,
    )


def _report_started(frame: Frame) -> None:
    message = frame.message
    request = frame.request
    if message is None or request.is_eager or ignores_result(frame.task, request.ignore_result):
        return
    content_type, encoding, body = pack_value({"pid": os.getpid(), "hostname": request.hostname})
    report(Progress(message.claim, message.id, STARTED, body, content_type, encoding))


def _log(level: int, line: str, frame: Frame, einfo: ExceptionInfo | None = None, **more: Any) -> None:
    if not logger.isEnabledFor(level):
        return
    request = frame.request
    data = {"id": request.id, "name": request.shadow or frame.task.name, "hostname": request.hostname, **more}
    if settings.LOG_ARGUMENTS:
        data["args"] = request.argsrepr or safe_repr(request.args)
        data["kwargs"] = request.kwargsrepr or safe_repr(request.kwargs)
    logger.log(level, line, data, exc_info=None if einfo is None else einfo.exc_info, extra={"data": data})
