"""The task now running, as a context variable: one stack for each thread, greenlet and coroutine.

A `Frame` is one task being run: by a worker, by `apply()`, or as a plain function call. `Context` is what its author
sees as `self.request`.
"""

import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from djtasks.conf.kinds import is_limit
from djtasks.exceptions import DecodeError, InvalidTaskError, safe_repr
from djtasks.messages import Again, Claimed, Progress
from djtasks.serializers.json import loads

Reporter = Callable[[Progress], None]

#: Where `update_state` goes when the frame names no reporter of its own: a child process sets it once, at its start.
reporter: Reporter | None = None


class Context:
    """What a task's author sees as `self.request`.

    What is not known, or does not apply, is the class's default; what is known is in `__dict__`. The caller's own
    headers are in `headers`, and are attributes too.
    """

    id: str | None = None
    task: str | None = None
    args: Any = None
    kwargs: Any = None
    retries: int = 0
    #: False in a worker and in `apply()`; True when the task is called as a function.
    called_directly: bool = True
    is_eager: bool = False
    hostname: str | None = None
    delivery_info: dict[str, Any] | None = None
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    group_index: int | None = None
    chain: Any = None
    chord: Any = None
    callbacks: Any = None
    errbacks: Any = None
    #: ISO 8601, in UTC.
    eta: str | None = None
    #: ISO 8601, in UTC.
    expires: str | None = None
    #: [hard, soft] seconds of this call, or None.
    timelimit: list[float | None] | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    #: None: the task and the settings decide.
    ignore_result: bool | None = None
    shadow: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    headers: dict[str, Any] | None = None
    properties: dict[str, Any] | None = None
    origin: str | None = None
    reply_to: str | None = None
    correlation_id: str | None = None
    replaced_task_nesting: int = 0
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] | None = None
    taskset: str | None = None
    logfile: str | None = None
    loglevel: int | None = None
    utc: bool = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args:
            kwargs = dict(*args, **kwargs)
        # Cheaper than writing what is in `kwargs` one by one, and this is done in every run.
        self.__dict__ = kwargs

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As a dict's `update`."""
        self.__dict__.update(*args, **kwargs)

    def clear(self) -> None:
        """Forget all that is known."""
        self.__dict__.clear()

    def get(self, key: str, default: Any = None) -> Any:
        """The attribute of this name, or `default` when there is none."""
        return getattr(self, key, default)

    @property
    def children(self) -> list[Any]:
        """The results of what this task has sent."""
        children: list[Any] = self.__dict__.setdefault("_children", [])
        return children

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the request of a task has no {name!r}")

    def __repr__(self) -> str:
        return f"<Context: {self.__dict__!r}>"


def context_of(message: Claimed, args: Any, kwargs: Any, hostname: str) -> Context:
    """The request of `message`, which a worker named `hostname` is about to run.

    Raises DecodeError when its headers cannot be read, InvalidTaskError when they are not what djtasks writes.
    """
    task_id = message.id
    request = Context(
        id=task_id,
        root_id=task_id,
        correlation_id=task_id,
        task=message.name,
        args=args,
        kwargs=kwargs,
        retries=message.retries,
        called_directly=False,
        hostname=hostname,
        delivery_info={
            "exchange": "",
            "routing_key": message.queue,
            "priority": message.priority,
            "redelivered": message.crashes > 0,
        },
    )
    if message.eta is not None:
        request.eta = _shown(message.eta)
    if message.expires is not None:
        request.expires = _shown(message.expires)
    if message.headers is not None:
        _take_headers(request, _read_headers(message.headers))
    return request


