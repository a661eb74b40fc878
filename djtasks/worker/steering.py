"""What a worker can be told: one function each. On the thread of its consumer, between two of its turns."""

import logging
from collections.abc import Callable
from typing import Any, NoReturn

from djtasks import ratelimits
from djtasks.calls import check_limit
from djtasks.commanding import slots
from djtasks.conf import settings
from djtasks.conf.kinds import Unfit, queue_name
from djtasks.db import workers
from djtasks.panel import control_command
from djtasks.registry import tasks
from djtasks.routing import known_queues
from djtasks.worker.node import NoAnswer, Node

logger = logging.getLogger("djtasks.worker")

Answer = dict[str, Any]
#: The most tasks at a time that one worker can be brought to.
MOST_SLOTS = 1024


# -- tasks ----------------------------------------------------------------------------------------------------------


def _number(text: str) -> float | None:
    """Seconds, as the command line says them; none for no limit of its own. Raises ValueError."""
    return None if text.lower() == "none" else float(text)


@control_command(
    args=[("task_name", str), ("soft", _number), ("hard", _number)], signature="<task_name> <soft_secs> [hard_secs]"
)
def time_limit(state: Node, task_name: str, soft: float | None = None, hard: float | None = None) -> Answer:
    """Set a task's own time limits, until this worker ends."""
    task = tasks.get(task_name)
    if task is None:
        return {"error": "unknown task"}
    check_limit(soft, "soft")
    check_limit(hard, "hard")
    task.soft_time_limit, task.time_limit = soft, hard
    return {"ok": "time limits set successfully"}


@control_command(args=[("task_name", str), ("rate_limit", str)], signature="<task_name> <rate_limit (5/s | 5/m | 5/h)>")
def rate_limit(state: Node, task_name: str, rate_limit: Any) -> Answer:
    """Set how many runs of a task this worker starts in a time, until it ends."""
    try:
        rate = ratelimits.parse(rate_limit)
    except (TypeError, ValueError) as error:
        return {"error": f"Invalid rate limit string: {error!r}"}
    if task_name not in tasks:
        return {"error": "unknown task"}
    state.consumer.claimer.governor.set_rate(task_name, rate_limit)
    return {"ok": "rate limit disabled successfully" if rate is None else "new rate limit set successfully"}


# -- queues ---------------------------------------------------------------------------------------------------------


@control_command(
    args=[("queue", str), ("exchange", str), ("exchange_type", str), ("routing_key", str)], signature="<queue>"
)
def add_consumer(
    state: Node, queue: str, exchange: Any = None, exchange_type: Any = None, routing_key: Any = None, **options: Any
) -> Answer:
    """Take from this queue, too."""
    try:
        queue_name(queue)
    except Unfit as error:
        return {"error": f"a queue {error}"}
    if not settings.TASK_CREATE_MISSING_QUEUES and queue not in known_queues():
        return {"error": f"{queue!r} is not in TASK_QUEUES, and TASK_CREATE_MISSING_QUEUES is off"}
    names = state.queues
    if queue not in names:
        # First the row: whoever enqueues from now on rings this worker. What came before it claims now.
        _take_from(state, [*names, queue])
        state.consumer.claimer.lanes.add(queue)
        state.consumer.claimer.rung()
    return {"ok": f"add consumer {queue}"}


@control_command(args=[("queue", str)], signature="<queue>")
def cancel_consumer(state: Node, queue: str, **options: Any) -> Answer:
    """Take nothing more from this queue; what was taken is ended."""
    names = state.queues
    if queue in names:
        state.consumer.claimer.lanes.remove(queue)
        _take_from(state, [name for name in names if name != queue])
    return {"ok": f"no longer consuming from {queue}"}


def _take_from(state: Node, names: list[str]) -> None:
    state.worker.set_queues(names)
    workers.set_queues(state.open_conn, state.state.incarnation, names)


# -- the pool -------------------------------------------------------------------------------------------------------


def _method(state: Node, name: str) -> Callable[[int], Any]:
    method: Callable[[int], Any] | None = getattr(state.pool, name, None)
    if method is None:
        raise NotImplementedError(
            f"the {state.pool.name} pool cannot {name} while it runs; start the worker with another --concurrency, or"
            " another worker"
        )
    return method


@control_command(args=[("n", int)], signature="[N=1]")
def pool_grow(state: Node, n: int = 1) -> Answer:
    """Run so many more tasks at a time."""
    method = _method(state, "grow")
    if state.pool.concurrency + slots(n) > MOST_SLOTS:
        raise ValueError(f"the pool runs {state.pool.concurrency} tasks at a time, and can run {MOST_SLOTS} at most")
    method(n)
    return {"ok": "pool will grow"}


@control_command(args=[("n", int)], signature="[N=1]")
def pool_shrink(state: Node, n: int = 1) -> Answer:
    """Run so many tasks less at a time."""
    method = _method(state, "shrink")
    if state.pool.concurrency <= slots(n):
        raise ValueError(f"the pool runs {state.pool.concurrency} tasks at a time: one is to be left")
    method(n)
    return {"ok": "pool will shrink"}


@control_command()
def pool_restart(state: Node, modules: Any = None, reload: bool = False, reloader: Any = None) -> Answer:
    """Let the pool begin anew."""
    raise ValueError("Pool restarts not enabled")


@control_command(args=[("max", int), ("min", int)], signature="[max [min]]")
def autoscale(state: Node, max: int | None = None, min: int | None = None) -> Answer:
    """Let the pool grow and shrink between two sizes."""
    raise ValueError("Autoscale not enabled")


# -- the worker -----------------------------------------------------------------------------------------------------


@control_command(anywhere=True)
def shutdown(state: Node, msg: str = "Got shutdown from remote") -> NoReturn:
    """End what runs, and stop."""
    logger.warning("%s", msg)
    state.worker.stop()
    raise NoAnswer


@control_command()
def heartbeat(state: Node) -> None:
    """Let the heart beat now."""
    counters, pool = dict(state.state.counters), state.pool
    workers.beat(state.open_conn, state.state.incarnation, counters, pool.concurrency, pool.process_group)


@control_command(anywhere=True)
def enable_events(state: Node) -> Answer:
    """Tell of tasks."""
    return {"error": "event dispatcher unavailable"}


@control_command(anywhere=True)
def disable_events(state: Node) -> Answer:
    """Tell nothing more of tasks."""
    return {"error": "event dispatcher unavailable"}


@control_command(anywhere=True, visible=False)
def election(state: Node, id: str, topic: str, action: Any = None) -> Answer:
    """Celery's election among workers."""
    return {"error": "election: djtasks holds none; what one process is to do is decided by a lock in the database"}
