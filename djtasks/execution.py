"""One run of a task: its code, its handlers, the signals and the log lines about it, and the outcome.

`trace` runs messages with it in a worker, and `apply()` in the caller's own process. Nothing here touches the task
tables.

    before_start, the task itself -> encoded result -> on_success or its kin, signals, log -> Outcome
"""

import logging
import os
import time
from types import CoroutineType
from typing import Any, NamedTuple

from djtasks import acks, aio, atomic, signals
from djtasks.backoff import exponential
from djtasks.canvas import links
from djtasks.conf import settings
from djtasks.current import Frame, pop, push, report
from djtasks.einfo import ExceptionInfo, hide_frames_of
from djtasks.exceptions import FATAL, Ignore, Reject, Retry, TaskRevokedError, safe_repr
from djtasks.messages import Again, Outcome, Progress
from djtasks.payload import Payload, pack_exception, pack_value
from djtasks.reporting import report_of
from djtasks.states import State
from djtasks.telling import as_many_as_fit, log, send_failure, send_postrun, soft_limit_window, tell

logger = logging.getLogger("djtasks.tracer")
hide_frames_of(__file__)

_INFO = logging.INFO
# As plain texts: they go to the database, and over sockets.
SUCCESS, FAILURE, RETRY = State.SUCCESS.value, State.FAILURE.value, State.RETRY.value
IGNORED, REJECTED, STARTED = State.IGNORED.value, State.REJECTED.value, State.STARTED.value
_NOTHING: Payload = ("application/json", "", b"")


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
    task = frame.task
    window = soft_limit_window
    outside = window.inside
    run: Run | None = None
    push(frame)
    try:
        begin(frame)
        try:
            value, outcome = atomic.within(frame, _complete_or_ignored) if task.atomic else _complete(frame)
        except BaseException as error:
            run = raised(frame, error)
        else:
            run = succeeded(frame, value, outcome)
        if frame.again is not None and run.outcome.state != RETRY:
            run = again_after_all(frame, run)
        return run
    finally:
        window.inside = outside
        try:
            if signals.task_postrun.receivers:
                send_postrun(frame, *((None, None) if run is None else (run.value, run.outcome.state)))
        finally:
            pop(frame)


def begin(frame: Frame) -> None:
    """It is about to run: who wants to know is told."""
    task, request = frame.task, frame.request
    if signals.task_prerun.receivers:
        signals.task_prerun.send(task, task_id=request.id, task=task, args=request.args, kwargs=request.kwargs)
    if settings.TASK_TRACK_STARTED if task.track_started is None else task.track_started:
        _report_started(frame)


def _complete(frame: Frame) -> tuple[Any, Outcome]:
    """Run the task's code: what it returned, and the outcome of that, with what follows it."""
    task, request, window = frame.task, frame.request, soft_limit_window
    args, kwargs, outside = request.args, request.kwargs, window.inside
    try:
        window.inside = True
        said = task.before_start(request.id, args, kwargs)
        if type(said) is CoroutineType:
            aio.run(said)
        value = task.run(*args, **kwargs) if frame.entered else task(*args, **kwargs)
        if type(value) is CoroutineType:
            value = aio.run(value)
    finally:
        window.inside = outside
    return value, made(frame, value)


def made(frame: Frame, value: Any) -> Outcome:
    """The outcome of code that has returned this. Raises what makes it none: Ignore, or what encoding raises."""
    task, request = frame.task, frame.request
    if frame.replaced is not None:
        # The task has gone on after that: all the same, its work is done elsewhere.
        raise Ignore("Replaced by new task")
    outcome = _outcome(frame, SUCCESS, _packed(frame, value))
    if frame.message is not None and frame.message.chord is not None and ignores_result(task, request.ignore_result):
        # Only its chord asks for it.
        outcome = outcome._replace(store=False)
    if (request.callbacks or request.chain) and not request.is_eager:
        successors, opened = links.follow(request, value)
        outcome = outcome._replace(successors=successors, opened=opened)
    return outcome


