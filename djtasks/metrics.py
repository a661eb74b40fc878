"""Metrics: numbers in the form that Prometheus reads.

`collect` reads the whole site's from the tables; a worker adds its own (djtasks.worker.measuring); `render` writes them
with the prometheus-client library (the extra `prometheus`). Names begin with `djtasks_`, and, beside them, with
`flower_` where Flower has the same number.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from djtasks.conf import settings
from djtasks.db import health, measures, queues
from djtasks.db.connections import Connection
from djtasks.exceptions import ImproperlyConfigured
from djtasks.serializers.optional import library

#: A queue is counted up to here.
MOST_DEEP: Final = 100_000
#: The type of the page.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, ...]
#: By the values of the labels, in their order: a number, or a Histogram.
Samples = Mapping[Any, Any]


class Histogram(NamedTuple):
    """How runs are spread."""

    #: The upper bounds, in rising order; one more bucket holds what is above them all.
    bounds: Sequence[float]
    #: How many are in each bucket, and in no other one.
    counts: Sequence[int]
    sum: float


class Family(NamedTuple):
    """One metric, with all its label values."""

    name: str
    #: "gauge", "counter" (whose name is written with `_total`) or "histogram".
    kind: str
    help: str
    labels: Labels
    samples: Samples


def gauge(name: str, help: str, labels: Labels, samples: Samples) -> Family:
    """Something that rises and falls."""
    return Family(name, "gauge", help, labels, samples)


def counter(name: str, help: str, labels: Labels, samples: Samples) -> Family:
    """Something that only rises, until it begins anew; `_total` is put behind its name."""
    return Family(name, "counter", help, labels, samples)


def collect(conn: Connection, names: Collection[str] | None = None, *, workers: bool = True) -> list[Family]:
    """The numbers of the whole site: queues, what holds back cleaning, and workers.

    Only these queues, where they are named; else all that hold something. Open a transaction, and bound it
    (`measures.bound`), where a slow database must not keep anybody waiting.
    """
    return [*_of_queues(conn, names), *_of_database(conn), *(_of_workers(conn) if workers else ())]


def _of_queues(conn: Connection, names: Collection[str] | None) -> Iterator[Family]:
    found = queues.depths(conn, health.filled(conn) if names is None else names, MOST_DEEP)
    paused = queues.paused(conn)
    yield gauge(
        "djtasks_queue_messages",
        f"Messages that wait or run in the queue (counted up to {MOST_DEEP}).",
        ("queue",),
        {(name,): depth.known for name, depth in found.items()},
    )
    yield gauge(
        "djtasks_queue_oldest_seconds",
        "How long the oldest message that no worker has taken has waited.",
        ("queue",),
        {(name,): max(0.0, depth.oldest or 0.0) for name, depth in found.items()},
    )
    yield gauge(
        "djtasks_queue_paused",
        "1 for a queue from which nothing is taken now.",
        ("queue",),
        {(name,): float(name in paused) for name in {*found, *(paused if names is None else ())}},
    )


def _of_database(conn: Connection) -> Iterator[Family]:
    horizon = measures.horizon(conn)
    yield gauge(
        "djtasks_oldest_transaction_seconds",
        "Age of the oldest open transaction that keeps dead rows from being cleaned up.",
        (),
        {(): max(0.0, horizon.seconds or 0.0)},
    )
    yield gauge(
        "djtasks_oldest_xmin_transactions",
        "How many transactions ago the oldest row lived that somebody may still want to see.",
        (),
        {(): horizon.transactions},
    )


def _of_workers(conn: Connection) -> Iterator[Family]:
    """By name: of a name that comes twice counts are added up, and the youngest heartbeat is told."""
    ages: dict[Labels, float] = {}
    slots: dict[Labels, float] = defaultdict(float)
    running: dict[Labels, float] = defaultdict(float)
    prefetched: dict[Labels, float] = defaultdict(float)
    ended: dict[Labels, float] = defaultdict(float)
    for each in measures.stands(conn):
        name = (each.name,)
        ages[name] = min(max(0.0, each.age), ages.get(name, each.age))
        slots[name] += each.concurrency
        running[name] += _number(each.state.get("running"))
        prefetched[name] += _number(each.state.get("prefetched"))
        for state, count in each.counters.items():
            ended[each.name, state] += _number(count)
    online = {name: float(age <= settings.WORKER_DEAD_AFTER) for name, age in ages.items()}
    label = ("worker",)
    yield gauge("djtasks_worker_heartbeat_age_seconds", "Age of the worker's last heartbeat.", label, ages)
    yield gauge("djtasks_worker_slots", "How many tasks the worker can run at a time.", label, slots)
    yield gauge("djtasks_worker_running", "Tasks that ran at its last heartbeat.", label, running)
    yield gauge("djtasks_worker_prefetched", "Tasks taken and not begun at its last heartbeat.", label, prefetched)
    yield counter("djtasks_worker_outcomes", ENDED, ("worker", "state"), ended)
    yield gauge("flower_worker_online", "1 for a worker whose heart beats.", label, online)
    yield gauge("flower_worker_number_of_currently_executing_tasks", "Tasks that run there.", label, running)
    # Which tasks these are, only the worker itself knows.
    taken = {(*name, ""): number for name, number in prefetched.items()}
    yield gauge("flower_worker_prefetched_tasks", "Tasks taken, and not begun.", ("worker", "task"), taken)
    told = {(name, _EVENTS[state], ""): number for (name, state), number in ended.items() if state in _EVENTS}
    yield counter("flower_events", "How tasks ended, as flower counts it.", ("worker", "type", "task"), told)


#: What Flower calls the end of a task in this state.
_EVENTS: Final = {
    "SUCCESS": "task-succeeded",
    "FAILURE": "task-failed",
    "RETRY": "task-retried",
    "REVOKED": "task-revoked",
    "REJECTED": "task-rejected",
}
ENDED: Final = "Ended tasks by state, and what was refused, released, lost and rescued, since the worker's start."


def _number(found: Any) -> float:
    return float(found) if isinstance(found, int | float) else 0.0


# -- the page -----------------------------------------------------------------------------------------------------


def missing() -> str | None:
    """What to do before metrics can be rendered; None when nothing is missing."""
    try:
        library("prometheus_client", "prometheus")
    except ImproperlyConfigured as error:
        return str(error)
    return None


def render(families: Iterable[Family]) -> bytes:
    """The page, of type CONTENT_TYPE. Raises ImproperlyConfigured where prometheus-client is not installed."""
    core = library("prometheus_client.core", "prometheus")
    page: bytes = library("prometheus_client", "prometheus").generate_latest(
        _Registry([_family(core, each) for each in families])
    )
    return page


class _Registry:
    """What the library asks for what it is to write."""

    def __init__(self, families: list[Any]) -> None:
        self._families = families

    def collect(self) -> list[Any]:
        return self._families


def _family(core: Any, family: Family) -> Any:
    if family.kind == "histogram":
        made = core.HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, found in family.samples.items():
            if isinstance(found, Histogram):
                made.add_metric(labels, _cumulative(found), found.sum)
        return made
    kind = core.CounterMetricFamily if family.kind == "counter" else core.GaugeMetricFamily
    made = kind(family.name, family.help, labels=family.labels)
    for labels, value in family.samples.items():
        made.add_metric(labels, value)
    return made


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    """As Prometheus wants it: each bucket holds all that is below its bound."""
    found, total = [], 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        total += count
        found.append(("+Inf" if bound == float("inf") else f"{bound:g}", float(total)))
    return found
