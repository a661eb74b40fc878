"""What a worker can be told: one function each. On the thread of its consumer, between two of its turns."""

import logging
from typing import Any, NoReturn

from djtasks import ratelimits
from djtasks.calls import check_limit
from djtasks.commanding import MOST_SLOTS, slots
from djtasks.conf import settings
from djtasks.conf.kinds import Unfit, queue_name
from djtasks.db import workers
from djtasks.panel import control_command
from djtasks.queuenames import is_broadcast, is_own, own_queue, with_own
from djtasks.registry import tasks
from djtasks.routing import known_queues
from djtasks.worker.node import NoAnswer, Node
from djtasks.worker.pools.base import Pool

logger = logging.getLogger("djtasks.worker")

Answer = dict[str, Any]


def _names(text: str) -> list[str]:
    """Names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


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
    if not settings.TASK_CREATE_MISSING_QUEUES and queue not in known_queues() and not is_own(queue):
        return {"error": f"{queue!r} is not in TASK_QUEUES, and TASK_CREATE_MISSING_QUEUES is off"}
    names = state.queues
    if queue not in names:
        # First the row: whoever enqueues from now on rings this worker. What came before it claims now.
        wanted = with_own([*names, queue], state.hostname)
        _take_from(state, list(wanted))
        for name in set(wanted).difference(names):
            state.consumer.claimer.lanes.add(name)
        state.consumer.claimer.rung()
    return {"ok": f"add consumer {queue}"}


@control_command(args=[("queue", str)], signature="<queue>")
def cancel_consumer(state: Node, queue: str, **options: Any) -> Answer:
    """Take nothing more from this queue; what was taken is ended."""
    names = state.queues
    if queue in names:
        left = {queue, own_queue(queue, state.hostname)} if is_broadcast(queue) else {queue}
        for name in left:
            state.consumer.claimer.lanes.remove(name)
        _take_from(state, [name for name in names if name not in left])
    return {"ok": f"no longer consuming from {queue}"}


def _take_from(state: Node, names: list[str]) -> None:
    state.worker.set_queues(names)
    workers.set_queues(state.open_conn, state.state.incarnation, names)


# -- the pool -------------------------------------------------------------------------------------------------------


def _resizable(state: Node, verb: str) -> Pool:
    """The pool, if it can be brought to another size by hand. Raises ValueError, NotImplementedError."""
    if state.worker.autoscaler is not None:
        raise ValueError(f"{verb} is not supported with autoscale. Adjust the range with `control autoscale` instead.")
    if not state.pool.resizes:
        raise NotImplementedError(
            f"the {state.pool.name} pool cannot change its size while it runs; start the worker with another"
            " --concurrency, or another worker"
        )
    return state.pool


@control_command(args=[("n", int)], signature="[N=1]")
def pool_grow(state: Node, n: int = 1) -> Answer:
    """Run so many more tasks at a time."""
    pool = _resizable(state, "pool_grow")
    if pool.concurrency + slots(n) > MOST_SLOTS:
        raise ValueError(f"the pool runs {pool.concurrency} tasks at a time, and can run {MOST_SLOTS} at most")
    pool.grow(n)
    _beat(state)
    return {"ok": "pool will grow"}


@control_command(args=[("n", int)], signature="[N=1]")
def pool_shrink(state: Node, n: int = 1) -> Answer:
    """Run so many tasks less at a time. What runs is not ended for it."""
    pool = _resizable(state, "pool_shrink")
    if pool.concurrency <= slots(n):
        raise ValueError(f"the pool runs {pool.concurrency} tasks at a time: one is to be left")
    done = pool.shrink(n)
    if not done:
        raise ValueError("Can't shrink pool. All processes busy!")
    _beat(state)
    return {"ok": "pool will shrink" if done == n else f"pool will shrink by {done}: the others are busy"}


@control_command(args=[("modules", _names)], signature="[module1,module2]")
def pool_restart(state: Node, modules: Any = None, reload: bool = False, reloader: Any = None) -> Answer:
    """Let tasks run in freshly imported code; what runs ends where it is. `reload` changes nothing: all is fresh."""
    if not settings.WORKER_POOL_RESTARTS:
        raise ValueError("Pool restarts not enabled")
    wanted = [modules] if isinstance(modules, str) else modules or []
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        raise TypeError(f"modules are the names of modules, not {modules!r}")
    state.worker.reload(wanted)
    return {"ok": "reload started"}


@control_command(args=[("max", int), ("min", int)], signature="[max [min]]")
def autoscale(state: Node, max: int | None = None, min: int | None = None) -> Answer:
    """Let the pool grow and shrink between two sizes."""
    scaler = state.worker.autoscaler
    if scaler is None:
        raise ValueError("Autoscale not enabled")
    most = None if max is None else slots(max, "max")
    most, least = scaler.update(most, None if min is None else slots(min, "min", 0))
    _beat(state)
    return {"ok": f"autoscale now max={most} min={least}"}


def _beat(state: Node) -> None:
    """Write into the worker's row how it stands."""
    counters, pool = dict(state.state.counters), state.pool
    workers.beat(state.open_conn, state.state.incarnation, counters, pool.concurrency, pool.process_group)


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
    _beat(state)
    state.state.events.beat()
    state.worker.pulse.nudge()


@control_command(anywhere=True)
def enable_events(state: Node) -> Answer:
    """Tell of tasks and of this worker, from now on."""
    if not state.state.events.switch(True):
        return {"ok": "task events already enabled"}
    state.worker.pulse.nudge()
    return {"ok": "task events enabled"}


@control_command(anywhere=True)
def disable_events(state: Node) -> Answer:
    """Tell nothing more."""
    switched = state.state.events.switch(False)
    return {"ok": "task events disabled" if switched else "task events already disabled"}


@control_command(anywhere=True, visible=False)
def election(state: Node, id: str, topic: str, action: Any = None) -> Answer:
    """Celery's election among workers."""
    return {"error": "election: djtasks holds none; what one process is to do is decided by a lock in the database"}
