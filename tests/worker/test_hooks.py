"""The thread that tells of ended tasks."""

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from djtasks import Task, shared_task, signals, tracer
from djtasks.exceptions import TaskRevokedError, WorkerLostError
from djtasks.messages import Claimed
from djtasks.worker import hooks as module
from djtasks.worker.hooks import Hooks
from tests.calling.conftest import claimed, connected, message_of, registry

__all__ = ["registry"]


class Seen(list[dict[str, Any]]):
    """What a receiver was given."""

    def __call__(self, **kwargs: Any) -> None:
        self.append({**kwargs, "thread": threading.current_thread().name})


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    made = Hooks("w@here")
    yield made
    made.stop(5)


@pytest.fixture
def message() -> Claimed:
    @shared_task(name="shop.add")
    def add(x: int) -> int:
        return x

    return claimed(message_of(add, 5))


def lost(message: Claimed) -> Any:
    return tracer.failure(message, WorkerLostError("gone"))


def test_where_nobody_wants_to_know_no_thread_is_started(
    hooks: Hooks, message: Claimed, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Those of other tests' modules.
    for signal in (signals.task_failure, signals.task_revoked):
        monkeypatch.setattr(signal, "receivers", [])
    hooks.ended(message, lost(message))
    hooks.ended(message, tracer.failure(message, TaskRevokedError("expired")))
    hooks.failed(message, lost(message))
    assert hooks._thread is None


def test_what_was_posted_is_done_before_it_stops_and_nothing_after(hooks: Hooks, message: Claimed) -> None:
    seen = Seen()
    with connected(signals.task_failure, seen):
        for _ in range(20):
            hooks.ended(message, lost(message))
        hooks.stop(5)
        hooks.ended(message, lost(message))
    assert len(seen) == 20
    assert {each["thread"] for each in seen} == {"djtasks-hooks"}
    assert (seen[0]["args"], str(seen[0]["exception"])) == ([5], "gone")


def test_a_hook_that_hangs_does_not_keep_a_worker_from_stopping(
    hooks: Hooks, message: Claimed, caplog: pytest.LogCaptureFixture
) -> None:
    begun, end = threading.Event(), threading.Event()

    def hang(**_: Any) -> None:
        begun.set()
        end.wait(30)

    with connected(signals.task_failure, hang):
        hooks.ended(message, lost(message))
        hooks.ended(message, lost(message))
        assert begun.wait(10)
        asked = time.monotonic()
        with caplog.at_level(logging.WARNING):
            hooks.stop(0.1)
        assert time.monotonic() - asked < 5
        end.set()
    assert "A hook or an e-mail takes too long; 2 are given up" in caplog.text


def test_more_than_a_queue_holds_are_dropped_with_an_error(
    message: Claimed, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    hooks = Hooks("w@here")
    begun, end = threading.Event(), threading.Event()

    def wait(**_: Any) -> None:
        begun.set()
        end.wait(30)

    with connected(signals.task_failure, wait), caplog.at_level(logging.ERROR):
        hooks.ended(message, lost(message))
        assert begun.wait(10)
        for _ in range(3):
            hooks.ended(message, lost(message))
        assert "More than 2 ended tasks wait for their hooks" in caplog.text
        end.set()
        hooks.stop(5)


def test_a_handler_that_raises_does_not_keep_the_next_from_being_called(hooks: Hooks) -> None:
    called: list[str] = []

    class Careless(Task[..., Any]):
        abstract = True

        def on_failure(self, *args: Any) -> None:
            called.append("on_failure")
            raise SystemExit(3)

        def after_return(self, *args: Any) -> None:
            called.append("after_return")
            raise LookupError

    @shared_task(name="shop.careless", base=Careless)
    def careless() -> None: ...

    message = claimed(message_of(careless))
    seen = Seen()
    with connected(signals.task_failure, seen):
        hooks.ended(message, lost(message))
        hooks.ended(message, lost(message))
        hooks.stop(5)
    assert called == ["on_failure", "after_return"] * 2
    assert len(seen) == 2


def test_a_message_that_cannot_be_read_is_told_without_its_arguments(hooks: Hooks, message: Claimed) -> None:
    seen = Seen()
    broken = message._replace(body=b"no json", headers="{broken")
    with connected(signals.task_revoked, seen):
        hooks.ended(broken, tracer.failure(broken, TaskRevokedError("terminated")), True, 15)
        hooks.stop(5)
    assert (seen[0]["terminated"], seen[0]["signum"], seen[0]["expired"]) == (True, 15, False)
    assert (seen[0]["request"].args, seen[0]["request"].id) == (None, message.id)
