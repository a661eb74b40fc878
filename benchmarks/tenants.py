"""The phase of many queues: one tenant floods its own, and the others, which call now and then, share the worker."""

import json
import random
import time

from benchmarks.bench import Bench
from benchmarks.figures import Measured, percentile
from benchmarks.payload import PAYLOAD
from benchmarks.phases import drained, load, rate_of, worker
from benchmarks.tasks import pause, stamp

#: The queues of one worker.
QUEUES = 1_000
FLOODED = "tenant 0"
#: How long each task of the flood takes: there are more than the worker gets done while the others are watched.
PAUSE = 0.005
#: Seconds between two calls of the others.
GAP = (0.005, 0.05)


def names() -> list[str]:
    """The queues."""
    return [f"tenant {number}" for number in range(QUEUES)]


def tenants(bench: Bench) -> Measured:
    """How long the calls of the others wait, and how fast a worker of so many queues empties one of them."""
    return {**shared(bench), **alone(bench)}


def shared(bench: Bench) -> Measured:
    """From just before a call of one of the others to the first line of its task's body, while the flood runs."""
    bench.site.empty()
    calls = bench.deadline.each((((PAUSE,), None) for _ in range(bench.options.flood)), 1000)
    pause.bulk_apply_async(calls, queue=FLOODED)
    total, called = bench.options.pickups, {}
    others = names()[1:]
    with worker(bench, queues=names()) as process:
        bench.deadline.wait_for(lambda: bench.site.progress().results >= 50, process)
        for done in range(total):
            bench.deadline.check(process)
            time.sleep(random.uniform(*GAP))
            at = time.time()
            called[stamp.apply_async((PAYLOAD,), queue=random.choice(others)).id] = at
            bench.screen.show(done, total)
        bench.deadline.wait_for(lambda: len(bench.site.returned_of(called)) == total, process, every=0.1)
        flooded = bench.site.messages()
    began = {task_id: json.loads(value) for task_id, value in bench.site.returned_of(called).items()}
    seconds = [began[task_id] - at for task_id, at in called.items()]
    found = {f"tenants_p{percent}": 1000 * percentile(seconds, percent) for percent in (50, 99)}
    return {**found, "tenants_worst": 1000 * max(seconds), "tenants_flood_left": flooded}


def alone(bench: Bench) -> Measured:
    """A drain of one queue by a worker that has so many."""
    total = bench.options.tasks
    load(bench, total, FLOODED)
    with worker(bench, queues=names()) as process:
        drained(bench, process, total)
    return {"tenants_drain": rate_of(bench, total)}


#: The last name of `options.PHASES`, as `phases.DJTASKS`.
TENANTS = {"tenants": ("a thousand queues", tenants)}
