"""What the tests of calling share: a registry that forgets what a test defined, and messages in a worker's hands."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import pytest
from django.test import override_settings
from psycopg.rows import dict_row

from djtasks import Task, appstate, delivery, publisher, tracer
from djtasks import waiting as waiting_room
from djtasks.conf import layers, reread
from djtasks.db import claims, messages, notify
from djtasks.db.connections import open_private
from djtasks.db.finish import finish
from djtasks.messages import Claimed, Message, Outcome, Progress
from djtasks.registry import tasks
from djtasks.signals import Signal


@pytest.fixture(autouse=True)
def registry() -> Iterator[dict[str, Any]]:
    """The tasks that are registered, without those of other tests; what the test adds is forgotten."""
    before = dict(tasks)
    for name in before:
        if name.startswith(("shop.", "tests.")):
            del tasks[name]
    state = layers.state()
    yield tasks
    tasks.clear()
    tasks.update(before)
    appstate.set_current(None)
    layers.restore(state)
    reread()


@pytest.fixture(autouse=True)
def _sessions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No session of ours stays open, so that the database can be dropped."""
    monkeypatch.setattr(waiting_room, "LINGER", 0.0)
    yield
    if hasattr(delivery._private, "link"):
        delivery._private.link.close()
    if (hub := waiting_room._hub) is not None and hub.is_alive():
        hub.join(20)


def claimed(message: Message, **changes: Any) -> Claimed:
    """`message`, as a worker that has claimed it holds it."""
    values: dict[str, Any] = {
        "claim": 7,
        "crashes": 0,
        "rerun": False,
        "created": 0.0,
        "expired": False,
        **{name: value for name, value in message._asdict().items() if name in Claimed._fields},
        **changes,
    }
    return Claimed(**values)


def message_of(task: Task[..., Any], *args: Any, **options: Any) -> Message:
    """The message of a call with these positional arguments and options."""
    return publisher.build(task.name, args, options.pop("kwargs", {}), options, task)


class Runner:
    """Runs calls as a worker does, but for the tables."""

    def __init__(self) -> None:
        self.reports: list[Progress] = []

    def __call__(
        self, task: Task[..., Any], *args: Any, changes: dict[str, Any] | None = None, **options: Any
    ) -> Outcome:
        """The outcome of one run of `task`, called with these positional arguments and options."""
        return self.trace(claimed(message_of(task, *args, **options), **(changes or {})))

    def trace(self, message: Claimed) -> Outcome:
        """The outcome of one run of `message`."""
        return tracer.trace(message, hostname="celery@here", reporter=self.reports.append)


@pytest.fixture
def run() -> Runner:
    """Run a call as a worker does."""
    return Runner()


#: An incarnation that no worker has.
OWNER = 42


def work(*queues: str) -> list[Outcome]:
    """Run all that waits in these queues (celery), once, and store how it ended; the outcomes, in order."""
    with open_private("test worker") as conn:
        with conn.transaction():
            taken = claims.claim_waiting(conn, OWNER, 1, queues or ["celery"])
        outcomes = [tracer.trace(message, hostname="celery@test") for message in taken]
        ended = [outcome for outcome in outcomes if outcome.again is None]
        again = [outcome for outcome in outcomes if outcome.again is not None]
        if ended:
            finish(conn, OWNER, ended, "celery@test")
            notify.ring_waiters(conn, [outcome.id for outcome in ended])
        if again:
            messages.again(conn, OWNER, again, "celery@test")
    return outcomes


def waiting(name: str) -> list[dict[str, Any]]:
    """The messages of the task of this name that are committed: what a worker would see, oldest first."""
    columns = "id::text, queue, priority, headers, content_type, extract(epoch FROM eta - created)::float8 AS wait"
    query = f"SELECT {columns} FROM djtasks_message WHERE name = %s ORDER BY position"
    with open_private("test onlooker") as conn, conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, [name]).fetchall()


class Configure(Protocol):
    """Put these settings in force for the rest of the test."""

    def __call__(self, **settings: Any) -> None: ...


@pytest.fixture
def configure() -> Iterator[Configure]:
    """`configure(TASK_ALWAYS_EAGER=True)` puts these settings in force for the rest of the test."""
    with ExitStack() as stack:

        def put_in_force(**settings: Any) -> None:
            stack.enter_context(override_settings(DJTASKS=settings))

        yield put_in_force


@contextmanager
def connected(signal: Signal, receiver: Callable[..., Any], sender: Any = None) -> Iterator[None]:
    """`receiver` hears `signal` inside."""
    signal.connect(receiver, sender, weak=False)
    yield
    signal.disconnect(receiver, sender)
