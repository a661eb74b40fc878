"""`@shared_task`: a function becomes a registered `Task`."""

import difflib
import logging
import sys
import warnings
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from djtasks import appstate, keys, retrying
from djtasks.calls import check_limit
from djtasks.registry import check_name, tasks
from djtasks.task import Task
from djtasks.validation import Models

P = ParamSpec("P")
R = TypeVar("R")
Naming = Callable[[str, str], str]
Exceptions = type[BaseException] | Collection[type[BaseException]]

logger = logging.getLogger("djtasks")


class TaskOptions(TypedDict, total=False):
    """The options of a task: what they mean stands at the attributes of `Task`.

    An option of another name becomes an attribute of the task. `shared` and `lazy` are Celery's, and mean nothing here.
    """

    name: str
    base: type[Task[..., Any]]
    filter: Callable[[Any], Any]
    typing: bool
    max_retries: int | None
    default_retry_delay: float
    autoretry_for: Exceptions
    dont_autoretry_for: Exceptions
    retry_kwargs: Mapping[str, Any]
    retry_backoff: bool | float
    retry_backoff_max: float
    retry_jitter: bool
    rate_limit: str | float | None
    global_rate_limit: str | float | None
    global_rate_key: str | Callable[..., str] | None
    concurrency_key: str | Callable[..., str] | None
    max_concurrency: int | None
    unique: bool | None
    unique_key: str | Callable[..., str] | None
    on_conflict: str | None
    time_limit: float | None
    soft_time_limit: float | None
    ignore_result: bool | None
    result_extended: bool | None
    store_errors_even_if_ignored: bool | None
    serializer: str | None
    compression: str | None
    acks_late: bool | None
    acks_on_failure: bool | None
    acks_on_timeout: bool | None
    acks_on_failure_or_timeout: bool | None
    reject_on_worker_lost: bool | None
    atomic: bool | str
    track_started: bool | None
    throws: Exceptions
    expires: float | timedelta | datetime | None
    priority: int | None
    queue: Any
    routing_key: str | None
    exchange: Any
    enqueue: str | None
    trail: bool
    send_events: bool
    resultrepr_maxsize: int
    sensitive: bool | str | Sequence[str]
    error_emails: bool | None
    #: When it is to run again and again.
    schedule: Any
    #: Validate arguments that are annotated with pydantic's models, and dump one that is returned.
    pydantic: bool
    pydantic_strict: bool
    pydantic_context: Mapping[str, Any] | None
    pydantic_dump_kwargs: Mapping[str, Any] | None
    shared: bool
    lazy: bool


