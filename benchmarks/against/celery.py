"""Celery with Redis, doing the same work: the broker and the results in one Redis, in memory alone.

Whatever could be held against the comparison is decided in Celery's favour: Redis keeps nothing on disk, and gossip,
mingling and heartbeats are off.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.against.environment import celery_python
from benchmarks.against.redis import BACKEND, BROKER, Redis, running_redis
from benchmarks.bench import Bench
from benchmarks.clients import answers
from benchmarks.figures import Measured, latencies
from benchmarks.phases import CHILDREN, GAP, WARM_UP
from benchmarks.processes import Process
from benchmarks.timing import BenchmarkError
from benchmarks.usage import cpu_seconds

PREFETCH_MULTIPLIER = 128
#: Seconds between two looks at the number of results, which costs Redis nothing.
LOOK = 0.02
#: The options of each worker of a setting.
PREFORK = [["-P", "prefork", "-c", str(CHILDREN)]]
SOLO = [["-P", "solo"], ["-P", "solo"]]


class Rival(NamedTuple):
    """Celery, ready to be called."""

    python: Path
    redis: Redis
    environment: Mapping[str, str]

    def call(self, bench: Bench, verb: str, *amounts: float) -> dict[str, Any]:
        """Let a process of Celery's environment do something; its answer."""
        words = [f"{amount:g}" if isinstance(amount, float) else str(amount) for amount in amounts]
        command: list[str | Path] = [self.python, "-m", "benchmarks.against.celery_calls", verb, *words]
        with bench.processes.running("Celery's caller", command, self.environment) as process:
            return answers(bench, [process], int(amounts[0]) if amounts else 0)[0]


@contextmanager
def celery(bench: Bench) -> Iterator[Rival]:
    """Redis and Celery's environment, for as long as the block."""
    python = celery_python(bench.processes, bench.screen)
    with running_redis(bench.processes, bench.deadline) as redis:
        addresses = {"BENCHMARKS_BROKER": redis.url(BROKER), "BENCHMARKS_BACKEND": redis.url(BACKEND)}
        yield Rival(python, redis, addresses)


@contextmanager
def workers(bench: Bench, rival: Rival, settings: list[list[str]]) -> Iterator[list[Process]]:
    """Workers of Celery's that have started: slow starts are not held against it."""
    app = ["-A", "benchmarks.against.celery_app", "worker", "-l", "WARNING"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    fixed: list[str | Path] = [
        rival.python,
        "-m",
        "celery",
        *app,
        *quiet,
        "--prefetch-multiplier",
        str(PREFETCH_MULTIPLIER),
    ]
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                bench.processes.running("Celery's worker", [*fixed, "-n", f"w{number}@%h", *setting], rival.environment)
            )
            for number, setting in enumerate(settings, 1)
        ]
        rival.call(bench, "ready", len(running))
        yield running


def single(bench: Bench, rival: Rival) -> Measured:
    """Enqueue one by one."""
    rival.redis.empty()
    answer = rival.call(bench, "single", bench.options.rival)
    return {"enqueue_single": bench.options.rival / answer["seconds"]}


def bulk(bench: Bench, rival: Rival) -> Measured:
    """Enqueue in bulk, both ways; the faster one counts."""
    rates = {}
    for way in ("group", "loop"):
        rates[way] = bench.options.rival / fill(bench, rival, way)
    return {"enqueue_bulk": max(rates.values()), **{f"enqueue_bulk_{way}": rate for way, rate in rates.items()}}


def fill(bench: Bench, rival: Rival, way: str) -> float:
    """Empty Redis and enqueue tasks; the seconds it took."""
    rival.redis.empty()
    answer = rival.call(bench, way, bench.options.rival)
    if (found := rival.redis.messages()) != bench.options.rival:
        raise BenchmarkError(f"{found} tasks are in Celery's queue, of {bench.options.rival} that were enqueued")
    return float(answer["seconds"])


def drain(bench: Bench, rival: Rival, settings: list[list[str]]) -> Measured:
    """Run what waits, results stored: from the moment at which workers that are ready see it, to the last result."""
    total = bench.options.rival
    fill(bench, rival, "loop")
    rival.redis.hide_queue()
    with workers(bench, rival, settings) as running:
        pids = [process.pid for process in running]
        began = time.monotonic(), cpu_seconds(*pids), cpu_seconds(rival.redis.process.pid)
        rival.redis.show_queue()

        def done() -> bool:
            bench.screen.show(found := rival.redis.results(), total)
            return found >= total

        bench.deadline.wait_for(done, *running, every=LOOK)
        ended = time.monotonic(), cpu_seconds(*pids), cpu_seconds(rival.redis.process.pid)
    seconds, worker, server = (after - before for before, after in zip(began, ended, strict=True))
    return {"drain": total / seconds, "cpu_worker": 1000 * worker / total, "cpu_server": 1000 * server / total}


def prefork(bench: Bench, rival: Rival) -> Measured:
    """Two child processes."""
    return drain(bench, rival, PREFORK)


def solo(bench: Bench, rival: Rival) -> Measured:
    """Two workers without children, which is Celery at its fastest."""
    return drain(bench, rival, SOLO)


def pickup(bench: Bench, rival: Rival) -> Measured:
    """How long an idle prefork worker takes to begin."""
    rival.redis.empty()
    with workers(bench, rival, PREFORK):
        return latencies(rival.call(bench, "pickup", bench.options.pickups, WARM_UP, *GAP)["latencies"])


#: Each with the side that its figures belong to, and what is shown while it runs.
CELERY = (
    ("celery_prefork", "Celery: enqueue one by one", single),
    ("celery_prefork", "Celery: enqueue in bulk", bulk),
    ("celery_prefork", "Celery: drain, prefork 2", prefork),
    ("celery_solo", "Celery: drain, 2 × solo", solo),
    ("celery_prefork", "Celery: pick-up when idle", pickup),
)
