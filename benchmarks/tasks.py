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


@shared_task(name="benchmarks.pause")
def pause(seconds: float) -> None:
    """Take so long."""
    time.sleep(seconds)


@shared_task(name="benchmarks.collect")
def collect(stamps: list[float]) -> dict[str, float]:
    """Be the body of a chord of stamps: how many there are, the first and the last, and when this one began."""
    began = time.time()
    return {"count": len(stamps), "first": min(stamps), "last": max(stamps), "body": began}