if TYPE_CHECKING:

    class AsyncTask(Task[P, R]):
        """A task whose function is `async def`, and R what it returns when it is awaited.

        Called as a function it is that coroutine; else it is a task as any other.
        """

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:  # type: ignore[override]
            ...

    class _Of(Protocol):
        """Makes a task of a function."""

        @overload
        def __call__(self, fun: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...

        @overload
        def __call__(self, fun: Callable[P, R], /) -> Task[P, R]: ...

    class _OfBound(Protocol):
        """Makes a task of a function whose first argument is the task."""

        @overload
        def __call__(self, fun: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...

        @overload
        def __call__(self, fun: Callable[Concatenate[Any, P], R], /) -> Task[P, R]: ...

else:
    # A matter of types alone: a base class of one's own may be any Task.
    AsyncTask = _Of = _OfBound = Task


_OPTIONS = frozenset(TaskOptions.__annotations__) | {"bind"}
_MEANINGLESS = ("shared", "lazy")


def task_name(name: str, module: str) -> str:
    """The name of a task by that of its function: `module.function`. For a script that is run, the module's own."""
    if module == "__main__":
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        module = getattr(spec, "name", None) or module
    return f"{module}.{name}"


class TaskDecorator:
    """Makes tasks of functions, bare or with options:

        @shared_task
        def add(x, y): ...

        @shared_task(bind=True, max_retries=5)
        def fetch(self, url): ...

    With `bind` the function's first argument is the task. If there is a task of the name already, that one is
    returned.
    """

    def __init__(
        self,
        naming: Naming = task_name,
        app: Any = None,
        base: type[Task[..., Any]] = Task,
        typing: bool = True,
    ) -> None:
        """`base` is the class of tasks that name none, `typing` whether the arguments of their calls are checked."""
        self._naming, self._app, self._base, self._typing = naming, app, base, typing

    @overload
    def __call__(self, fun: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...

    @overload
    def __call__(self, fun: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def __call__(self, /, *, bind: Literal[True], **options: Unpack[TaskOptions]) -> _OfBound: ...

    @overload
    def __call__(self, /, *, bind: Literal[False] = False, **options: Unpack[TaskOptions]) -> _Of: ...

    def __call__(self, /, *functions: Any, **options: Any) -> Any:
        """Raises TypeError for what is no function and for what cannot be a task's name, ValueError for what is no time
        limit.
        """
        if len(functions) > 1:
            raise TypeError(f"@task takes one function, and got {len(functions)} arguments")
        if not functions:
            _check_options(options)
            return lambda function: self._task_of(function, options)
        if not callable(functions[0]):
            raise TypeError(f"@task takes a function, not {functions[0]!r}; options are given by name")
        return self._task_of(functions[0], options)

    def _task_of(self, function: Callable[..., Any], options: Mapping[str, Any]) -> Any:
        options = {"base": self._base, **options}
        if not self._typing:
            options.setdefault("typing", False)
        return _task_of(function, self._naming, options, self._app)


#: Celery's name for the decorator that needs no app.
shared_task = TaskDecorator()
#: The same under the name that Celery had for it in Django's early days.
task = shared_task


def register_task(task: Any, naming: Naming = task_name, app: Any = None) -> Any:
    """Register a task of a class of one's own, given as instance or as class; returns the instance.

    Raises TypeError when it is no Task, or has a name that no task can have.
    """
    made = task() if isinstance(task, type) else task
    if not isinstance(made, Task):
        raise TypeError(f"register_task() takes a Task, not {task!r}")
    if not made.name:
        made.name = naming(type(made).__name__, type(made).__module__)
    check_name(made.name)
    tasks[made.name] = made
    made.bind(app)
    return made


def _check_options(options: Mapping[str, Any]) -> None:
    for option in options.keys() - _OPTIONS:
        if near := difflib.get_close_matches(option, _OPTIONS, n=1, cutoff=0.85):
            warnings.warn(f"a task has no option {option!r}; did you mean {near[0]!r}?", RuntimeWarning, stacklevel=4)
    keys.check_options(options)
    retrying.check_options(options)
    for option in ("time_limit", "soft_time_limit"):
        # 0 is none, as in the settings.
        if (limit := options.get(option)) != 0:
            check_limit(limit, option)


def _task_of(function: Callable[..., Any], naming: Naming, options: Mapping[str, Any], app: Any = None) -> Any:
    if not callable(function):
        raise TypeError(f"@task takes a function, not {function!r}")
    attributes = dict(options)
    base = attributes.pop("base", None) or Task
    finish = attributes.pop("filter", None)
    bind = attributes.pop("bind", False)
    for option in _MEANINGLESS:
        attributes.pop(option, None)
    function_name = getattr(function, "__name__", type(function).__name__)
    module = getattr(function, "__module__", None) or "__main__"
    name = attributes.pop("name", None) or naming(function_name, module)
    check_name(name)
    if name in tasks:
        _warn_of_another(tasks[name], function, name)
        return tasks[name]
    if (models := _models(function, name, bind, attributes)) is not None:
        attributes |= {"_models": models, "dumps_models": True}
        function = models.wrapped()
    run = function if bind else staticmethod(function)
    attributes |= {
        "name": name,
        "run": run,
        "abstract": False,
        "__doc__": function.__doc__,
        "__module__": module,
        "__name__": function_name,
        "__wrapped__": run,
    }
    for option in ("autoretry_for", "dont_autoretry_for", "throws"):
        if option in attributes:
            attributes[option] = _classes(attributes[option])
    made = type(function_name, (base,), attributes)()
    made = finish(made) if finish is not None else made
    tasks[name] = made
    if isinstance(made, Task):
        made.bind(app)
    return made


def _models(function: Callable[..., Any], name: str, bind: bool, attributes: dict[str, Any]) -> Models | None:
    """What `pydantic=True` and its fellows ask for, taken out of the options."""
    wanted = attributes.pop("pydantic", False)
    strict, context, dump = (attributes.pop(f"pydantic_{each}", None) for each in ("strict", "context", "dump_kwargs"))
    return Models(function, name, bind, bool(strict), context, dump, appstate.current) if wanted else None


def _classes(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,)


def _warn_of_another(there: Any, function: Callable[..., Any], name: str) -> None:
    """The first definition wins; when another function wants the name, somebody should know."""
    known = getattr(there, "__wrapped__", None)
    if known is None or getattr(known, "__module__", None) == getattr(function, "__module__", None):
        return
    logger.warning(
        "two functions want to be the task %r: that of %s is, that of %s is not; give one of them a name= of its own",
        name,
        getattr(known, "__module__", "?"),
        getattr(function, "__module__", "?"),
    )
