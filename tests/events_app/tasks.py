"""Tasks for the tests of events."""

import os
from typing import Any, NoReturn

from djtasks import Task, chain, shared_task
from djtasks.exceptions import Reject
from tests.worker_app.tasks import wait_for


@shared_task
def add(x: int, y: int) -> int:
    """Add."""
    return x + y


@shared_task(sensitive=("password",))
def login(name: str, password: str) -> str:
    """Return what nobody may read."""
    return f"welcome {name}, {password}"


@shared_task(bind=True, max_retries=1)
def again(self: Task[..., Any]) -> str:
    """Succeed at the second run."""
    if not self.request.retries:
        raise self.retry(exc=ValueError("not yet"), countdown=0)
    return "now"


@shared_task
def fail() -> NoReturn:
    """Fail."""
    raise KeyError("what is missing")


@shared_task
def reject() -> NoReturn:
    """Refuse."""
    raise Reject("no", requeue=False)


@shared_task
def hold(gate: str) -> int:
    """Wait at the gate; returns the process."""
    wait_for(gate)
    return os.getpid()


@shared_task(bind=True)
def progress(self: Task[..., Any]) -> None:
    """Send an event of its own."""
    self.send_event("task-progress", step=3, of={"total": 7})


@shared_task(send_events=False)
def quiet() -> None:
    """Be told of by nobody."""


@shared_task
def spawn(x: int) -> None:
    """Send a chain."""
    chain(add.si(x, 1), add.s(2)).apply_async()
