"""Running a task where it is called: `apply()`, and every call when TASK_ALWAYS_EAGER is on."""

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from djtasks import calls
from djtasks.awaiting import assert_will_not_block
from djtasks.canvas import links
from djtasks.conf import settings
from djtasks.current import Context, Frame, context_of, running
from djtasks.db.connections import borrow
from djtasks.db.results import store_eager
from djtasks.exceptions import TaskError
from djtasks.execution import Run, execute
from djtasks.ids import as_task_id, new_task_id
from djtasks.messages import Again, Claimed, Stored
from djtasks.payload import pack_call, unpack_call, unpack_value
from djtasks.result import AsyncResult
from djtasks.routing import route
from djtasks.states import PENDING, PROPAGATE_STATES, READY_STATES, RETRY, REVOKED, SUCCESS

R_co = TypeVar("R_co", covariant=True)


class EagerResult(AsyncResult[R_co]):
    """The result of a task that has run already, in this process."""

    __slots__ = ("_children", "_guarded", "_ret", "_state", "_traceback")

    def __init__(
        self,
        id: Any,
        ret_value: Any = None,
        state: str = PENDING,
        traceback: str | None = None,
        name: str | None = None,
        guarded: bool = False,
    ) -> None:
        """With `guarded`, waiting for it in a task is refused as it would be if the task had been enqueued."""
        super().__init__(id, task_name=name)
        self._ret = ret_value
        self._state = str(state)
        self._traceback = traceback
        self._guarded = guarded
        self._children: Sequence[Any] = ()

    @property
    def state(self) -> str:
        """How the run ended: SUCCESS, FAILURE, IGNORED, REJECTED or REVOKED."""
        return self._state

    status = state

    @property
    def children(self) -> Sequence[Any]:
        """The results of what the task called."""
        return self._children

    def ready(self) -> bool:
        """Always true."""
        return True

    @property
    def result(self) -> Any:
        """What was returned, or the exception."""
        return self._ret

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of the exception, as text."""
        return self._traceback

    def exists(self) -> bool:
        """Always true."""
        return True

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: Callable[[str, R_co], Any] | None = None,
        on_message: Any = None,
        on_interval: Callable[[], Any] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> R_co:
        """What the task returned, or raise what it raised (without `propagate`: return it); None if it was ignored."""
        if disable_sync_subtasks and self._guarded:
            assert_will_not_block()
        return self.maybe_throw(propagate, callback)

    wait = get

    async def aget(self, *args: Any, **kwargs: Any) -> R_co:
        """As `get`."""
        return self.get(*args, **kwargs)

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, R_co], Any] | None = None) -> R_co:
        """As `get`."""
        value: Any = self._ret
        if self._state in PROPAGATE_STATES:
            if propagate:
                raise value if isinstance(value, BaseException) else TaskError(str(value))
        elif self._state != SUCCESS:
            value = None
        if callback is not None:
            callback(self.id, value)
        answer: R_co = value
        return answer

    def revoke(self, *args: Any, **options: Any) -> dict[str, str]:
        """Too late to stop anything: it has run already, and its state becomes REVOKED, as with Celery."""
        self._state = str(REVOKED)
        return {self.id: "done"}

    def forget(self) -> None:
        """Nothing to do, unless the result was stored."""
        if settings.TASK_STORE_EAGER_RESULT:
            super().forget()

    def _look(self) -> Stored | None:
        return None

    def _to_wait_for(self) -> str | None:
        return None

    def _known_end(self) -> str | None:
        return self._state

    def __repr__(self) -> str:
        return f"<EagerResult: {self.id}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._id, self._ret, self._state, self._traceback, self.task_name, self._guarded)


def apply(
    task: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    throw: bool | None = None,
    as_enqueued: bool = False,
) -> EagerResult[Any]:
    """Run `task` here and now, its retries at once.

    With `as_enqueued` arguments and result pass through their serializers, as they would on their way to a worker and
    back. With `throw` (None: TASK_EAGER_PROPAGATES) what the task raises in the end is raised.
    """
    calls.check(options)
    if (own := options.get("task_id")) is None:
        own = new_task_id()
    message = _message(task, own, args, kwargs, options, as_enqueued)
    kept = as_enqueued or settings.TASK_STORE_EAGER_RESULT
    if as_enqueued:
        args, kwargs = unpack_call(
            message.body, message.content_type, message.content_encoding, message.name, message.id, message.headers
        )
    while True:
        request = _request(message, args, kwargs)
        frame = Frame(task, request, message if kept else None, None, task.runs_directly)
        run = execute(frame)
        if run.outcome.state != RETRY or frame.rerun is None:
            break
        args, kwargs = frame.rerun
        message = message._replace(retries=message.retries + 1)
        if kept and frame.again is not None:
            message, args, kwargs = _anew(message, frame.again, args, kwargs, as_enqueued)
    if request.callbacks and run.outcome.state == SUCCESS:
        links.send(request, run.value)
    if settings.TASK_STORE_EAGER_RESULT:
        _store(message, run)
    if (settings.TASK_EAGER_PROPAGATES if throw is None else throw) and run.outcome.state in PROPAGATE_STATES:
        raise run.value
    value = run.value
    if as_enqueued and run.outcome.state == SUCCESS and run.outcome.result is not None:
        value = unpack_value(run.outcome.result, run.outcome.content_type, run.outcome.content_encoding)
    traceback = None if run.einfo is None else run.einfo.traceback
    done: EagerResult[Any] = EagerResult(own, value, run.outcome.state, traceback, task.name, guarded=as_enqueued)
    done._children = request.children
    return done


def _message(
    task: Any, own: Any, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any], packed: bool
) -> Claimed:
    """The message that a worker would have got."""
    task_id = as_task_id(own)
    queue, priority = route(task.name, args, kwargs, options, task)
    headers = calls.headers(options, task, running(), None if task_id == str(own) else own)
    content_type, encoding, body = "", "", b""
    if packed:
        serializer = options.get("serializer") or task.serializer
        compression = options.get("compression") or task.compression
        content_type, encoding, body = pack_call(task.name, args, kwargs, serializer, compression, task_id, headers)
    return Claimed(
        claim=0,
        id=task_id,
        name=task.name,
        queue=queue,
        priority=priority,
        retries=calls.retries(options.get("retries")),
        crashes=0,
        rerun=False,
        body=body,
        content_type=content_type,
        content_encoding=encoding,
        headers=headers,
        eta=None,
        expires=None,
        created=time.time(),
        expired=False,
    )


def _anew(message: Claimed, again: Again, args: Any, kwargs: Any, packed: bool) -> tuple[Claimed, Any, Any]:
    """What the next run has: the message with what a retry has changed of it, and its arguments."""
    if again.headers is not None:
        message = message._replace(headers=again.headers)
    if packed and again.body is not None:
        content_type, encoding = again.content_type or "", again.content_encoding or ""
        args, kwargs = unpack_call(again.body, content_type, encoding, message.name, message.id, message.headers)
    return message, args, kwargs


def _request(message: Claimed, args: Any, kwargs: Any) -> Context:
    request = context_of(message, args, kwargs, socket.gethostname())
    request.is_eager = True
    if request.delivery_info is not None:
        request.delivery_info["is_eager"] = True
    return request


def _store(message: Claimed, run: Run) -> None:
    outcome = run.outcome
    if not outcome.store or outcome.state not in READY_STATES:
        return
    keep = outcome.keep and bool(message.content_type)
    stored = Stored(
        id=message.id,
        state=str(outcome.state),
        result=outcome.result,
        content_type=outcome.content_type,
        content_encoding=outcome.content_encoding,
        traceback=outcome.traceback,
        name=message.name,
        queue=message.queue,
        worker=socket.gethostname(),
        retries=message.retries,
        body=message.body if keep else None,
        body_content_type=message.content_type if keep else None,
        body_content_encoding=message.content_encoding if keep else None,
        headers=message.headers if keep else None,
        created=message.created,
        started=outcome.started,
    )
    store_eager(borrow(), stored)
