"""A worker's way to run one message: nothing here touches the task tables, all that is to be stored is in the Outcome.

message -> task, arguments, request -> Frame -> execute -> Outcome
"""

import contextlib
import logging
import time
from typing import Any

from djtasks import signals
from djtasks.current import Context, Frame, Reporter, context_of
from djtasks.einfo import ExceptionInfo, hide_frames_of, storable
from djtasks.exceptions import FATAL, DecodeError, InvalidTaskError, NotRegistered, TaskRevokedError, safe_repr
from djtasks.execution import SoftLimitWindow, execute, soft_limit_window, stores_errors
from djtasks.messages import Claimed, Outcome
from djtasks.payload import headers_of, pack_exception, unpack_call
from djtasks.registry import tasks
from djtasks.states import State

__all__ = ["SoftLimitWindow", "failure", "soft_limit_window", "trace"]

logger = logging.getLogger("djtasks.tracer")
hide_frames_of(__file__)


def trace(message: Claimed, *, hostname: str, reporter: Reporter | None = None) -> Outcome:
    """Run `message` in this thread, in a worker named `hostname`, and say how it ended.

    `reporter` is given the states that are no end. Whatever the task raises is in the Outcome; only what is to end the
    process is raised: KeyboardInterrupt, WorkerShutdown and WorkerTerminate.
    """
    task = tasks.get(message.name)
    if task is None:
        return _refused(message, NotRegistered(message.name))
    try:
        if message.expired or (message.expires is not None and message.expires <= time.time()):
            return _expired(message, task, hostname)
        args, kwargs = unpack_call(message.body, message.content_type, message.content_encoding)
        frame = Frame(task, context_of(message, args, kwargs, hostname), message, reporter, task.runs_directly)
        return execute(frame).outcome
    except FATAL:
        raise
    except BaseException as error:
        return _refused(message, error)


def failure(message: Claimed, exc: BaseException, traceback: str | None = None) -> Outcome:
    """The outcome of a message whose run did not end by itself: REVOKED for TaskRevokedError, else FAILURE."""
    ignored = headers_of(message.headers).get("ignore_result")
    said = ignored if isinstance(ignored, bool) else None
    task = tasks.get(message.name)
    content_type, encoding, body = pack_exception(exc)
    return Outcome(
        claim=message.claim,
        id=message.id,
        state=State.REVOKED.value if isinstance(exc, TaskRevokedError) else State.FAILURE.value,
        result=body,
        content_type=content_type,
        content_encoding=encoding,
        traceback=None if traceback is None else storable(traceback),
        store=stores_errors(task, said),
        keep=True,
        started=time.time(),
    )


def _refused(message: Claimed, error: BaseException) -> Outcome:
    """The task's code was not reached: it is unknown, or its message cannot be read."""
    einfo = ExceptionInfo(error, internal=True)
    # It may have been the log that failed: the outcome matters more than the line.
    with contextlib.suppress(Exception):
        logger.error(
            "Task %(name)s[%(id)s] could not be run: %(exc)s",
            {"name": message.name, "id": message.id, "exc": safe_repr(error)},
            exc_info=None if isinstance(error, NotRegistered) else einfo.exc_info,
        )
    return failure(message, error, einfo.traceback)


def _expired(message: Claimed, task: Any, hostname: str) -> Outcome:
    logger.info("Discarding revoked task: %s[%s]", message.name, message.id)
    if signals.task_revoked.receivers:
        try:
            request = _known_of(message, hostname)
            signals.task_revoked.send(task, request=request, terminated=False, signum=None, expired=True)
        except FATAL:
            raise
        except BaseException as error:
            # Signals let out what would end a process.
            logger.error("A receiver of task_revoked raised %s", safe_repr(error), exc_info=True)
    return failure(message, TaskRevokedError("expired"))


def _known_of(message: Claimed, hostname: str) -> Context:
    """The request of a message that will not run: without its headers, where they are broken."""
    try:
        return context_of(message, None, None, hostname)
    except (DecodeError, InvalidTaskError):
        return context_of(message._replace(headers=None), None, None, hostname)
