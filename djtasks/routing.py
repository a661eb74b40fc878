"""Where a call goes, and how urgent it is: a task's name and options to a queue and a priority.

What is said nearest to the call wins: its own options, then the task's attributes, then TASK_ROUTES, then (for the
priority, with TASK_INHERIT_PARENT_PRIORITY) the task that calls, then the defaults.
A higher priority runs first.
"""

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.conf import settings as django_settings
from django.utils.module_loading import import_string

from djtasks import current
from djtasks.conf import settings
from djtasks.conf.kinds import PRIORITY_MAX, PRIORITY_MIN, Unfit, queue_name
from djtasks.exceptions import ImproperlyConfigured, QueueNotFound, safe_repr
from djtasks.queuenames import direct_queue, is_own

#: Where the backends of `django.tasks` are that are ours.
BACKENDS = "djtasks.backends."
#: One rule: `(name, args, kwargs, options, task=None)` to a route, or None when it has nothing to say.
Router = Callable[..., Any]
#: What a route may say. Exchanges and delivery modes mean nothing here, and are let pass.
ROUTE_KEYS = ("queue", "priority", "routing_key", "exchange", "exchange_type", "delivery_mode")


class Exchange:
    """An exchange as kombu writes it, so that a list of queues can stay as it is. It means nothing here."""

    __slots__ = ("name", "type")

    def __init__(self, name: str = "", type: str = "direct", **options: Any) -> None:
        self.name, self.type = name, type

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, init=False)
class Queue:
    """A queue as kombu writes it, for TASK_QUEUES and for `queue=`. The exchange, and options that only a message
    broker could keep (`durable`, `exclusive` …), mean nothing here.

    A call with this `routing_key` and no queue goes to the queue; in a key of words joined by dots `*` stands for one
    word and `#` for any number.
    """

    name: str
    exchange: Any
    routing_key: str
    queue_arguments: Mapping[str, Any] | None
    max_priority: int | None

    def __init__(
        self,
        name: str,
        exchange: Any = None,
        routing_key: str = "",
        queue_arguments: Mapping[str, Any] | None = None,
        max_priority: int | None = None,
        **options: Any,
    ) -> None:
        said = (name, exchange, routing_key, queue_arguments, max_priority)
        for field, value in zip(
            ("name", "exchange", "routing_key", "queue_arguments", "max_priority"), said, strict=True
        ):
            object.__setattr__(self, field, value)

    def __str__(self) -> str:
        return self.name


class Broadcast(Queue):
    """A queue of which every worker runs what is sent there, each its own copy; for TASK_QUEUES, as kombu writes it.

    `Broadcast("broadcast_tasks")` has that name. Who is a worker of it is seen when the message is passed on: at once,
    when one of them lives, else when the first of them starts.
    """

    __slots__ = ()
    broadcast = True

    def __init__(
        self,
        name: str | None = None,
        queue: str | None = None,
        unique: bool = False,
        auto_delete: bool = True,
        exchange: Any = None,
        alias: str | None = None,
        **options: Any,
    ) -> None:
        called = alias or name
        if not isinstance(called, str):
            raise TypeError("Broadcast() needs a name: calls are sent to it, and workers take from it")
        super().__init__(called, exchange or Exchange(called, type="fanout"))


def worker_direct(hostname: Any) -> Queue:
    """The queue of one worker alone, `worker_direct("w1@host")`: it takes from there where WORKER_DIRECT is on."""
    if isinstance(hostname, Queue):
        return hostname
    if not isinstance(hostname, str):
        raise TypeError(f"worker_direct() needs the name of a node, not {safe_repr(hostname, 200)}")
    return Queue(direct_queue(hostname), Exchange("C.dq2"), hostname)


class _Compiled(NamedTuple):
    """TASK_ROUTES, and what was made of them."""

    routes: Any
    routers: tuple[Router, ...]


_compiled = _Compiled(None, ())


