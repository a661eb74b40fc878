"""`Task`: what a decorated function becomes, and what task classes inherit from.

A task is one object in a process, shared by all its runs: what belongs to one run is in `self.request`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, TypeVar, Unpack

from django.db import transaction

from djtasks import arguments, current, eager, exceptions, result, retrying
from djtasks.calls import CallOptions, check_arguments
from djtasks.conf import settings
from djtasks.conf.kinds import is_storable
from djtasks.current import Context, Frame
from djtasks.db.connections import borrow
from djtasks.db.results import report
from djtasks.eager import EagerResult
from djtasks.einfo import ExceptionInfo
from djtasks.ids import as_task_id, new_task_id
from djtasks.messages import Progress
from djtasks.payload import pack_exception, pack_value
from djtasks.publisher import publish, publish_many
from djtasks.registry import tasks
from djtasks.states import EXCEPTION_STATES

P = ParamSpec("P")
R = TypeVar("R")
_P = ParamSpec("_P")

#: What Celery's tasks have and ours will.
_TO_COME = frozenset(
    {"s", "si", "signature", "subtask", "chunks", "map", "starmap", "replace", "add_to_chord", "send_event"}
)


def _does_nothing(handler: Callable[_P, None]) -> Callable[_P, None]:
    """Mark a handler that a run need not call. (A mark, because a class or a test may put another in its place.)"""
    handler.does_nothing = True  # type: ignore[attr-defined]
    return handler


class Task(Generic[P, R]):
    """A task that takes P and returns R.

    The attributes are its options: class attributes, or arguments of the decorator. None means as the settings say.
    """

    #: What its messages say: unique, and the same in the caller and in the worker.
    name: str = ""
    #: Check a call's arguments against the signature, in the caller.
    typing: bool = True
    #: Times it may be run again after the first; None: for ever.
    max_retries: int | None = 3
    #: Seconds before a retry that does not say when.
    default_retry_delay: float = 180
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: Mapping[str, Any] = {}
    #: Wait longer each time: True, or the seconds of the first wait.
    retry_backoff: bool | float = False
    #: Seconds, at most.
    retry_backoff_max: float = 600
    #: Wait a random time up to that.
    retry_jitter: bool = True
    rate_limit: str | float | None = None
    #: Seconds.
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool | None = None
    store_errors_even_if_ignored: bool | None = None
    serializer: str | None = None
    compression: str | None = None
    acks_late: bool | None = None
    acks_on_failure: bool | None = None
    acks_on_timeout: bool | None = None
    acks_on_failure_or_timeout: bool | None = None
    reject_on_worker_lost: bool | None = None
    track_started: bool | None = None
    #: Exceptions that are no surprise: logged in one line at INFO. The state is FAILURE all the same.
    throws: tuple[type[BaseException], ...] = ()
    expires: float | timedelta | datetime | None = None
    priority: int | None = None
    queue: Any = None
    routing_key: str | None = None
    exchange: Any = None
    #: "on_commit", "in_transaction" or "immediately".
    enqueue: str | None = None
    trail: bool = True
    send_events: bool = True
    #: Characters of the result in a log line.
    resultrepr_maxsize: int = 1024
    abstract: bool = True

    MaxRetriesExceededError = exceptions.MaxRetriesExceededError
    OperationalError = exceptions.OperationalError

    #: Whether a worker may call `run` without a detour through a `__call__` of the task's own.
    runs_directly: ClassVar[bool] = True
    #: The facade, which puts itself here.
    _app: ClassVar[Any] = None
    _check: arguments.Check | None = None
    _default_request: Context | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.runs_directly = cls.__call__ is Task.__call__

    # -- the task's own code ------------------------------------------------------------------------------------

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The task itself. Raises NotImplementedError until a class defines it."""
        raise NotImplementedError(f"the task class {type(self).__name__} must define run()")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the task as the function it is: here, with no state and no result but what it returns."""
        frame = current.top()
        if frame is not None and frame.task is self and not frame.entered:
            # A worker runs the task, by way of a __call__ of its own that has now come to the task itself.
            frame.entered = True
            value: R = self.run(*args, **kwargs)
            return value
        frame = Frame(self, Context(task=self.name, args=args, kwargs=kwargs), entered=True)
        current.push(frame)
        try:
            return self.run(*args, **kwargs)
        finally:
            current.pop(frame)

    # -- calling ------------------------------------------------------------------------------------------------

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> result.AsyncResult[R]:
        """Enqueue the task with these arguments."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> result.AsyncResult[R]:
        """Enqueue the task; `options` are those of CallOptions.

        Raises TypeError when arguments or options do not fit, ValueError when an option's value does not, EncodeError,
        PayloadTooLarge, QueueNotFound, and OperationalError when the database cannot be reached.
        """
        args, kwargs = check_arguments(args, kwargs)
        if self.typing:
            (self._check or self._checker())(args, kwargs)
        if settings.TASK_ALWAYS_EAGER:
            return eager.apply(self, args, kwargs, options, as_enqueued=True)
        shadow = self.shadow_name(args, kwargs, options)
        if shadow and not options.get("shadow"):
            options["shadow"] = shadow
        return publish(self.name, args, kwargs, options, self)

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> result.AsyncResult[R]:
        """Enqueue the task when the transaction that is open commits; at once when none is."""
        return self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> result.AsyncResult[R]:
        """As `apply_async`, when the transaction that is open commits; at once when none is."""
        options["enqueue"] = "on_commit"
        using = options.get("using")
        if not settings.TASK_ALWAYS_EAGER or not transaction.get_connection(using).in_atomic_block:
            return self.apply_async(args, kwargs, **options)
        if (task_id := options.get("task_id")) is None:
            task_id = options["task_id"] = new_task_id()
        as_task_id(task_id)
        transaction.on_commit(lambda: self.apply_async(args, kwargs, **options), using=using)
        return result.AsyncResult(task_id, task_name=self.name)

    def bulk_apply_async(
        self,
        calls: Iterable[tuple[Sequence[Any] | None, Mapping[str, Any] | None]],
        **options: Unpack[CallOptions],
    ) -> Sequence[result.AsyncResult[R]]:
        """Enqueue the task once for each (args, kwargs), all with the same `options`; the results, in their order.

        `calls` may be any iterable: it is read while its tasks are written, and never held whole. Raises as
        `apply_async` does, and TypeError for what is no such pair; what was written by then stays only outside of a
        transaction.
        """
        if settings.TASK_ALWAYS_EAGER:
            return [self.apply_async(args, kwargs, **options) for args, kwargs in calls]
        return publish_many(self.name, calls, options, self)

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        throw: bool | None = None,
        **options: Unpack[CallOptions],
    ) -> EagerResult[R]:
        """Run the task here and now, with a request, states and retries as in a worker.

        countdown, eta and expires mean nothing here. With `throw` (None: TASK_EAGER_PROPAGATES) raises what the task
        raises in the end.
        """
        args, kwargs = check_arguments(args, kwargs)
        return eager.apply(self, args, kwargs, options, throw)

    def check_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise TypeError when the task cannot be called with these arguments."""
        (self._check or self._checker())(args, kwargs)

    def _checker(self) -> arguments.Check:
        self._check = arguments.checker(self.run, self.name)
        return self._check

    def shadow_name(self, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
        """Another name for this call in logs, or None. For classes to override."""
        return None

    # -- inside a run -------------------------------------------------------------------------------------------

    @property
    def request(self) -> Context:
        """What is known of the run that goes on; outside of one, a Context in which nothing is."""
        frame = self._frame()
        if frame is not None:
            return frame.request
        if self._default_request is None:
            self._default_request = Context()
        return self._default_request

    def _frame(self) -> Frame | None:
        for frame in current.frames():
            if frame.task is self:
                return frame
        return None

    def push_request(self, *args: Any, **kwargs: Any) -> None:
        """Pretend that a run goes on, with a request of these fields; for tests."""
        current.push(Frame(self, Context(*args, **kwargs), entered=True))

    def pop_request(self) -> None:
        """Undo `push_request`."""
        if (frame := current.top()) is not None:
            current.pop(frame)

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | str | None = None,
        countdown: float | timedelta | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> exceptions.Retry:
        """End this run and let the task run again: `raise self.retry(countdown=5)`.

        It stays the same task, with its id, arguments, priority, queue, headers and expiry, where `args`, `kwargs` and
        `options` (those of `apply_async`) do not say otherwise. Without `eta` and `countdown` it waits
        `default_retry_delay` seconds.

        Raises Retry, which ends the run; or returns it without `throw`: then the run goes on, and the task runs again
        however it ends. When the task has been retried `max_retries` times raises `exc`, or MaxRetriesExceededError
        without one. Called in a plain function call, raises `exc`.
        """
        retry = retrying.retry(self, self._frame(), args, kwargs, exc, eta, countdown, max_retries, options)
        if throw:
            raise retry
        return retry

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **kwargs: Any
    ) -> None:
        """Store a state of your own, and `meta` with it, which `AsyncResult.info` returns.

        Without `task_id` it is that of the task that runs; with one, of any task that waits or runs. Raises ValueError
        when there is neither or the state is no text, TypeError for what is no id, EncodeError when `meta` cannot be
        stored.
        """
        frame = self._frame()
        own_id = None if frame is None else frame.request.id
        given = own_id if task_id is None else task_id
        if given is None:
            raise ValueError(f"{self.name}.update_state() needs a task_id outside of a running task")
        if not isinstance(state, str) or not state or not is_storable(state):
            raise ValueError(f"{self.name}.update_state() needs a state, a text without NUL, not {state!r}")
        claim, row = 0, as_task_id(given)
        if frame is not None and task_id in (None, own_id):
            if frame.request.is_eager:
                return
            if frame.message is not None:
                claim, row = frame.message.claim, frame.message.id
        pack = pack_exception if state in EXCEPTION_STATES and isinstance(meta, BaseException) else pack_value
        content_type, encoding, body = pack(meta)
        progress = Progress(claim, row, state, body, content_type, encoding)
        if not current.report(progress):
            report(borrow(), [progress])

    # -- what becomes of a run: for classes to override; what they return is ignored ----------------------------

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called in the worker before the task; what it raises is the task's failure."""

    @_does_nothing
    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called in the worker when the task has returned and its result can be stored."""

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo) -> None:
        """Called in the worker when the task has failed for good."""

    def on_retry(self, exc: BaseException | None, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo) -> None:
        """Called in the worker when the task is to run again."""

    @_does_nothing
    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called in the worker after a success or a failure; `einfo` is None."""

    # -- being a task -------------------------------------------------------------------------------------------

    @property
    def app(self) -> Any:
        """The app."""
        return Task._app

    def AsyncResult(self, task_id: str, **kwargs: Any) -> result.AsyncResult[R]:
        """The result of a call of this task, by its id."""
        return result.AsyncResult(task_id, task_name=self.name, **kwargs)

    def __repr__(self) -> str:
        return f"<@task: {self.name}>"

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return _by_name, (self.name,)

    if not TYPE_CHECKING:

        @property
        def __name__(self) -> str:
            return type(self).__name__

        def __getattr__(self, name: str) -> Any:
            if name in _TO_COME:
                raise AttributeError(f"task.{name}: djtasks does not have workflows and events yet")
            raise AttributeError(f"the task {self.name!r} has no attribute {name!r}")


def _by_name(name: str) -> Any:
    """The task that a pickled one stands for. Raises NotRegistered."""
    return tasks[name]
