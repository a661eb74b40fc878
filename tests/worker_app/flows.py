"""Steps of workflows, which do as they are told, and note each of their runs."""

import os
import signal
import time
from typing import Any

from django.db import connection

from djtasks import chain, shared_task
from djtasks.exceptions import Ignore
from tests.worker_app.tasks import FOREVER, note


def _do(self: Any, given: tuple[Any, ...], name: str, do: str) -> Any:
    note("step", name=name)
    delivery = self.request.delivery_info
    if do == "fail":
        raise LookupError(name)
    if do == "ignore":
        raise Ignore
    if do == "retry" and not self.request.retries:
        raise self.retry(countdown=0)
    if do == "kill" and delivery is not None and not delivery["redelivered"]:
        os.kill(os.getpid(), signal.SIGKILL)
    if do == "replace":
        return self.replace(chain(step.s(*given, name=f"{name}.1"), step.s(name=f"{name}.2")))
    return [name, *given]


@shared_task(bind=True, acks_late=True, max_retries=5)
def step(self: Any, *given: Any, name: str, do: str = "return") -> Any:
    """Return the own name and all that was given, sooner or later or never."""
    return _do(self, given, name, do)


@shared_task(bind=True, atomic=True, max_retries=5)
def atomic_step(self: Any, *given: Any, name: str, do: str = "return") -> Any:
    """As `step`, in a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return _do(self, given, name, do)


@shared_task
def early() -> None:
    """Die, with the process."""
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task
def hold() -> None:
    """Wait to be ended."""
    note("begin")
    time.sleep(FOREVER)
