"""The tasks that are measured. Those of Celery's side, in `benchmarks.against.celery_app`, are the same."""

import time

from djtasks import shared_task


@shared_task(name="benchmarks.noop")
def noop(payload: str) -> None:
    """Do nothing."""


@shared_task(name="benchmarks.stamp")
def stamp(payload: str) -> float:
    """Say when it was started, in seconds since the epoch."""
    return time.time()
