"""Tasks of Django's framework, beside one of djtasks' own."""

import os
import time
from typing import Any

from django.contrib.auth.models import User

from djtasks import shared_task
from tests.tasks_app.framework import signals, task, task_backends

#: Longer than any test waits.
FOREVER = 600.0


class OutOfOrder(Exception):
    """Raised by tasks."""


def wait_for(gate: str) -> None:
    """Wait until a test has made this file."""
    until = time.monotonic() + FOREVER
    while not os.path.exists(gate) and time.monotonic() < until:
        time.sleep(0.005)


# -- what the documentation shows ---------------------------------------------------------------------------------


@task
def answer() -> int:
    """Return what everybody asks for."""
    return 42


@task()
def nothing() -> None:
    """Return nothing."""


@task(priority=2, queue_name="emails")
def send(emails: list[str], subject: str, message: str) -> int:
    """Send nothing, and say to how many."""
    return len(emails)


@task
def double_dictionary(key: Any) -> Any:
    """The example of a round trip through JSON."""
    return {key: key * 2}


@task
def echo(*args: Any, **kwargs: Any) -> Any:
    """What it was called with."""
    return [args, kwargs]


@task
def kinds(*args: Any, **kwargs: Any) -> Any:
    """The types of what it was called with."""
    return [[type(each).__name__ for each in args], {key: type(each).__name__ for key, each in kwargs.items()}]


@task
async def coroutine(number: int) -> Any:
    """Ask the database, asynchronously."""
    return [number, await User.objects.acount()]


@task(takes_context=True)
async def coroutine_with_context(context: Any, number: int) -> Any:
    """A coroutine that knows its attempt."""
    return [context.attempt, number]


@task
async def coroutine_that_fails() -> None:
    """Fail."""
    raise OutOfOrder("asynchronously")


@task(takes_context=True)
def with_context(context: Any, word: str) -> Any:
    """What a context knows."""
    result = context.task_result
    return {
        "word": word,
        "type": type(context).__name__,
        "attempt": context.attempt,
        "id": result.id,
        "status": result.status,
        "args": result.args,
        "kwargs": result.kwargs,
        "task": result.task.module_path,
        "queue_name": result.task.queue_name,
        "priority": result.task.priority,
        "run_after": None if result.task.run_after is None else result.task.run_after.isoformat(),
        "backend": result.backend,
        "is_finished": result.is_finished,
        "worker_ids": result.worker_ids,
        "started": result.started_at is not None and result.started_at == result.last_attempted_at,
        "enqueued": result.enqueued_at is not None and result.enqueued_at <= result.started_at,
        "errors": len(result.errors),
        "pid": os.getpid(),
    }


# -- how they fail ------------------------------------------------------------------------------------------------


@task
def fail(text: str = "of course") -> None:
    """Raise an error."""
    raise OutOfOrder(text)


@task
def fail_deeply() -> None:
    """Raise an error that has another for its cause."""
    try:
        raise KeyError("the cause")
    except KeyError as error:
        raise ValueError("the effect") from error


@task
def leave() -> None:
    """Want the process to end."""
    raise SystemExit("bye")


@task
def unstorable() -> Any:
    """Return what JSON has no word for."""
    return object()


@task
def tuples() -> Any:
    """Return what comes back in another form."""
    return {"a": (1, 2, (3,)), "b": b"bytes"}


@task
def die() -> None:
    """Kill the own process."""
    os.kill(os.getpid(), 9)


@task(backend="retrying", takes_context=True)
def flaky(context: Any, fails: int) -> Any:
    """Fail so many times, each time with another text."""
    if context.attempt <= fails:
        raise OutOfOrder(f"attempt {context.attempt}")
    return [context.attempt, len(context.task_result.errors)]


@task(backend="hourly")
def flaky_with_a_gate(gate: str) -> None:
    """Fail until the gate is open."""
    if not os.path.exists(gate):
        raise OutOfOrder("closed")


@task(backend="short")
def endless() -> None:
    """Never end."""
    time.sleep(FOREVER)


@task
def hold(gate: str) -> str:
    """Wait at a gate."""
    wait_for(gate)
    return "through"


@task(backend="atomic")
def in_transaction(number: int) -> int:
    """Return the argument."""
    return number


@task(backend="exactly once", takes_context=True)
def exactly_once(context: Any, fails: bool) -> int:
    """Its work and its end are one transaction."""
    User.objects.create(username=context.task_result.id)
    if fails:
        raise OutOfOrder
    return context.task_result.attempts


@task(backend="any queue")
def anywhere() -> str:
    """In whatever queue."""
    return "here"


@task(backend="own ids")
def identified() -> str:
    """With an id of one's own."""
    return "known"


@task(backend="immediate")
def elsewhere(number: int) -> int:
    """A task of another backend's."""
    return number + 1


# -- tasks that call, and workflows -------------------------------------------------------------------------------


@task
def parent(number: int) -> str:
    """Enqueue a child."""
    child: str = answer.enqueue().id if number else ""
    return child


@task
async def asynchronous_parent() -> str:
    """Enqueue a child from a coroutine."""
    child: str = (await answer.aenqueue()).id
    return child


@task
def add(left: int, right: int) -> int:
    """The sum."""
    return left + right


@task
def total(numbers: list[int]) -> int:
    """The sum of many."""
    return sum(numbers)


@shared_task
def double(number: int) -> int:
    """A task of djtasks' own."""
    return number * 2


@shared_task
def total_of(numbers: list[int]) -> int:
    """The sum of many, in a task of djtasks' own."""
    return sum(numbers)


@task
def backend_of(result_id: str) -> Any:
    """What another task's result is, seen from a worker."""
    result = task_backends["default"].get_result(result_id)
    return [result.status, result.return_value]


def _hear(name: str) -> Any:
    def receiver(sender: Any, task_result: Any, **kwargs: Any) -> None:
        if path := os.environ.get("HEARD"):
            result = task_result
            words = (name, result.id, result.status, result.attempts, sender.__name__, len(result.errors))
            with open(path, "a") as file:
                file.write(" ".join(map(str, words)) + "\n")

    return receiver


_receivers = {name: _hear(name) for name in ("task_enqueued", "task_started", "task_finished")}
for _name, _receiver in _receivers.items():
    getattr(signals, _name).connect(_receiver)
