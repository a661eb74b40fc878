"""The figures: what is measured, in which unit, which way is better, and the samples of each."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

#: The sides of a comparison, in the order of the table's columns.
SIDES = {
    "djtasks": "djtasks",
    "celery_prefork": "Celery prefork 2",
    "celery_solo": "Celery 2 × solo",
    "sql": "SQL alone",
}


class Figure(NamedTuple):
    """One row of the table."""

    key: str
    title: str
    unit: str
    digits: int = 0
    more_is_better: bool = True
    #: What it is called beside the other figures of its phase.
    brief: str = ""


FIGURES = (
    Figure("enqueue_single", "Enqueue one by one", "tasks/s"),
    Figure("enqueue_bulk", "Enqueue in bulk", "tasks/s"),
    Figure("drain", "Drain, log level WARNING", "tasks/s"),
    Figure("drain_info", "Drain, log level INFO", "tasks/s"),
    Figure("cpu_worker", "CPU of the worker, 1,000 tasks", "s", 4, more_is_better=False, brief="worker's CPU"),
    Figure("cpu_server", "CPU of the server, 1,000 tasks", "s", 4, more_is_better=False, brief="server's CPU"),
    Figure("pickup_p50", "Pick-up when idle, p50", "ms", 2, more_is_better=False, brief="p50"),
    Figure("pickup_p95", "Pick-up when idle, p95", "ms", 2, more_is_better=False, brief="p95"),
    Figure("pickup_p99", "Pick-up when idle, p99", "ms", 2, more_is_better=False, brief="p99"),
    Figure("chain", "Chain of many links", "links/s"),
    Figure("chord", "Chord, its members", "tasks/s", brief="members"),
    Figure("chord_body", "Chord, last member to body", "ms", 1, more_is_better=False, brief="last member to body"),
    Figure("chord_finish", "Chord, last finish to body", "ms", 1, more_is_better=False, brief="last finish to body"),
    Figure("enqueue_group", "Enqueue a group", "tasks/s"),
    Figure("tick_p50", "Periodic task, due to begun, p50", "ms", 1, more_is_better=False, brief="p50"),
    Figure("tick_p99", "Periodic task, due to begun, p99", "ms", 1, more_is_better=False, brief="p99"),
    Figure("tenants_p50", "1,000 queues, one flooded, p50", "ms", 1, more_is_better=False, brief="p50"),
    Figure("tenants_p99", "1,000 queues, one flooded, p99", "ms", 1, more_is_better=False, brief="p99"),
    Figure("tenants_drain", "Drain by a worker of 1,000 queues", "tasks/s", brief="drain"),
    Figure("wal_call", "WAL of a call in bulk", "B", more_is_better=False, brief="a call"),
    Figure("wal_run", "WAL of a run, result stored", "B", more_is_better=False, brief="a run"),
    Figure("wal_single", "Enqueue one by one, waiting for the disk", "tasks/s", brief="one by one"),
    Figure("wal_single_hasty", "The same, not waiting", "tasks/s", brief="not waiting"),
    Figure("wal_drain", "Drain, waiting for the disk", "tasks/s", brief="drain"),
    Figure("wal_drain_hasty", "The same, not waiting", "tasks/s", brief="not waiting"),
    Figure("memory", "Memory of the worker, PSS", "MB", 1, more_is_better=False),
    Figure("memory_alone", "Memory of the worker, alone", "MB", 1, more_is_better=False, brief="alone"),
)

#: What one run of a phase has measured: keys of FIGURES, and more that stand in the JSON file only.
Measured = Mapping[str, float]


class Samples:
    """All that was measured, side by side."""

    def __init__(self) -> None:
        self._all: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, side: str, measured: Measured) -> None:
        """One more sample of each of these."""
        for key, value in measured.items():
            self._all[side][key].append(value)

    def sides(self) -> list[str]:
        """The sides of which anything was measured, in the order of the columns."""
        return [side for side in SIDES if side in self._all]

    def keys(self, side: str) -> list[str]:
        """What was measured of this side."""
        return list(self._all[side]) if side in self._all else []

    def samples(self, side: str, key: str) -> list[float]:
        """The samples of one figure."""
        return list(self._all[side][key]) if key in self.keys(side) else []

    def median(self, side: str, key: str) -> float | None:
        """The median of the samples, or None where there are none."""
        found = self.samples(side, key)
        return statistics.median(found) if found else None

    def ratio(self, figure: Figure, rival: str) -> float | None:
        """How many times better djtasks is than a rival: above 1 it is better, whichever way the figure goes."""
        ours, theirs = self.median("djtasks", figure.key), self.median(rival, figure.key)
        if not ours or not theirs:
            return None
        return ours / theirs if figure.more_is_better else theirs / ours


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that at least so many percent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-percent * len(ordered) // 100) - 1)]


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles of latencies, in milliseconds."""
    return {f"pickup_p{percent}": 1000 * percentile(seconds, percent) for percent in (50, 95, 99)}
