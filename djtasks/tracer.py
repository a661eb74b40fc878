"""A worker's way to run one message: nothing here touches the task tables, all that is to be stored is in the Outcome.

message -> task, arguments, request -> Frame -> execute -> Outcome
"""

import contextlib
import logging
import time
from typing import Any

from djtasks import signals
from djtasks.canvas.links import behind_of, errbacks_of
from djtasks.current import Context, Frame, Reporter, context_of
from djtasks.einfo import ExceptionInfo, hide_frames_of, storable
from djtasks.exceptions import FATAL, DecodeError, InvalidTaskError, NotRegistered, TaskRevokedError, safe_repr
from djtasks.execution import execute, stores_errors
from djtasks.messages import Claimed, Outcome
from djtasks.payload import headers_of, pack_exception, unpack_call
from djtasks.registry import tasks
from djtasks.reporting import report_of
from djtasks.states import State
from djtasks.telling import SoftLimitWindow, send_internal_error, soft_limit_window

__all__ = ["SoftLimitWindow", "failure", "soft_limit_window", "tell_revoked", "trace"]

logger = logging.getLogger("djtasks.tracer")
hide_frames_of(__file__)


def trace(message: Claimed, *, hostname: str, reporter: Reporter | None = None, owner: int | None = None) -> Outcome:
    """Run `message` in this thread, in a worker named `hostname`, and say how it ended.

    `reporter` is given the states that are no end. `owner` is the incarnation of the worker that holds the message: the
    run of an atomic task then writes its own end. Whatever the task raises is in the Outcome; only what is to end the
    process is raised: KeyboardInterrupt, WorkerShutdown and WorkerTerminate.
    """
    frame = framed(message, hostname, reporter, owner)
    if isinstance(frame, Outcome):
        return frame
    try:
        return execute(frame).outcome
    except FATAL:
        raise
    except BaseException as error:
        return broken(frame, message, error)


def framed(message: Claimed, hostname: str, reporter: Reporter | None, owner: int | None) -> Frame | Outcome:
    """What is to be executed; or how the message ends without that."""
    task = tasks.get(message.name)
    if task is None:
        return _refused(message, NotRegistered(message.name), "unknown")
    try:
        if message.expired or (message.expires is not None and message.expires <= time.time()):
            return _expired(message, task, hostname)
        args, kwargs = unpack_call(
            message.body, message.content_type, message.content_encoding, message.name, message.id, message.headers
        )
        return Frame(task, context_of(message, args, kwargs, hostname), message, reporter, task.runs_directly, owner)
    except FATAL:
        raise
    except BaseException as error:
        return _refused(message, error, "undecodable")


def broken(frame: Frame, message: Claimed, error: BaseException) -> Outcome:
    """The outcome where what is around the task's code raised: not the task's own error, that is in its outcome."""
    send_internal_error(frame, ExceptionInfo(error, internal=True))
    return _refused(message, error, None)


def failure(message: Claimed, exc: BaseException, traceback: str | None = None, dead: str | None = None) -> Outcome:
    """The outcome of a message whose run did not end by itself: REVOKED for TaskRevokedError, else FAILURE.

    `dead` says why it is a dead letter, if it is one: then it is stored whatever its task says.
    """
    ignored = headers_of(message.headers).get("ignore_result")
    said = ignored if isinstance(ignored, bool) else None
    task = tasks.get(message.name)
    revoked = isinstance(exc, TaskRevokedError)
    content_type, encoding, body = pack_exception(exc)
    successors, opened = ((), ()) if revoked else errbacks_of(message, exc, traceback)
    return Outcome(
        claim=message.claim,
        id=message.id,
        state=State.REVOKED.value if revoked else State.FAILURE.value,
        result=body,
        content_type=content_type,
        content_encoding=encoding,
        traceback=None if traceback is None else storable(traceback),
        store=dead is not None or stores_errors(task, said),
        keep=True,
        started=time.time(),
        dead=dead,
        successors=successors,
        opened=opened,
        fallen=behind_of(message),
        reported=None if revoked else report_of(task, exc),
    )


def _refused(message: Claimed, error: BaseException, dead: str | None) -> Outcome:
    """The task's code was not reached: it is unknown, or its message cannot be read. Or what is around it broke."""
    einfo = ExceptionInfo(error, internal=True)
    # It may have been the log that failed: the outcome matters more than the line.
    with contextlib.suppress(Exception):
        logger.error(
            "Task %(name)s[%(id)s] could not be run: %(exc)s",
            {"name": message.name, "id": message.id, "exc": safe_repr(error)},
            exc_info=None if isinstance(error, NotRegistered) else einfo.exc_info,
        )
    return failure(message, error, einfo.traceback, dead)


def log_discarded(message: Claimed) -> None:
    """Log that the message, which is revoked or has expired, does not run."""
    if logger.isEnabledFor(logging.INFO):
        data = {"id": message.id, "name": headers_of(message.headers).get("shadow") or message.name}
        logger.info("Discarding revoked task: %(name)s[%(id)s]", data, extra={"data": data})


def _expired(message: Claimed, task: Any, hostname: str) -> Outcome:
    log_discarded(message)
    tell_revoked(message, hostname, expired=True)
    return failure(message, TaskRevokedError("expired"))


def tell_revoked(
    message: Claimed, hostname: str, *, terminated: bool = False, signum: int | None = None, expired: bool = False
) -> None:
    """Tell the receivers of task_revoked that the message does not run, or was broken off."""
    if not signals.task_revoked.receivers:
        return
    try:
        request = _known_of(message, hostname)
        sender = tasks.get(message.name) or message.name
        signals.task_revoked.send(sender, request=request, terminated=terminated, signum=signum, expired=expired)
    except FATAL:
        raise
    except BaseException as error:
        # Signals let out what would end a process.
        logger.error("A receiver of task_revoked raised %s", safe_repr(error), exc_info=True)


def _known_of(message: Claimed, hostname: str) -> Context:
    """The request of a message that will not run: without its headers, where they are broken."""
    try:
        return context_of(message, None, None, hostname)
    except (DecodeError, InvalidTaskError):
        return context_of(message._replace(headers=None), None, None, hostname)
