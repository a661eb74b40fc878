"""What a caller holds of a task: its id, and through it what the database knows.

Making one asks nothing of the database. What was read of a task that has ended is kept; until then each look is a
fresh one.
"""

import datetime
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Self, TypeVar

from djtasks import outbox, waiting
from djtasks.awaiting import Awaitable, assert_will_not_block
from djtasks.conf import settings
from djtasks.db import results
from djtasks.db.connections import borrow
from djtasks.exceptions import (
    ImproperlyConfigured,
    NotEnqueuedYet,
    RemoteTraceback,
    TaskError,
    TaskRevokedError,
    TimeoutError,
)
from djtasks.ids import as_task_id
from djtasks.messages import Stored
from djtasks.payload import unpack_call, unpack_exception, unpack_value
from djtasks.relatives import Relative
from djtasks.requeue import requeue
from djtasks.result_actions import Revocable
from djtasks.states import EXCEPTION_STATES, FAILURE, PENDING, PROPAGATE_STATES, READY_STATES, REVOKED, SUCCESS

R_co = TypeVar("R_co", covariant=True)

_UNREAD: Any = object()


class AsyncResult(Relative, Revocable, Awaitable[R_co], Generic[R_co]):
    """One task's state and result, by its id.

    An id that nobody knows is PENDING, as is a task that waits; `exists()` tells them apart.
    """

    __slots__ = ("_id", "_ignored", "_stored", "_value", "parent", "task_name")

    def __init__(
        self,
        id: Any,
        backend: Any = None,
        task_name: str | None = None,
        app: Any = None,
        parent: Any = None,
    ) -> None:
        """`id` is a task's id, or the caller's own text for it; `parent` the result of what it comes after, a task
        or a group. `backend` and `app` mean nothing here.

        Raises ValueError when `id` is None.
        """
        if id is None:
            raise ValueError("AsyncResult needs the id of a task, not None")
        self._id = id
        self.task_name = task_name
        self.parent = parent
        self._ignored = False
        self._stored: Stored | None = None
        self._value = _UNREAD

    @property
    def id(self) -> str:
        """The id of the task."""
        return str(self._id)

    @property
    def task_id(self) -> str:
        """The id of the task."""
        return str(self._id)

    # -- what is known now --------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED, or a state of the task's own."""
        stored = self._look()
        return str(PENDING) if stored is None else stored.state

    status = state

    def ready(self) -> bool:
        """Whether it has ended."""
        return self.state in READY_STATES

    def successful(self) -> bool:
        """Whether it has ended well."""
        return self.state == SUCCESS

    def failed(self) -> bool:
        """Whether it has ended in an exception; a revoked task has not."""
        return self.state == FAILURE

    @property
    def result(self) -> Any:
        """What the task returned, or the exception it raised, or the meta of a custom state; else None."""
        return self._read()[1]

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of the exception, as text."""
        stored = self._look()
        return None if stored is None else stored.traceback

    @property
    def dead(self) -> str | None:
        """Why it is a dead letter: rejected, failed, crashed, undecodable or unknown; None for what is none."""
        stored = self._look()
        return None if stored is None else stored.dead

    @property
    def date_done(self) -> datetime.datetime | None:
        """When it ended, in UTC."""
        stored = self._look()
        if stored is None or stored.done is None:
            return None
        return datetime.datetime.fromtimestamp(stored.done, datetime.UTC)

    @property
    def name(self) -> str | None:
        """The name of the task."""
        stored = self._look()
        return self.task_name if stored is None else stored.name

    @property
    def worker(self) -> str | None:
        """The name of the worker that ran it last."""
        stored = self._look()
        return None if stored is None else stored.worker

    @property
    def queue(self) -> str | None:
        """The queue it waits in, or came from."""
        stored = self._look()
        return None if stored is None else stored.queue

    @property
    def retries(self) -> int | None:
        """How often it has been retried."""
        stored = self._look()
        return None if stored is None else stored.retries

    @property
    def args(self) -> Sequence[Any] | None:
        """The positional arguments; None where they are not kept: after a success they are with RESULT_EXTENDED."""
        call = self._call()
        return None if call is None else call[0]

    @property
    def kwargs(self) -> dict[str, Any] | None:
        """The named arguments, as `args`."""
        call = self._call()
        return None if call is None else call[1]

    def exists(self) -> bool:
        """Whether there is such a task: waiting, running, or ended and not yet pruned."""
        stored = self._look()
        # What is only revoked has no name.
        return (stored is not None and stored.name is not None) or outbox.is_pending(as_task_id(self._id))

    @property
    def ignored(self) -> bool:
        """Whether nothing will be stored, so that `get()` returns None at once."""
        return self._ignored

    @ignored.setter
    def ignored(self, value: bool) -> None:
        self._ignored = value

    # -- waiting ------------------------------------------------------------------------------------------------

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
        """Wait until the task has ended, and return what it returned; None at once if its result is ignored.

        Waits `timeout` seconds (None: for ever). With `propagate` an exception of the task is raised, without it is
        returned. `on_interval()` is called every `interval` seconds, `callback(id, value)` with what is returned.

        Raises djtasks.exceptions.TimeoutError; NotEnqueuedYet, at once, when the task waits for the commit of the
        transaction that is open here; RuntimeError inside a running task, unless `disable_sync_subtasks` is False.
        """
        if on_message is not None:
            raise ImproperlyConfigured("on_message needs a message broker; ask for .info, or use on_interval")
        if self._ignored:
            return None  # type: ignore[return-value]
        if disable_sync_subtasks:
            assert_will_not_block()
        if propagate and follow_parents:
            self._throw_for_parents()
        if self._stored is None:
            self._wait(timeout, interval, on_interval)
            if propagate and follow_parents and self.state in PROPAGATE_STATES:
                # What has failed while this one waited is what it failed for.
                self._throw_for_parents()
        return self.maybe_throw(propagate, callback)

    wait = get

    def _throw_for_parents(self) -> None:
        for result in reversed(list(self._parents())):
            result.maybe_throw()

    def _parents(self) -> Iterator[Any]:
        """The results of what came before it, the nearest first: of tasks, and of groups."""
        result = self.parent
        while result is not None:
            yield result
            result = result.parent

    def _to_wait_for(self) -> str | None:
        """The id of the row that is waited for; None when there is nothing to wait for."""
        return None if self._ignored or self._stored is not None else as_task_id(self._id)

    def _known_end(self) -> str | None:
        """The state that it has ended in, where that is known without asking; None where it is not."""
        return None if self._stored is None else self._stored.state

    def unended(self) -> dict[str, Callable[[Stored], None]]:
        """Its id with what keeps its result, if it has not ended."""
        task_id = self._to_wait_for()
        return {} if task_id is None or self.ready() else {task_id: self._keep}

    def _wait(self, timeout: float | None, interval: float, on_interval: Callable[[], Any] | None) -> None:
        task_id = as_task_id(self._id)
        if self._ended_here(task_id):
            return
        if timeout is not None and timeout <= 0:
            # No time to wait: a look is all there is.
            if not self.ready():
                raise TimeoutError("The operation timed out.")
            return
        self._keep(waiting.wait_for(task_id, timeout, interval, on_interval))

    def _keep(self, stored: Stored) -> None:
        self._stored = stored

    def _ended_here(self, task_id: str) -> bool:
        """Whether the transaction that is open here knows of its end, as others cannot. Raises NotEnqueuedYet."""
        if outbox.is_pending(task_id):
            raise NotEnqueuedYet(
                f"the task {self.id} is enqueued when the transaction that is open here commits: wait for it after the"
                " commit, or call it with enqueue='immediately'"
            )
        return borrow().in_atomic_block and self.ready()

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, R_co], Any] | None = None) -> R_co:
        """The result as it is now; an exception is raised if the task has ended in it and `propagate` is true."""
        state, value = self._read()
        if propagate and state in PROPAGATE_STATES:
            raise value if isinstance(value, BaseException) else TaskError(f"the task {self.id} failed: {value!r}")
        if callback is not None:
            callback(self.id, value)
        answer: R_co = value
        return answer

    maybe_reraise = maybe_throw

    def throw(self, *args: Any, **kwargs: Any) -> None:
        """Raise the exception that the task has ended in, if it has."""
        self.maybe_throw(*args, **kwargs)

    def forget(self) -> None:
        """Delete the result from the database, and those of the tasks it came after."""
        if self.parent is not None:
            self.parent.forget()
        results.forget(borrow(), [as_task_id(self._id)])
        self._unread()

    def _unread(self) -> None:
        """Know nothing of it any more."""
        self._stored, self._value = None, _UNREAD

    def requeue(self) -> str:
        """Run the task again under its id, if it has ended; what became of that is said as `requeue` says it."""
        (answer,) = requeue([self.id]).values()
        self._unread()
        return answer

    # -- reading ------------------------------------------------------------------------------------------------

    def _look(self) -> Stored | None:
        """What the database knows; kept once the task has ended."""
        if self._stored is not None:
            return self._stored
        if settings.TASK_ALWAYS_EAGER and not settings.TASK_STORE_EAGER_RESULT:
            warnings.warn(
                "tasks run eagerly and their results are not stored; to read them by id set TASK_STORE_EAGER_RESULT",
                RuntimeWarning,
                stacklevel=4,
            )
        task_id = as_task_id(self._id)
        stored = results.fetch(borrow(), [task_id]).get(task_id)
        if stored is not None and stored.state in READY_STATES:
            self._stored = stored
        return stored

    def _read(self) -> tuple[str, Any]:
        """State and value, of one look."""
        stored = self._look()
        if stored is None:
            return PENDING, None
        if self._value is not _UNREAD:
            return stored.state, self._value
        if stored.result is None:
            # A task that was revoked before anybody knew it, or that stores no result.
            value: Any = TaskRevokedError("revoked") if stored.state == REVOKED else None
        else:
            unpack = unpack_exception if stored.state in EXCEPTION_STATES else unpack_value
            value = unpack(stored.result, stored.content_type, stored.content_encoding)
            if settings.TASK_REMOTE_TRACEBACKS and stored.traceback and isinstance(value, BaseException):
                value.__cause__ = RemoteTraceback(stored.traceback)
        if self._stored is not None:
            self._value = value
        return stored.state, value

    def _call(self) -> tuple[Sequence[Any], dict[str, Any]] | None:
        stored = self._look()
        if stored is None or stored.body is None:
            return None
        return unpack_call(
            stored.body,
            stored.body_content_type or "",
            stored.body_content_encoding or "",
            stored.name,
            stored.id,
            stored.headers,
        )

    # -- being a value ------------------------------------------------------------------------------------------

    def as_tuple(self) -> tuple[Any, Any]:
        """`((id, parent's tuple or None), None)`: what `result_from_tuple` reads."""
        return (self.id, None if self.parent is None else self.parent.as_tuple()), None

    __json__ = as_tuple

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return self.id == other.id
        return self.id == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __copy__(self) -> Self:
        return type(self)(self._id, task_name=self.task_name, parent=self.parent)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._id, None, self.task_name, None, self.parent)
