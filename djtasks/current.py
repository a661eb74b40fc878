"""The task now running, as a context variable: one stack for each thread, greenlet and coroutine.

A `Frame` is one task being run: by a worker, by `apply()`, or as a plain function call. `Context` is what its author
sees as `self.request`.
"""

import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from djtasks import masking
from djtasks.conf import settings
from djtasks.conf.kinds import is_limit
from djtasks.exceptions import DecodeError, InvalidTaskError, safe_repr
from djtasks.messages import Again, Chord, Claimed, Message, Progress
from djtasks.proxies import Proxy
from djtasks.registry import tasks
from djtasks.serializers.json import loads
from djtasks.steps import Steps, split

Reporter = Callable[[Progress], None]

#: Where `update_state` goes when the frame names no reporter of its own: a child process sets it once, at its start.
reporter: Reporter | None = None


_NONE = (None, None)


class _Known:
    """What a request says when it was not told: worked out, in a run, when it is asked for; None outside of one."""

    __slots__ = ("_find",)

    def __init__(self, find: "Callable[[Context], Any]") -> None:
        self._find = find

    def __get__(self, request: "Context | None", owner: type) -> Any:
        return None if request is None or request.called_directly else self._find(request)


def _limit_of(request: "Context", name: str) -> float | None:
    limit = getattr(tasks.get(request.task or ""), name, None) or getattr(settings, f"TASK_{name.upper()}")
    return limit if is_limit(limit) else None


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
    #: Seconds, in a run: what the call says, else the task, else the settings.
    time_limit: Any = _Known(lambda request: _limit_of(request, "time_limit"))
    soft_time_limit: Any = _Known(lambda request: _limit_of(request, "soft_time_limit"))
    #: In a run: both of them, [hard, soft].
    timelimit: Any = _Known(lambda request: [request.time_limit, request.soft_time_limit])
    #: None: the task and the settings decide.
    ignore_result: bool | None = None
    shadow: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    headers: dict[str, Any] | None = None
    #: A message broker's.
    properties: Any = _Known(lambda request: {"correlation_id": request.id, "reply_to": request.reply_to or ""})
    origin: str | None = None
    reply_to: str | None = None
    correlation_id: str | None = None
    replaced_task_nesting: int = 0
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] | None = None
    taskset: str | None = None
    #: Which arguments nobody may read, as `djtasks.masking` writes it.
    sensitive: Any = None
    #: The headers that receivers of `before_task_publish` added.
    hooked: list[str] | None = None
    logfile: str | None = None
    loglevel: int | None = None
    utc: bool = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args:
            kwargs = dict(*args, **kwargs)
        # Cheaper than writing what is in `kwargs` one by one, and this is done in every run.
        self.__dict__ = kwargs

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As a dict's `update`; a new `timelimit` is also the new limits."""
        new = dict(*args, **kwargs)
        self.__dict__.update(new)
        if "timelimit" in new:
            pair = new["timelimit"]
            self.time_limit, self.soft_time_limit = pair if isinstance(pair, list | tuple) and len(pair) == 2 else _NONE

    def clear(self) -> None:
        """Forget all that is known."""
        self.__dict__.clear()

    def get(self, key: str, default: Any = None) -> Any:
        """The attribute of this name, or `default` when there is none."""
        return getattr(self, key, default)

    def as_execution_options(self) -> dict[str, Any]:
        """The options of a call which this run could be that of."""
        hard, soft = self.timelimit or _NONE
        options = {
            "task_id": self.id,
            "root_id": self.root_id,
            "parent_id": self.parent_id,
            "group_id": self.group,
            "group_index": self.group_index,
            "shadow": self.shadow,
            "chord": self.chord,
            "chain": self.chain,
            "link": self.callbacks,
            "link_error": self.errbacks,
            "expires": self.expires,
            "soft_time_limit": soft,
            "time_limit": hard,
            "headers": self.headers,
            "retries": self.retries,
            "reply_to": self.reply_to,
            "origin": self.origin,
        }
        if self.stamped_headers is not None and self.stamps is not None:
            options["stamped_headers"] = self.stamped_headers
            options |= {key: value for key, value in self.stamps.items() if key in self.stamped_headers}
        return options

    @property
    def children(self) -> list[Any]:
        """The results of what this task has sent."""
        children: list[Any] = self.__dict__.setdefault("_children", [])
        return children

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the request of a task has no {name!r}")

    def __repr__(self) -> str:
        shown = self.__dict__
        if self.sensitive:
            args, kwargs = masking.mask(self.sensitive, self.args, self.kwargs)
            shown = {**shown, "args": args, "kwargs": kwargs}
        return f"<Context: {shown!r}>"


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
            "redelivered": message.redelivered or message.crashes > 0,
        },
    )
    if message.eta is not None:
        request.eta = _shown(message.eta)
    if message.expires is not None:
        request.expires = _shown(message.expires)
    if message.chord is not None:
        request.chord = message.chord
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
    head, chain = split(text)
    try:
        said = loads(head.encode())
    except MemoryError:
        raise
    except Exception as error:
        # Not only ValueError: what stands for a type of ours may be anything, and so may the function that reads it.
        raise DecodeError(f"the headers of the message cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(said, dict):
        raise InvalidTaskError(f"the headers of a message must be an object, not {safe_repr(said, 200)}")
    if chain is not None:
        said["chain"] = chain
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
    for key in ("callbacks", "errbacks", "chain"):
        if not isinstance(headers.get(key, []), list | Steps):
            raise InvalidTaskError(f"the {key} of a message must be a list, not {safe_repr(headers[key], 200)}")
    request.__dict__.update(headers)
    if "timelimit" in headers and headers["timelimit"] is not None:
        _take_limits(request, headers["timelimit"])
    if request.group:
        request.taskset = request.group


def _take_limits(request: Context, limits: object) -> None:
    if not isinstance(limits, list) or len(limits) != 2:
        raise InvalidTaskError(f"the time limits of a message must be [hard, soft], not {safe_repr(limits, 200)}")
    # What can be no limit is none, for the worker as well.
    hard, soft = (each if is_limit(each) else None for each in limits)
    if hard is not None:
        request.time_limit = hard
    if soft is not None:
        request.soft_time_limit = soft
    del request.__dict__["timelimit"]


class Frame:
    """One task being run."""

    __slots__ = (
        "again",
        "began",
        "clock",
        "entered",
        "finished",
        "max_retries",
        "message",
        "owner",
        "previous",
        "replaced",
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
        owner: int | None = None,
    ) -> None:
        self.task = task
        self.request = request
        #: What is run; None for a function call.
        self.message = message
        self.reporter = reporter
        #: The incarnation of the worker that holds the message; None where nobody does.
        self.owner = owner
        #: The run has written its own end.
        self.finished = False
        #: The task's code has been reached: calling the task now is a function call inside it.
        self.entered = entered
        #: What `retry()` asked for.
        self.again: Again | None = None
        #: The arguments with which it is to run again: (args, kwargs).
        self.rerun: tuple[Any, Any] | None = None
        #: What `replace()` asked for: the messages that are to be written in its place, and their chords.
        self.replaced: tuple[list[Message], list[Chord]] | None = None
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


def leave() -> None:
    """Forget what runs, in this context: what is done now is not done by it."""
    _top.set(None)


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


def hider() -> masking.Hide | None:
    """What takes the sensitive arguments of the task now running out of a text; None when it has none."""
    frame = running()
    if frame is None:
        return None
    request = frame.request
    said = request.sensitive or masking.of(frame.task)
    return masking.hider(said, request.args, request.kwargs) if said else None


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


#: The task now running; false outside of one.
current_task: Any = Proxy(get_current_task)
