"""Tasks for the tests of how a run ends, whose processes die at a step of it."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from django.db import connection, transaction

from djtasks import Task, current_task, shared_task
from djtasks.exceptions import Reject
from tests.worker_app.tasks import note, wait_for

#: The steps at which the first run of `effect` can be killed, before its commit and after it.
BEFORE = (
    "before_start",
    "at the beginning",
    "effect written",
    "enqueued",
    "before the finish",
    "after the finish",
    "before what follows",
    "before the commit",
)
AFTER = ("after the commit", "on commit", "on_success", "after_return")


class Deadly(Task[..., Any]):
    """Its first run is killed at the step that its first argument names."""

    def step(self, name: str) -> None:
        """Die here, if this is the step."""
        args, delivery = self.request.args, self.request.delivery_info
        if args and args[0] == name and delivery is not None and not delivery["redelivered"]:
            note("dies", step=name)
            os.kill(os.getpid(), signal.SIGKILL)

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        note("begin")
        self.step("before_start")

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        self.step("on_success")

    def after_return(self, *args: Any) -> None:
        self.step("after_return")


def write_effect(number: int | None = None) -> None:
    """One row, in the transaction of the task."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO effect (task, number) VALUES (%s, %s)", [current_task.request.id, number])


@shared_task(ignore_result=True)
def follows(of: str, *more: Any) -> None:
    """Something that was enqueued by a task, or linked to it."""
    note("follows", of=of)


def _watching(task: Any) -> Callable[..., Any]:
    """Sees each statement of the connection."""

    def watch(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        finishes = "DELETE FROM djtasks_message" in sql
        if finishes:
            task.step("before the finish")
        if "INSERT INTO djtasks_message" in sql and connection.finishing:  # type: ignore[attr-defined]
            task.step("before what follows")
        answer = execute(sql, *rest)
        if finishes:
            connection.finishing = True  # type: ignore[attr-defined]
            task.step("after the finish")
        return answer

    return watch


@shared_task(bind=True, base=Deadly, atomic=True)
def effect(self: Any, at: str) -> str:
    """Write a row and enqueue a task; die at the given step of the first run."""
    self.step("at the beginning")
    write_effect()
    self.step("effect written")
    follows.delay(self.request.id)
    self.step("enqueued")
    transaction.on_commit(lambda: self.step("on commit"))
    wrapper: Any = connection._connections[connection._alias]  # type: ignore[attr-defined]
    commit, watch = type(wrapper).commit, _watching(self)
    wrapper.finishing = False

    def committing() -> None:
        self.step("before the commit")
        wrapper.execute_wrappers.remove(watch)
        del wrapper.commit
        commit(wrapper)
        self.step("after the commit")

    wrapper.commit = committing
    wrapper.execute_wrappers.append(watch)
    return at


@shared_task(bind=True, atomic=True)
def effect_at(self: Any, gate: str) -> int:
    """Write a row, and end once the gate is open."""
    note("begin")
    write_effect()
    wait_for(gate)
    return os.getpid()


@shared_task(atomic=True)
def effect_and(how: str) -> str:
    """Write a row, and return or fail."""
    write_effect()
    if how == "fail":
        raise ValueError(how)
    return how


# -- acks and links -----------------------------------------------------------------------------------------------


@shared_task(acks_late=True, acks_on_timeout=False, time_limit=0.3)
def endless(gate: str) -> bool:
    """Is over its hard limit until the gate is open; whether it was put back."""
    note("begin")
    wait_for(gate)
    assert current_task.request.delivery_info is not None
    return bool(current_task.request.delivery_info["redelivered"])


@shared_task(ignore_result=True)
def refused(how: str) -> None:
    """Refuse the message."""
    note("begin")
    if not current_task.request.delivery_info["redelivered"]:
        raise Reject(how, requeue=how == "later")


@shared_task(bind=True, base=Deadly, acks_late=True)
def linked(self: Any, at: str) -> str:
    """Return its own id, for what follows it."""
    self.step("at the beginning")
    return str(self.request.id)


@shared_task
def hold_with_errback(gate: str) -> None:
    """Wait to be killed."""
    note("begin")
    wait_for(gate)


@shared_task(ignore_result=True)
def errback(request: Any, exc: BaseException, traceback: str | None) -> None:
    """A new-style errback."""
    note("errback", of=request.id, error=type(exc).__name__)


@shared_task(ignore_result=True)
def old_errback(task_id: str) -> None:
    """An old-style errback."""
    note("old errback", of=task_id)


@shared_task(acks_late=True)
def counted(number: int) -> int:
    """A little work, which may be lost."""
    time.sleep(0.005)
    return number


@shared_task(atomic=True, ignore_result=True)
def count(number: int) -> None:
    """One row for each time that it has come to its end."""
    write_effect(number)