def route(name: str, args: Any, kwargs: Any, options: Mapping[str, Any], task: Any = None) -> tuple[str, int]:
    """The queue and the priority of a call of the task `name`.

    `options` are the call's own: `queue` (a name, or an object that has one), `priority`, `routing_key`. Raises
    QueueNotFound when TASK_CREATE_MISSING_QUEUES is off and the queue is not in TASK_QUEUES, ValueError when the
    priority or the name of the queue does not fit, ImproperlyConfigured when TASK_ROUTES are at fault, and what
    a router of the project raises.
    """
    queue = _queue_of(options)
    priority = options.get("priority")
    if task is not None:
        if queue is None:
            queue = _queue_of_task(task)
        if priority is None:
            priority = getattr(task, "priority", None)
    if settings.TASK_ROUTES is not None and (queue is None or priority is None):
        found = _look_up(name, args, kwargs, options, task)
        if queue is None:
            queue = _queue_of(found)
        if priority is None:
            priority = found.get("priority")
    if priority is None and settings.TASK_INHERIT_PARENT_PRIORITY:
        priority = _parents_priority()
    if queue is None:
        queue = settings.TASK_DEFAULT_QUEUE
    else:
        check_queue(queue)
    return queue, settings.TASK_DEFAULT_PRIORITY if priority is None else checked_priority(priority)


def checked_priority(priority: Any) -> int:
    """`priority`, when it is one. Raises ValueError."""
    if type(priority) is not int and (isinstance(priority, bool) or not isinstance(priority, int)):
        shown = safe_repr(priority, 200)
        raise ValueError(f"priority must be a whole number from {PRIORITY_MIN} to {PRIORITY_MAX}, not {shown}")
    if not PRIORITY_MIN <= priority <= PRIORITY_MAX:
        shown = safe_repr(priority, 200)
        raise ValueError(f"priority must be from {PRIORITY_MIN} to {PRIORITY_MAX}, not {shown}; higher runs first")
    return priority


def known_queues() -> tuple[str, ...]:
    """The queues that a worker takes from when it is not told: those of TASK_QUEUES, or the default one.

    With the default one come the queues that TASKS names for backends of ours; its "default" is that one.
    """
    if settings.TASK_QUEUES is not None:
        return tuple(settings.TASK_QUEUES)
    named = [name for entry in backends().values() for name in entry.get("QUEUES") or () if name != "default"]
    return tuple(dict.fromkeys((settings.TASK_DEFAULT_QUEUE, *named)))


def backends() -> dict[str, Mapping[str, Any]]:
    """The entries of TASKS whose backend is one of ours, by their aliases."""
    entries = getattr(django_settings, "TASKS", None)
    return {
        alias: entry
        for alias, entry in (entries.items() if isinstance(entries, Mapping) else ())
        if isinstance(entry, Mapping) and str(entry.get("BACKEND")).startswith(BACKENDS)
    }


def compile_routes(routes: Any) -> tuple[Router, ...]:
    """TASK_ROUTES as a row of functions. Raises ImproperlyConfigured."""
    if routes is None:
        return ()
    if isinstance(routes, list | tuple):
        # Celery nests the pairs one list deeper; without that, one row of pairs is one router.
        if routes and all(_is_pair(each) for each in routes):
            return (_map_router(routes),)
        return tuple(_router(each) for each in routes)
    return (_router(routes),)


def unknown_keys(routes: Any) -> list[tuple[str, str | None]]:
    """Keys, in the routes written as dicts, that say nothing; each with the one that was probably meant."""
    if isinstance(routes, Mapping):
        found = [key for each in routes.values() if isinstance(each, Mapping) for key in each if key not in ROUTE_KEYS]
        guesses = [difflib.get_close_matches(str(key).replace("-", "_"), ROUTE_KEYS, n=1) for key in found]
        return [(str(key), guess[0] if guess else None) for key, guess in zip(found, guesses, strict=True)]
    if not isinstance(routes, list | tuple):
        return []
    nested = [dict([each]) if _is_pair(each) else each for each in routes]
    return [problem for each in nested for problem in unknown_keys(each)]


# -- queues -------------------------------------------------------------------------------------------------------


def _queue_of(options: Mapping[str, Any]) -> str | None:
    """The queue that options or a route name, directly or by a routing key."""
    queue = options.get("queue")
    if queue is not None:
        return queue if type(queue) is str else _name_of(queue)
    key = options.get("routing_key")
    return None if key is None else _queue_with_key(key)


def _queue_of_task(task: Any) -> str | None:
    queue = getattr(task, "queue", None)
    if queue is not None:
        return _name_of(queue)
    key = getattr(task, "routing_key", None)
    return None if key is None else _queue_with_key(key)


def _name_of(queue: Any) -> str:
    name = queue if isinstance(queue, str) else getattr(queue, "name", None)
    if not isinstance(name, str):
        raise ValueError(f"queue must be a name or a Queue, not {safe_repr(queue, 200)}")
    return name


