"""Celery's workflows, measured as those of `benchmarks.workflows` are."""

from benchmarks.against.celery import LOOK, PREFORK, Rival, workers
from benchmarks.bench import Bench
from benchmarks.figures import Measured
from benchmarks.workflows import chord_figures


def chain(bench: Bench, rival: Rival) -> Measured:
    """A chain, with workers that are idle."""
    rival.redis.empty()
    with workers(bench, rival, PREFORK):
        return {"chain": bench.options.links / rival.call(bench, "chain", bench.options.links)["seconds"]}


def chord(bench: Bench, rival: Rival) -> Measured:
    """A chord that waits when workers that are ready begin to see it."""
    rival.redis.empty()
    count = bench.options.members
    rival.call(bench, "chord", count)
    rival.redis.hide_queue()
    with workers(bench, rival, PREFORK) as running:
        rival.redis.show_queue()
        # Whoever waits for the result of the body waits with the workers.
        bench.deadline.wait_for(lambda: rival.redis.results() >= count, *running, every=LOOK)
        found = rival.call(bench, "body", 1)
    return chord_figures(count, found)


def group(bench: Bench, rival: Rival) -> Measured:
    """Enqueue a group."""
    rival.redis.empty()
    return {"enqueue_group": bench.options.rival / rival.call(bench, "group", bench.options.rival)["seconds"]}


#: As `celery.CELERY`.
WORKFLOWS = (
    ("celery_prefork", "Celery: a chain", chain),
    ("celery_prefork", "Celery: a chord", chord),
    ("celery_prefork", "Celery: enqueue a group", group),
)
