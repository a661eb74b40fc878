"""Celery's app, with the same tasks as `benchmarks.tasks`; run by the interpreter of Celery's own environment."""

# mypy: disable-error-code="import-not-found, import-untyped"

import os
import time

from celery import Celery

app = Celery("benchmarks", broker=os.environ["BENCHMARKS_BROKER"], backend=os.environ["BENCHMARKS_BACKEND"])
app.conf.broker_connection_retry_on_startup = True


def _noop(payload: str) -> None:
    """Do nothing."""


def _stamp(payload: str) -> float:
    """Say when it was started, in seconds since the epoch."""
    return time.time()


def _collect(stamps: list[float]) -> dict[str, float]:
    """Be the body of a chord of stamps: how many there are, the first and the last, and when this one began."""
    began = time.time()
    return {"count": len(stamps), "first": min(stamps), "last": max(stamps), "body": began}


noop = app.task(name="benchmarks.noop")(_noop)
stamp = app.task(name="benchmarks.stamp")(_stamp)
collect = app.task(name="benchmarks.collect")(_collect)