def _queue_with_key(key: str) -> str:
    """The queue of TASK_QUEUES that has the key; else the one of that name, which is the key of a queue without one."""
    for name, options in (settings.TASK_QUEUES or {}).items():
        if _key_matches(str(options.get("routing_key") or name), key):
            return name
    return key


def _key_matches(binding: str, key: str) -> bool:
    if binding == key:
        return True
    if "*" not in binding and "#" not in binding:
        return False
    # As AMQP's topic exchanges match. Each word is taken with the dot before it, for `#` may stand for no word.
    pattern = "".join(
        r"(?:\.[^.]+)*" if word == "#" else r"\.[^.]+" if word == "*" else rf"\.{re.escape(word)}"
        for word in binding.split(".")
    )
    return re.fullmatch(pattern, f".{key}") is not None


def check_queue(queue: str) -> None:
    """Raise QueueNotFound, or ValueError, unless a call may go to this queue."""
    if not settings.TASK_CREATE_MISSING_QUEUES and queue not in known_queues() and not is_own(queue):
        near = difflib.get_close_matches(queue, known_queues(), n=1)
        guess = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known_queues())}"
        cure = "add it there, or set TASK_CREATE_MISSING_QUEUES to True"
        raise QueueNotFound(f"queue {queue!r} is not in TASK_QUEUES; {guess}, or {cure}")
    try:
        queue_name(queue)
    except Unfit as error:
        raise ValueError(f"queue {error}") from None


def _parents_priority() -> int | None:
    """That of the task that runs here, in a worker or eagerly."""
    frame = current.running()
    info = None if frame is None else frame.request.delivery_info
    return None if info is None else info.get("priority")


# -- routers ------------------------------------------------------------------------------------------------------


def _look_up(name: str, args: Any, kwargs: Any, options: Mapping[str, Any], task: Any) -> Mapping[str, Any]:
    """What the first router that has something to say says."""
    for router in _routers():
        answer = router(name, args, kwargs, options, task=task)
        if answer is None:
            continue
        if isinstance(answer, str):
            return {"queue": answer}
        if not isinstance(answer, Mapping):
            raise ImproperlyConfigured(
                f"TASK_ROUTES: {router!r} answered {answer!r} for {name!r}; it must return a queue, a dict or None"
            )
        return answer
    return {}


def _routers() -> tuple[Router, ...]:
    global _compiled
    # The routes are held on to, so that no others can be the same object.
    if _compiled.routes is not settings.TASK_ROUTES:
        _compiled = _Compiled(settings.TASK_ROUTES, compile_routes(settings.TASK_ROUTES))
    return _compiled.routers


def _router(routes: Any) -> Router:
    if isinstance(routes, Mapping):
        return _map_router(routes.items())
    if _is_pair(routes):
        return _map_router([routes])
    if isinstance(routes, list | tuple):
        return _map_router(routes)
    if isinstance(routes, str):
        try:
            routes = import_string(routes.replace(":", "."))
        except ImportError as error:
            raise ImproperlyConfigured(f"TASK_ROUTES: {error}") from error
    if isinstance(routes, type):
        routes = routes()
    if hasattr(routes, "route_for_task"):
        return _old_router(routes)
    if not callable(routes):
        raise ImproperlyConfigured(f"TASK_ROUTES: {routes!r} is neither a dict, pairs, a function nor a dotted name")
    return routes  # type: ignore[no-any-return]


def _old_router(router: Any) -> Router:
    def ask(name: str, args: Any, kwargs: Any, options: Any, task: Any = None) -> Any:
        return router.route_for_task(name, args, kwargs)

    return ask


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and isinstance(value[0], str | re.Pattern)
        and isinstance(value[1], str | Mapping)
    )


def _map_router(pairs: Iterable[Any]) -> Router:
    """Exact names first, then globs and regular expressions in their order."""
    exact: dict[str, Any] = {}
    patterns: list[tuple[re.Pattern[str], Any]] = []
    for pair in pairs:
        if not _is_pair(pair):
            raise ImproperlyConfigured(f"TASK_ROUTES: {pair!r} is no pair of a task's name and a queue or a dict")
        key, target = pair
        if isinstance(key, re.Pattern):
            patterns.append((key, target))
        elif "*" in key:
            patterns.append((re.compile(fnmatch.translate(key)), target))
        else:
            exact[key] = target

    def look_up(name: str, args: Any, kwargs: Any, options: Any, task: Any = None) -> Any:
        if name in exact:
            return exact[name]
        return next((target for pattern, target in patterns if pattern.match(name)), None)

    return look_up
