"""What workers can be told, one function each: `app.control.add_consumer("slow")`.

Each takes what `broadcast` takes besides (`destination`, `reply`, `timeout`, `limit`, `callback`, `pattern`, `matcher`,
`by`), and returns what it returns: None, or with `reply` Celery's `[{node: answer}]`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from djtasks import ratelimits
from djtasks.broadcasting import Replies, broadcast
from djtasks.calls import check_limit
from djtasks.conf.kinds import Unfit, queue_name
from djtasks.exceptions import safe_repr

Nodes = Collection[str] | None
#: So many slots may be asked for at a time.
MOST_SLOTS: Final = 1024


def slots(number: Any, name: str = "n", least: int = 1) -> int:
    """A number of slots that a pool can be asked for. Raises ValueError."""
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= MOST_SLOTS:
        raise ValueError(f"{name} must be a whole number from {least} to {MOST_SLOTS}, not {safe_repr(number, 200)}")
    return number


def ping(destination: Nodes = None, timeout: float = 1.0, **options: Any) -> Replies:
    """Which workers are there: `[{node: {"ok": "pong"}}]`."""
    return broadcast("ping", None, destination, reply=True, timeout=timeout, **options) or []


def rate_limit(
    task_name: str, rate_limit: str | float | None, destination: Nodes = None, **options: Any
) -> Replies | None:
    """Let workers start no more than so many of a task's runs, "10/m" say, until they end; 0 or None: any number.

    Raises ValueError for a rate that cannot be read.
    """
    ratelimits.parse(rate_limit)
    return broadcast("rate_limit", {"task_name": task_name, "rate_limit": rate_limit}, destination, **options)


def time_limit(
    task_name: str,
    soft: float | None = None,
    hard: float | None = None,
    destination: Nodes = None,
    **options: Any,
) -> Replies | None:
    """Set a task's own time limits, in seconds, in workers until they end; None: the worker's. Raises ValueError."""
    check_limit(soft, "soft")
    check_limit(hard, "hard")
    if soft is not None and hard is not None and soft > hard:
        raise ValueError(f"soft ({soft}) must not be above hard ({hard})")
    return broadcast("time_limit", {"task_name": task_name, "soft": soft, "hard": hard}, destination, **options)


def add_consumer(
    queue: str,
    exchange: str | None = None,
    exchange_type: str = "direct",
    routing_key: str | None = None,
    options: Mapping[str, Any] | None = None,
    destination: Nodes = None,
    **kwargs: Any,
) -> Replies | None:
    """Let workers take from this queue, too, until they end. What concerns a message broker means nothing.

    Raises ValueError for what can name no queue.
    """
    return broadcast("add_consumer", {"queue": _queue(queue)}, destination, **kwargs)


def cancel_consumer(queue: str, destination: Nodes = None, **options: Any) -> Replies | None:
    """Let workers take nothing more from this queue; what they have taken, they end. Raises ValueError."""
    return broadcast("cancel_consumer", {"queue": _queue(queue)}, destination, **options)


def _queue(queue: Any) -> str:
    try:
        return queue_name(queue)
    except Unfit as error:
        raise ValueError(f"a queue {error}") from None


def enable_events(destination: Nodes = None, **options: Any) -> Replies | None:
    """Let workers tell of their tasks. Workers answer that they cannot."""
    return broadcast("enable_events", None, destination, **options)


def disable_events(destination: Nodes = None, **options: Any) -> Replies | None:
    """Let workers tell nothing more. Workers answer that they do not."""
    return broadcast("disable_events", None, destination, **options)


def pool_grow(n: int = 1, destination: Nodes = None, **options: Any) -> Replies | None:
    """Let pools run so many more tasks at a time, where they can. Raises ValueError."""
    return broadcast("pool_grow", {"n": slots(n)}, destination, **options)


def pool_shrink(n: int = 1, destination: Nodes = None, **options: Any) -> Replies | None:
    """Let pools run so many tasks less at a time, where they can. Raises ValueError."""
    return broadcast("pool_shrink", {"n": slots(n)}, destination, **options)


def pool_restart(
    modules: Sequence[str] | None = None,
    reload: bool = False,
    reloader: Any = None,
    destination: Nodes = None,
    **options: Any,
) -> Replies | None:
    """Let pools begin anew, where they can."""
    return broadcast("pool_restart", {"modules": modules, "reload": reload}, destination, **options)


def autoscale(max: int, min: int = 0, destination: Nodes = None, **options: Any) -> Replies | None:
    """Let pools grow and shrink between these sizes, where they can. Raises ValueError."""
    least, most = slots(min, "min", 0), slots(max, "max")
    if least > most:
        raise ValueError(f"min ({least}) must not be above max ({most})")
    return broadcast("autoscale", {"max": most, "min": least}, destination, **options)


def shutdown(destination: Nodes = None, **options: Any) -> Replies | None:
    """Let workers end what runs, take nothing more, and stop, as at a SIGTERM. They do not answer."""
    return broadcast("shutdown", None, destination, **options)


def heartbeat(destination: Nodes = None, **options: Any) -> Replies | None:
    """Let the hearts of workers beat now."""
    return broadcast("heartbeat", None, destination, **options)


def election(id: str, topic: str, action: Any = None, **options: Any) -> Replies | None:
    """Celery's election among workers. Workers answer that they hold none."""
    return broadcast("election", {"id": id, "topic": topic}, **options)
