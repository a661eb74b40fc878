"""The phases of djtasks: each sets its own scene on empty tables, measures, and leaves nothing that runs."""

import json
import random
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.apps import NOTES
from benchmarks.bench import Bench
from benchmarks.figures import Measured, latencies
from benchmarks.payload import PAYLOAD
from benchmarks.processes import Process
from benchmarks.tasks import noop, stamp
from benchmarks.timing import BenchmarkError
from benchmarks.usage import cpu_seconds, files_alone, tree, weigh

#: Children of the worker.
CHILDREN = 2
#: Seconds between two samples of the pick-up latency: long enough for the worker to fall asleep again, and random, so
#: that no clock of the worker's is met in step.
GAP = (0.02, 0.1)
#: Samples that are thrown away first: a child's first task is no idle worker's.
WARM_UP = 5
#: Seconds between two looks at the tables while they are drained; a count reads all results.
LOOK = 1.0


@contextmanager
def worker(
    bench: Bench,
    level: str = "WARNING",
    logfile: Path | None = None,
    environment: Mapping[str, str] | None = None,
    queues: Sequence[str] = (),
) -> Iterator[Process]:
    """A worker as a site would start it, from the moment at which it is about to take its first task."""
    command = [sys.executable, "-m", "django", "runworker", "-c", str(CHILDREN), "-l", level, "-q"]
    if logfile is not None:
        command += ["-f", str(logfile)]
    if queues:
        command += ["-Q", ",".join(queues)]
    with bench.processes.running("the worker", command, environment) as process:
        bench.deadline.wait_for(bench.site.registered, process, every=0.005)
        yield process


def load(bench: Bench, count: int, queue: str | None = None) -> float:
    """Empty the tables and enqueue so many tasks in bulk; the seconds it took."""
    bench.site.empty()
    calls = bench.deadline.each((((PAYLOAD,), None) for _ in range(count)), 1000)
    began = time.perf_counter()
    noop.bulk_apply_async(calls, queue=queue)
    return time.perf_counter() - began


def drained(bench: Bench, process: Process, total: int) -> None:
    """Wait until there are so many results. Raises BenchmarkError unless all of them are successes."""
    began = time.monotonic()
    results = succeeded = 0
    while results < total:
        bench.deadline.check(process)
        rate = results / max(1e-9, time.monotonic() - began)
        time.sleep(min(LOOK, max(0.05, (total - results) / rate)) if rate else 0.05)
        results, succeeded = bench.site.progress()
        bench.screen.show(results, total)
    if succeeded != total or bench.site.messages():
        raise BenchmarkError(f"{succeeded} of {total} tasks succeeded, {bench.site.messages()} are left")


def single(bench: Bench) -> Measured:
    """Enqueue one by one: delay() in a loop, each call committed by itself."""
    bench.site.empty()
    noop.delay(PAYLOAD)
    count = bench.options.single
    began = time.perf_counter()
    for done in bench.deadline.each(range(count)):
        noop.delay(PAYLOAD)
        if not done % 100:
            bench.screen.show(done, count)
    seconds = time.perf_counter() - began
    expect(bench, count + 1)
    return {"enqueue_single": count / seconds}


def bulk(bench: Bench) -> Measured:
    """Enqueue in bulk: one call of bulk_apply_async()."""
    seconds = load(bench, bench.options.tasks)
    expect(bench, bench.options.tasks)
    return {"enqueue_bulk": bench.options.tasks / seconds, "body_bytes": bench.site.body_bytes()}


def expect(bench: Bench, total: int) -> None:
    """Raise BenchmarkError unless so many tasks wait."""
    if (found := bench.site.messages()) != total:
        raise BenchmarkError(f"{found} tasks are in the queue, of {total} that were enqueued")


def drain(bench: Bench) -> Measured:
    """Run what waits, results stored, and reckon the CPU seconds of the worker and of the server."""
    total = bench.options.tasks
    load(bench, total)
    with worker(bench) as process:
        server = bench.site.pid()
        before = cpu_seconds(process.pid), cpu_seconds(server)
        drained(bench, process, total)
        after = cpu_seconds(process.pid), cpu_seconds(server)
    return {
        "drain": rate_of(bench, total),
        "cpu_worker": 1000 * (after[0] - before[0]) / total,
        "cpu_server": 1000 * (after[1] - before[1]) / total,
    }


def info(bench: Bench) -> Measured:
    """The same with two lines a task written to a log file."""
    total = bench.options.tasks
    logfile = bench.processes.folder / "info.log"
    logfile.unlink(missing_ok=True)
    load(bench, total)
    with worker(bench, "INFO", logfile) as process:
        drained(bench, process, total)
    with logfile.open("rb") as lines:
        count = sum(1 for _ in lines)
    return {"drain_info": rate_of(bench, total), "log_lines": count / total}


def rate_of(bench: Bench, total: int) -> float:
    """Tasks a second, from the start of the first task to the statement that wrote the last results."""
    span = bench.site.span()
    if span.ended <= span.began:
        raise BenchmarkError(f"{total} tasks are too few to measure")
    return total / (span.ended - span.began)


def pickup(bench: Bench) -> Measured:
    """How long an idle worker takes: from just before the call of delay() to the first line of the task's body."""
    bench.site.empty()
    total = WARM_UP + bench.options.pickups
    called: dict[str, float] = {}
    calls: list[float] = []
    with worker(bench) as process:
        bench.deadline.wait_for(bench.site.idle, process)
        for done in range(total):
            bench.deadline.check(process)
            time.sleep(random.uniform(*GAP))
            at = time.time()
            task = stamp.delay(PAYLOAD)
            calls.append(time.time() - at)
            called[task.id] = at
            bench.screen.show(done, total)
        drained(bench, process, total)
    began = {task_id: json.loads(value) for task_id, value in bench.site.returned().items()}
    seconds = [began[task_id] - at for task_id, at in called.items()][WARM_UP:]
    calls = sorted(calls[WARM_UP:])
    return {**latencies(seconds), "pickup_call_p50": 1000 * calls[len(calls) // 2]}


def memory(bench: Bench) -> Measured:
    """PSS of the worker's whole process tree, when it has run its tasks and every process has collected garbage."""
    total = bench.options.weighed
    load(bench, total)
    notes = bench.processes.folder / "collected"
    notes.write_bytes(b"")
    with worker(bench, environment={NOTES: str(notes)}) as process:
        drained(bench, process, total)
        family = tree(process.pid)
        for each in family:
            each.send_signal(signal.SIGUSR2)
        pids = {each.pid for each in family}
        bench.deadline.wait_for(lambda: pids <= set(map(int, notes.read_text().split())), process)
        weights = weigh(each.pid for each in family)
        alone = files_alone(each.pid for each in family)
    anonymous = sum(weight.anonymous for weight in weights)
    return {
        "memory": sum(weight.total for weight in weights) / 1e6,
        "memory_alone": (anonymous + alone) / 1e6,
        "memory_anonymous": anonymous / 1e6,
        "memory_file": sum(weight.file for weight in weights) / 1e6,
        "memory_processes": len(weights),
    }


#: The names of `options.PHASES`, with what is shown while they run.
DJTASKS = {
    "single": ("enqueue one by one", single),
    "bulk": ("enqueue in bulk", bulk),
    "drain": ("drain at WARNING", drain),
    "info": ("drain at INFO", info),
    "pickup": ("pick-up when idle", pickup),
    "memory": ("memory of the worker", memory),
}
