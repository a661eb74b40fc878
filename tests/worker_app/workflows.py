"""Tasks of workflows."""

import os
import signal
from pathlib import Path
from typing import Any

from djtasks import shared_task
from tests.worker_app.tasks import note


@shared_task
def add(*args: Any) -> Any:
    """The sum of the arguments."""
    return sum(args)


@shared_task
def gather(values: list[Any]) -> list[Any]:
    """The results of a header, as they came; notes how many there are."""
    note("gathered", count=len(values))
    return values


@shared_task
def fail(*args: Any) -> None:
    """Raise."""
    raise ValueError("as told")


@shared_task
def told(task_id: str) -> None:
    """Note whom an errback is about."""
    note("told", about=task_id)


@shared_task(acks_late=True)
def dies_once(mark: str, value: Any) -> Any:
    """Kill the process that runs this, but only once."""
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return value
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task
def dies(*args: Any) -> None:
    """Kill the process that runs this."""
    os.kill(os.getpid(), signal.SIGKILL)
