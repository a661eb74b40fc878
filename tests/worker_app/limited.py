"""Tasks with rates, limits and unique keys, for the tests of workers."""

import os
import time

from djtasks import shared_task
from tests.worker_app.tasks import note, wait_for


@shared_task(rate_limit="20/s")
def twenty_a_second(number: int = 0) -> int:
    """Start no more often than that, in one worker."""
    note("ran", number=number)
    return number


@shared_task(global_rate_limit="20/s")
def twenty_a_second_in_all(number: int = 0) -> int:
    """Start no more often than that, in all workers together."""
    note("ran", number=number)
    return number


@shared_task(concurrency_key="key-{key}", max_concurrency=2, acks_late=True)
def two_of_a_key(key: str, seconds: float = 0.05) -> int:
    """Work while no more than one other does with the same key."""
    note("enter", key=key)
    time.sleep(seconds)
    note("leave", key=key)
    return os.getpid()


@shared_task(max_concurrency=1)
def alone(gate: str) -> int:
    """Wait, alone of its name."""
    note("begin")
    wait_for(gate)
    return os.getpid()


@shared_task(unique_key="report-{number}")
def unique_report(number: int, gate: str = "") -> int:
    """Run once at a time for a number."""
    note("begin", number=number)
    if gate:
        wait_for(gate)
    return number
