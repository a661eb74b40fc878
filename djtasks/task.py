"""`Task`: what a decorated function becomes, and what task classes inherit from.

A task is one object in a process, shared by all its runs: what belongs to one run is in `self.request`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, TypeVar, Unpack

from django.db import transaction

from djtasks import aio, annotations, appstate, arguments, current, eager, result, retrying
from djtasks.calling_async import AsyncCalling
from djtasks.calls import CallOptions, check_arguments
from djtasks.canvas.signature import Signature
from djtasks.conf import settings
from djtasks.conf.kinds import is_storable
from djtasks.current import Context, Frame
from djtasks.db.connections import borrow
from djtasks.db.results import report
from djtasks.eager import EagerResult
from djtasks.events import Dispatcher
from djtasks.exceptions import Retry
from djtasks.growing import Growing
from djtasks.handlers import Handlers, Signatures
from djtasks.ids import as_task_id, new_task_id
from djtasks.messages import Progress
from djtasks.payload import pack_exception, pack_value
from djtasks.publisher import publish, publish_many
from djtasks.registry import tasks
from djtasks.states import EXCEPTION_STATES
from djtasks.task_options import Options
from djtasks.validation import Models

P = ParamSpec("P")
R = TypeVar("R")


class Task(Options, Handlers, Signatures, Growing, AsyncCalling[P, R], Generic[P, R]):
    """A task that takes P and returns R.

    Its options are class attributes, or arguments of the decorator; they stand at `Options`.
    """

    #: Whether a worker may call `run` without a detour through a `__call__` of the task's own.
    runs_directly: ClassVar[bool] = True
    #: The app whose task it is; None: the current one.
    _app: Any = None
    #: What `pydantic=True` needs to know, and whether it was said.
    _models: Models | None = None
    dumps_models: ClassVar[bool] = False
    _annotated: ClassVar[bool] = False
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
            entered: R = self.run(*args, **kwargs)
            return entered
        frame = Frame(self, Context(task=self.name, args=args, kwargs=kwargs), entered=True)
        current.push(frame)
        try:
            value: Any = self.run(*args, **kwargs)
        finally:
            current.pop(frame)
        # The code of a coroutine runs when it is awaited, and then it is this task that runs.
        if type(value) is CoroutineType:
            value = aio.framed(frame, value)
        returned: R = value
        return returned

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
        if self.dumps_models:
            args, kwargs = self.dump_arguments(args, kwargs, options.get("serializer"))
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
        logfile: Any = None,
        loglevel: Any = None,
        **options: Unpack[CallOptions],
    ) -> EagerResult[R]:
        """Run the task here and now, with a request, states and retries as in a worker.

        countdown, eta, expires, logfile and loglevel mean nothing here. With `throw` (None: TASK_EAGER_PROPAGATES)
        raises what the task raises in the end.
        """
        args, kwargs = check_arguments(args, kwargs)
        return eager.apply(self, args, kwargs, options, throw)

    def dump_arguments(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], serializer: str | None = None
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The arguments of a call as they are to be encoded: for `pydantic=True`, dicts instead of models."""
        if self._models is None or (serializer or self.serializer or settings.TASK_SERIALIZER) == "pickle":
            return args, kwargs
        return self._models.dump_arguments(args, kwargs)

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
    ) -> Retry:
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

    def signature_from_request(
        self,
        request: Context | None = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: Any = None,
        **options: Any,
    ) -> Signature:
        """The call that goes on now (or that of `request`) as data, with other arguments where these are not None."""
        request = request or self.request
        info = request.delivery_info or {}
        said = {**request.as_execution_options(), "ignore_result": request.ignore_result, **options}
        said |= {"priority": info.get("priority"), "queue": queue or info.get("routing_key")}
        said = {key: value for key, value in said.items() if value is not None}
        return Signature(
            self, request.args if args is None else args, request.kwargs if kwargs is None else kwargs, said
        )

    subtask_from_request = signature_from_request

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

    def send_event(
        self, type_: str, retry: bool = True, retry_policy: Mapping[str, Any] | None = None, **fields: Any
    ) -> None:
        """Send an event of your own, `task-progress` say, at once: with the id of the task that runs, and `fields`.

        Whether or not the worker sends events. `retry` and its policy mean nothing here. Raises TypeError for a type
        that is no text, and Django's database errors.
        """
        request = self.request
        Dispatcher(hostname=request.hostname, buffer_while_offline=False).send(type_, uuid=request.id, **fields)

    # -- being a task -------------------------------------------------------------------------------------------

    @property
    def app(self) -> Any:
        """The app: that which made the task, else the current one."""
        return self._app or appstate.current()

    def bind(self, app: Any = None) -> Any:
        """Make it a task of `app` (None: of the current one); returns that."""
        self._app = app
        if appstate.ready:
            self.annotate()
        self.on_bound(self.app)
        return self.app

    def annotate(self) -> None:
        """Take over what TASK_ANNOTATIONS say of it, once. Raises ImproperlyConfigured."""
        cls = type(self)
        if settings.TASK_ANNOTATIONS is None or "_annotated" in vars(cls):
            return
        for values in annotations.values_for(settings.TASK_ANNOTATIONS, self):
            annotations.apply(cls, values)
        cls._annotated = True
        cls.runs_directly = cls.__call__ is Task.__call__
        self._check = None

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
            raise AttributeError(f"the task {self.name!r} has no attribute {name!r}")


def _by_name(name: str) -> Any:
    """The task that a pickled one stands for. Raises NotRegistered."""
    return tasks[name]
