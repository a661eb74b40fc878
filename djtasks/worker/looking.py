"""What a worker can be asked: it changes nothing. The answers have Celery's shapes.

All of it may be answered by another thread while the solo pool is at a task: nothing here waits, or writes.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from djtasks import tabled
from djtasks.appconf import table
from djtasks.db.connections import borrow
from djtasks.described import info
from djtasks.messages import Claimed
from djtasks.panel import inspect_command
from djtasks.registry import tasks
from djtasks.worker.node import Node, resident, rusage
from djtasks.worker.pools.base import Begun

Info = dict[str, Any]
F = TypeVar("F", bound=Callable[..., Any])


def _question(**options: Any) -> Callable[[F], F]:
    return inspect_command(anywhere=True, **options)


def _yes(text: str) -> bool:
    """What a word on the command line says. Raises ValueError."""
    words = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}
    try:
        return words[text.lower()]
    except KeyError:
        raise ValueError(f"true or false, not {text!r}") from None


# -- the worker -----------------------------------------------------------------------------------------------------


@_question(default_timeout=0.2)
def ping(state: Node) -> Info:
    """Whether it is there."""
    return {"ok": "pong"}


@_question()
def clock(state: Node) -> Info:
    """A number that grows with every command."""
    return {"clock": state.clock}


@_question()
def report(state: Node) -> Info:
    """Versions and settings, to be told beside the description of a fault."""
    return {"ok": state.app.bugreport()}


@_question(alias="dump_conf", signature="[with_defaults=false]", args=[("with_defaults", _yes)])
def conf(state: Node, with_defaults: bool = False) -> Info:
    """Its settings, without secrets."""
    return table(with_defaults)


@_question(visible=False)
def hello(state: Node, from_node: str, revoked: Any = None) -> Info | None:
    """What one worker of Celery's tells another: who is revoked stands in a table here."""
    if from_node == state.hostname:
        return None
    return {"revoked": dict.fromkeys(tabled.revoked(state.open_conn)), "clock": state.clock}


@_question()
def stats(state: Node) -> Info:
    """What it has counted, and what it uses."""
    pool, worker = state.pool, state.worker
    server = borrow().settings_dict
    options = worker.options
    more = {} if worker.autoscaler is None else {"autoscaler": worker.autoscaler.info()}
    return {
        "total": dict(state.state.total),
        "pid": os.getpid(),
        "clock": str(state.clock),
        "uptime": int(time.monotonic() - state.began),
        "pool": {
            "implementation": f"{type(pool).__module__}:{type(pool).__qualname__}",
            "max-concurrency": pool.concurrency,
            "processes": pool.processes(),
            "max-tasks-per-child": options.max_tasks_per_child or "N/A",
            "put-guarded-by-semaphore": False,
            "timeouts": [options.soft_time_limit or 0, options.time_limit or 0],
            "writes": {"total": sum(state.state.total.values()), "inqueues": {"active": pool.busy}},
        },
        "broker": {
            "transport": "postgresql",
            "hostname": server["HOST"] or None,
            "port": server["PORT"] or None,
            "virtual_host": server["NAME"],
            "userid": server["USER"] or None,
        },
        "prefetch_count": pool.depth() * pool.concurrency,
        "rusage": rusage(),
        "ended": dict(state.state.counters),
        **more,
    }


@_question()
def memsample(state: Node) -> str:
    """Measure the memory that it uses."""
    used = resident()
    state.samples.append((time.time(), used))
    return _megabytes(used)


@_question(signature="[samples=10]", args=[("samples", int)])
def memdump(state: Node, samples: int = 10) -> str:
    """The last measurements of its memory, and what it uses now."""
    wanted = list(state.samples)[-samples:] if samples > 0 else []
    lines = [f"-    > {time.strftime('%H:%M:%S', time.localtime(at))} {_megabytes(used)}," for at, used in wanted]
    return "\n".join(["- rss (sample):", *lines, f"- rss (end): {_megabytes(resident())}.", ""])


def _megabytes(used: int) -> str:
    return f"{used / 1_000_000:.1f}MB"


@_question(signature="[type=Request [num=200 [max_depth=10]]]", args=[("type", str), ("num", int), ("max_depth", int)])
def objgraph(state: Node, type: str = "Request", num: int = 200, max_depth: int = 10) -> Info:
    """Celery's picture of objects, which djtasks does not draw."""
    return {"error": "objgraph: djtasks draws no pictures of objects; look at `memsample`, or attach a profiler"}


# -- tasks ----------------------------------------------------------------------------------------------------------


@_question(alias="dump_tasks", variadic="taskinfoitems", signature="[attr1 [attr2 [... [attrN]]]]")
def registered(state: Node, taskinfoitems: Sequence[str] | None = None, builtins: bool = False) -> list[str]:
    """The tasks that it knows, with these attributes, or with their rate limits."""
    wanted = [each for each in taskinfoitems or ("exchange", "routing_key", "rate_limit") if not each.startswith("_")]
    found = []
    for name in sorted(tasks):
        if builtins or not name.startswith("celery."):
            said = [(item, getattr(tasks[name], item, None)) for item in wanted]
            shown = " ".join(f"{item}={value}" for item, value in said if value is not None)
            found.append(f"{name} [{shown}]" if shown else name)
    return found


def _ended(state: Node) -> set[int]:
    """What has ended, and is about to be written."""
    completer = state.consumer.completer
    return {outcome.claim for outcome in [*completer.outcomes, *completer.again, *completer.flight]}


def _held(state: Node) -> tuple[list[tuple[Claimed, Begun]], list[Claimed]]:
    """What runs, and what lies behind it."""
    begun, ended = state.pool.begun(), _ended(state)
    messages = [each for each in list(state.state.held.values()) if each.claim not in ended]
    running = [(each, begun[each.claim]) for each in messages if each.claim in begun]
    return running, [each for each in messages if each.claim not in begun]


def _running(state: Node, message: Claimed, begun: Begun) -> Info:
    since = None if begun.since is None else time.time() - (time.monotonic() - begun.since)
    return info(message, state.hostname, time_start=since, worker_pid=begun.pid, running=True)


@_question(alias="dump_active")
def active(state: Node, safe: bool = False) -> list[Info]:
    """What runs."""
    return [_running(state, message, begun) for message, begun in _held(state)[0]]


@_question(alias="dump_reserved")
def reserved(state: Node, safe: bool = False) -> list[Info]:
    """What it has taken, and not begun."""
    return [info(message, state.hostname) for message in _held(state)[1]]


@_question(alias="dump_schedule")
def scheduled(state: Node, safe: bool = False) -> list[Info]:
    """What waits for its time in its queues."""
    return tabled.scheduled(state.open_conn, state.queues)


@_question(alias="dump_revoked")
def revoked(state: Node) -> list[str]:
    """The ids of what is revoked."""
    return tabled.revoked(state.open_conn)


@_question(variadic="ids", signature="[id1 [id2 [... [idN]]]]")
def query_task(state: Node, ids: Sequence[str] | str) -> Info:
    """Where these tasks are, of those that it holds or that wait for their time in its queues."""
    running, _ = _held(state)
    said = {each.id: _running(state, each, begun) for each, begun in running}
    claims = [each.claim for each, _ in running]
    found = tabled.query(state.open_conn, state.state.incarnation, state.hostname, state.queues, ids, claims)
    by_id = {own["id"]: own for own in said.values()}
    return {key: [where, by_id.get(key, own)] for key, (where, own) in found.items()}


@_question()
def active_queues(state: Node) -> list[Info]:
    """The queues that it takes from."""
    return [tabled.queue_as_dict(name) for name in state.queues]
