"""The phase of durability: how much is written for a task, and what it costs to wait for the disk."""

import time
from urllib.parse import quote

from django.db import connection

from benchmarks.bench import Bench
from benchmarks.figures import Measured
from benchmarks.payload import PAYLOAD
from benchmarks.phases import drained, expect, load, rate_of, worker
from benchmarks.tasks import noop

#: How a session says that it does not wait for the disk.
HASTY = "-c synchronous_commit=off"


def wal(bench: Bench) -> Measured:
    """Bytes of WAL for a call and for its run; calls one by one and a drain, by sessions that wait and that do not."""
    found: dict[str, float] = {}
    for side, hasty in (("", False), ("_hasty", True)):
        found |= {f"{key}{side}": value for key, value in measured(bench, hasty).items()}
    return found


def measured(bench: Bench, hasty: bool) -> dict[str, float]:
    """What one kind of session does."""
    total = bench.options.tasks
    before = bench.site.wal()
    load(bench, total)
    called = bench.site.wal()
    url = bench.site.server.url
    environment = {"DATABASE_URL": f"{url}?options={quote(HASTY)}"} if hasty else None
    with worker(bench, environment=environment) as process:
        drained(bench, process, total)
    found = {
        "wal_call": (called - before) / total,
        "wal_run": (bench.site.wal() - called) / total,
        "wal_drain": rate_of(bench, total),
    }
    return {**found, "wal_single": single(bench, hasty)}


def single(bench: Bench, hasty: bool) -> float:
    """Calls one by one, a second."""
    bench.site.empty()
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('synchronous_commit', %s, false)", ["off" if hasty else "on"])
    try:
        began = time.perf_counter()
        for _ in bench.deadline.each(range(bench.options.single)):
            noop.delay(PAYLOAD)
        seconds = time.perf_counter() - began
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET synchronous_commit")
    expect(bench, bench.options.single)
    return bench.options.single / seconds


#: The last name of `options.PHASES`, as `phases.DJTASKS`.
WAL = {"wal": ("what is written for a task", wal)}