def _complete_or_ignored(frame: Frame) -> tuple[Any, Outcome]:
    """As `_complete`, for a transaction that is to be committed when the task raises Ignore."""
    try:
        return _complete(frame)
    except Ignore as ignored:
        return ignored, _ignored(frame)


def _packed(frame: Frame, value: Any) -> Payload | None:
    """The encoded result, or None when nobody asks for it."""
    message = frame.message
    if message is None or (message.chord is None and ignores_result(frame.task, frame.request.ignore_result)):
        return None
    packed = pack_value(value)
    if (size := len(packed[2])) > settings.RESULT_WARN_BYTES:
        line = "Task %(name)s[%(id)s] returned %(size)s bytes, over RESULT_WARN_BYTES (%(limit)s): "
        line += "store the data and return its key"
        log(logging.WARNING, line, frame, size=f"{size:,}", limit=f"{settings.RESULT_WARN_BYTES:,}")
    return packed


def _outcome(
    frame: Frame, state: str, packed: Payload | None, traceback: str | None = None, store: bool = True
) -> Outcome:
    message, extended = frame.message, frame.task.result_extended
    content_type, encoding, body = packed or _NOTHING
    return Outcome(
        0 if message is None else message.claim,
        frame.request.id or "" if message is None else message.id,
        state,
        None if packed is None else body,
        content_type,
        encoding,
        traceback,
        store and packed is not None,
        state != SUCCESS or (settings.RESULT_EXTENDED if extended is None else extended),
        frame.began,
        time.perf_counter() - frame.clock,
        again=frame.again,
    )


def _ignored(frame: Frame) -> Outcome:
    """The outcome of a task that has raised Ignore: what replaces it goes on in its place, if anything does."""
    outcome = _outcome(frame, IGNORED, None)
    if frame.finished or frame.request.is_eager or frame.again is not None:
        return outcome._replace(finished=frame.finished)
    if frame.replaced is not None:
        messages, chords = frame.replaced
        return outcome._replace(successors=tuple(map(tuple, messages)), opened=tuple(map(tuple, chords)), replaced=True)
    if fallen := links.behind(frame.request):
        content_type, encoding, body = pack_exception(TaskRevokedError("ignored"))
        return outcome._replace(content_type=content_type, content_encoding=encoding, result=body, fallen=fallen)
    return outcome


def succeeded(frame: Frame, value: Any, outcome: Outcome) -> Run:
    """It has returned: its handlers, the receivers of signals and the log are told."""
    task, request = frame.task, frame.request
    if not hasattr(task.on_success, "does_nothing"):
        tell(frame, task.on_success, value, request.id, request.args, request.kwargs)
    if signals.task_success.receivers:
        signals.task_success.send(task, result=value, runtime=outcome.runtime)
    if logger.isEnabledFor(_INFO):
        log(
            _INFO,
            "Task %(name)s[%(id)s] succeeded in %(runtime)ss: %(return_value)s",
            frame,
            runtime=outcome.runtime,
            return_value=safe_repr(value, task.resultrepr_maxsize),
        )
    if not hasattr(task.after_return, "does_nothing"):
        tell(frame, task.after_return, SUCCESS, value, request.id, request.args, request.kwargs, None)
    return Run(outcome, value)


def raised(frame: Frame, error: BaseException) -> Run:
    """It has raised this: what that means, and who is told. Raises what is FATAL."""
    task = frame.task
    if isinstance(error, FATAL):
        raise error
    if isinstance(error, Retry):
        return _retried(frame, error)
    if isinstance(error, Ignore):
        log(_INFO, "Task %(name)s[%(id)s] ignored", frame)
        return Run(_ignored(frame), error)
    if isinstance(error, Reject):
        return _rejected(frame, error)
    if isinstance(error, atomic.Refused):
        log(logging.WARNING, "Task %(name)s[%(id)s] was undone: %(exc)s", frame, exc=str(error))
        return Run(_outcome(frame, REJECTED, None), error)
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
    tell(frame, task.on_retry, retry.exc, request.id, request.args, request.kwargs, einfo)
    if signals.task_retry.receivers:
        signals.task_retry.send(task, request=request, reason=retry, einfo=einfo)
    log(_INFO, "Task %(name)s[%(id)s] retry: %(exc)s", frame, exc=str(retry))
    return Run(outcome, retry, einfo)


