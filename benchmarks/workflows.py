"""The phases of workflows: a chain, a chord and a group, each as large as one that hurts."""

import json
import time

from benchmarks.bench import Bench
from benchmarks.figures import Measured
from benchmarks.payload import PAYLOAD
from benchmarks.phases import drained, expect, worker
from benchmarks.tasks import collect, noop, stamp
from benchmarks.timing import BenchmarkError
from djtasks import chain, chord, group, waiting


def links(bench: Bench) -> Measured:
    """A chain: from just before its call to its last result in the hands of who called it."""
    bench.site.empty()
    count = bench.options.links
    with worker(bench) as process:
        bench.deadline.wait_for(bench.site.idle, process)
        began = time.perf_counter()
        result = chain(noop.si(PAYLOAD) for _ in range(count)).apply_async()
        result.get(timeout=bench.deadline.left())
        seconds = time.perf_counter() - began
        waiting.close()
        drained(bench, process, count)
    return {"chain": count / seconds}


def members(bench: Bench) -> Measured:
    """A chord that waits when the worker starts: how fast its members run, and how soon its body begins behind them."""
    bench.site.empty()
    count = bench.options.members
    result = chord(stamp.s(PAYLOAD) for _ in range(count))(collect.s())
    expect(bench, count)
    with worker(bench) as process:
        drained(bench, process, count + 1)
    found = json.loads(bench.site.returned()[result.id])
    return {**chord_figures(count, found), "chord_finish": 1000 * (found["body"] - bench.site.last_done(result.id))}


def chord_figures(count: int, found: dict[str, float]) -> dict[str, float]:
    """What the body of a chord has returned, as figures. Raises BenchmarkError when it was given too little."""
    if found["count"] != count or found["last"] <= found["first"]:
        raise BenchmarkError(f"the body was handed {found['count']} results of {count}, or they are too few to measure")
    return {
        "chord": count / (found["last"] - found["first"]),
        "chord_body": 1000 * (found["body"] - found["last"]),
    }


def grouped(bench: Bench) -> Measured:
    """Enqueue a group whose members are made while they are written."""
    bench.site.empty()
    count = bench.options.grouped
    calls = bench.deadline.each((noop.s(PAYLOAD) for _ in range(count)), 1000)
    began = time.perf_counter()
    group(calls).apply_async()
    seconds = time.perf_counter() - began
    expect(bench, count)
    return {"enqueue_group": count / seconds}


#: The last names of `options.PHASES`, as `phases.DJTASKS`.
WORKFLOWS = {
    "chain": ("a chain", links),
    "chord": ("a chord", members),
    "group": ("enqueue a group", grouped),
}