def _shown(moment: float) -> str | None:
    """A moment in ISO 8601; None for one that no calendar has: PostgreSQL knows infinity, and years past 9999."""
    try:
        return datetime.fromtimestamp(moment, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return None


def _read_headers(text: str) -> dict[str, Any]:
    try:
        said = loads(text.encode())
    except MemoryError:
        raise
    except Exception as error:
        # Not only ValueError: what stands for a type of ours may be anything, and so may the function that reads it.
        raise DecodeError(f"the headers of the message cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(said, dict):
        raise InvalidTaskError(f"the headers of a message must be an object, not {safe_repr(said, 200)}")
    return said


def _take_headers(request: Context, headers: dict[str, Any]) -> None:
    own = headers.pop("headers", None)
    if own:
        if not isinstance(own, dict):
            raise InvalidTaskError(f"the caller's own headers must be an object, not {safe_repr(own, 200)}")
        # Beneath what djtasks says itself: a caller's header cannot change an id or a limit.
        for key, value in own.items():
            if not hasattr(Context, key):
                request.__dict__[key] = value
        request.headers = own
    task_id = headers.pop("task_id", None)
    if task_id is not None:
        request.id = request.root_id = request.correlation_id = task_id
    request.__dict__.update(headers)
    if request.timelimit is not None:
        _take_limits(request, request.timelimit)
    if request.group:
        request.taskset = request.group


def _take_limits(request: Context, limits: object) -> None:
    if not isinstance(limits, list) or len(limits) != 2:
        raise InvalidTaskError(f"the time limits of a message must be [hard, soft], not {safe_repr(limits, 200)}")
    # What can be no limit is none, for the worker as well.
    request.time_limit, request.soft_time_limit = (each if is_limit(each) else None for each in limits)


class Frame:
    """One task being run."""

    __slots__ = (
        "again",
        "began",
        "clock",
        "entered",
        "max_retries",
        "message",
        "previous",
        "reporter",
        "request",
        "rerun",
        "task",
    )

    def __init__(
        self,
        task: Any,
        request: Context,
        message: Claimed | None = None,
        reporter: Reporter | None = None,
        entered: bool = False,
    ) -> None:
        self.task = task
        self.request = request
        #: What is run; None for a function call.
        self.message = message
        self.reporter = reporter
        #: The task's code has been reached: calling the task now is a function call inside it.
        self.entered = entered
        #: What `retry()` asked for.
        self.again: Again | None = None
        #: The arguments with which it is to run again: (args, kwargs).
        self.rerun: tuple[Any, Any] | None = None
        #: The `max_retries` that a `retry()` of this run was given.
        self.max_retries: int | None = None
        self.previous: Frame | None = None
        #: When the run began: seconds since the epoch, and on the monotonic clock.
        self.began = time.time()
        self.clock = time.perf_counter()


_top: ContextVar[Frame | None] = ContextVar("djtasks_frame", default=None)

#: The innermost frame, or None. A name for the bound method, because it is asked for in every call.
top = _top.get


def push(frame: Frame) -> None:
    """Make `frame` the innermost one."""
    frame.previous = _top.get()
    _top.set(frame)


def pop(frame: Frame) -> None:
    """Back to the frame that was innermost before `frame` was pushed."""
    # Not by the variable's token: that refuses to work in another context than push() did.
    _top.set(frame.previous)


def frames() -> Iterator[Frame]:
    """From the innermost out."""
    frame = _top.get()
    while frame is not None:
        yield frame
        frame = frame.previous


def running() -> Frame | None:
    """The innermost frame that is no mere function call: the one whose id children name as their parent."""
    frame = _top.get()
    while frame is not None and frame.request.called_directly:
        frame = frame.previous
    return frame


def get_current_task() -> Any:
    """The task now running, or None."""
    frame = _top.get()
    return None if frame is None else frame.task


def get_current_worker_task() -> Any:
    """The task that a worker (or `apply()`) runs now, through any function calls of tasks inside it; or None."""
    frame = running()
    return None if frame is None else frame.task


def get_current_request() -> Context | None:
    """The request of the task now running, or None."""
    frame = _top.get()
    return None if frame is None else frame.request


def report(progress: Progress) -> bool:
    """Hand `progress` to whoever runs this task. False when nobody does: not in a worker."""
    # A task that is called as a function inside another one reports to where that one does.
    send = next((frame.reporter for frame in frames() if frame.reporter is not None), reporter)
    if send is None:
        return False
    send(progress)
    return True


class Proxy:
    """Stands for what `find` returns, at the moment it is used; false and equal to None when that is None."""

    __slots__ = ("_find",)

    def __init__(self, find: Callable[[], Any]) -> None:
        object.__setattr__(self, "_find", find)

    def _get_current_object(self) -> Any:
        return self._find()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._find(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._find(), name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._find()(*args, **kwargs)

    def __bool__(self) -> bool:
        return bool(self._find())

    def __eq__(self, other: object) -> bool:
        return bool(self._find() == other)

    def __hash__(self) -> int:
        return hash(self._find())

    def __repr__(self) -> str:
        return repr(self._find())


#: The task now running; false outside of one.
current_task: Any = Proxy(get_current_task)