def again_after_all(frame: Frame, run: Run) -> Run:
    """`retry(throw=False)` was called and the task went on: it runs again, however this run ended."""
    outcome = run.outcome._replace(
        state=RETRY, result=None, traceback=None, again=frame.again, keep=True, dead=None, reported=None
    )._replace(successors=(), opened=(), fallen=(), replaced=False)
    return Run(outcome, run.value, run.einfo)


def _rejected(frame: Frame, error: Reject) -> Run:
    """Back into the queue, or a dead letter: a FAILURE that keeps its message."""
    log(logging.WARNING, "Task %(name)s[%(id)s] %(exc)s", frame, exc=safe_repr(error))
    if error.requeue:
        return Run(_outcome(frame, REJECTED, None)._replace(again=Again(counts=False)), error)
    einfo = ExceptionInfo(error)
    outcome = _failure(frame, error, einfo, "rejected")
    if signals.task_failure.receivers:
        send_failure(frame, einfo)
    return Run(outcome, error, einfo)


def _failed(frame: Frame, error: BaseException) -> Run:
    task, request = frame.task, frame.request
    einfo = ExceptionInfo(error)
    outcome = _failure(frame, error, einfo, None if acks.on_failure(task) else "failed")
    told = (error, request.id, request.args, request.kwargs, einfo)
    tell(frame, task.on_failure, *as_many_as_fit(task.on_failure, told))
    if signals.task_failure.receivers:
        send_failure(frame, einfo)
    expected = bool(task.throws) and isinstance(error, task.throws)
    log(
        _INFO if expected else logging.ERROR,
        f"Task %(name)s[%(id)s] raised {'expected' if expected else 'unexpected'}: %(exc)s",
        frame,
        None if expected else einfo,
        exc=safe_repr(error),
    )
    tell(frame, task.after_return, FAILURE, error, request.id, request.args, request.kwargs, None)
    return Run(outcome, error, einfo)


def _failure(frame: Frame, error: BaseException, einfo: ExceptionInfo, dead: str | None) -> Outcome:
    """The outcome, with what follows it; a dead letter is stored whatever else is not."""
    request = frame.request
    if request.is_eager or frame.again is not None:
        dead = None
    stored = frame.message is not None and (dead is not None or stores_errors(frame.task, request.ignore_result))
    packed = pack_exception(error) if stored or _concerns_others(frame) else None
    outcome = _outcome(frame, FAILURE, packed, einfo.traceback, stored)
    if request.chain and not request.is_eager and frame.again is None:
        outcome = outcome._replace(fallen=links.behind(request))
    if request.errbacks and frame.again is None:
        called, successors, opened = links.errbacks(request)
        for each in called:
            tell(frame, each, request, error, einfo.traceback)
        outcome = outcome._replace(successors=successors, opened=opened)
    return outcome._replace(dead=dead, reported=report_of(frame.task, error))


def _concerns_others(frame: Frame) -> bool:
    """Whether its end is also that of others."""
    return frame.message is not None and (frame.message.chord is not None or bool(frame.request.chain))


def _report_started(frame: Frame) -> None:
    message = frame.message
    request = frame.request
    if message is None or request.is_eager or ignores_result(frame.task, request.ignore_result):
        return
    content_type, encoding, body = pack_value({"pid": os.getpid(), "hostname": request.hostname})
    report(Progress(message.claim, message.id, STARTED, body, content_type, encoding))
