"""Telling workers what to do: `app.control`."""

import time
from typing import Any

import pytest

from djtasks import app
from djtasks.broadcasting import who
from tests.worker.running import Gate, RunningWorker, Workers, ended, query, value, wait_until, waits
from tests.worker_app import tasks


@pytest.fixture(scope="module")
def worker(shared: Workers) -> RunningWorker:
    """A worker with one child."""
    return shared.start("-c", "1", "-Q", "celery")


def said(worker: RunningWorker, command: str, *args: Any, **options: Any) -> Any:
    """What this worker answers."""
    node = f"{worker.name}@here"
    (reply,) = getattr(app.control, command)(*args, destination=[node], reply=True, timeout=10, **options)
    return reply[node]


def queues_of(worker: RunningWorker) -> list[str]:
    """The queues of its row: for those it is rung."""
    found: str = query("SELECT queues::text FROM djtasks_worker WHERE pid = %s", worker.pid)[0][0]
    return sorted(found.strip("[]").replace('"', "").split(", "))


def test_queues_are_added_and_cancelled_while_it_works(worker: RunningWorker) -> None:
    before = tasks.echo.apply_async(["before"], queue="added")
    assert said(worker, "add_consumer", "added") == {"ok": "add consumer added"}
    assert value(before) == "before"
    assert queues_of(worker) == ["added", "celery"]
    # A ring, and not the next poll: the worker sleeps.
    assert said(worker, "add_consumer", "added") == {"ok": "add consumer added"}
    wait_until(lambda: query("SELECT idle FROM djtasks_worker WHERE pid = %s", worker.pid) == [(True,)], "it sleeps")
    assert value(tasks.echo.apply_async(["after"], queue="added")) == "after"
    assert said(worker, "cancel_consumer", "added") == {"ok": "no longer consuming from added"}
    assert queues_of(worker) == ["celery"]
    left = tasks.noop.apply_async(queue="added")
    ended(tasks.noop.delay())
    assert waits(left)
    assert said(worker, "cancel_consumer", "never") == {"ok": "no longer consuming from never"}


def test_a_queue_that_can_be_none_is_refused_by_the_caller_and_by_the_worker(worker: RunningWorker) -> None:
    with pytest.raises(ValueError, match="a queue must be the name"):
        app.control.add_consumer("")
    assert "name of a queue" in said(worker, "broadcast", "add_consumer", {"queue": "x" * 300})["error"]


def test_it_answers_while_every_child_is_busy(shared: Workers, worker: RunningWorker, gate: Gate) -> None:
    held = tasks.hold.delay(str(gate))
    shared.audit.began(held)
    said(worker, "broadcast", "ping")
    began = time.monotonic()
    assert said(worker, "broadcast", "ping") == {"ok": "pong"}
    # Far sooner than the next look of a worker that is not rung.
    assert time.monotonic() - began < 2
    gate.open()
    ended(held)


def test_unknown_commands_and_arguments_that_do_not_fit_are_errors_of_the_answer(worker: RunningWorker) -> None:
    assert said(worker, "broadcast", "make_coffee") == {"error": "KeyError('make_coffee')"}
    assert "it takes task_name: str" in said(worker, "broadcast", "rate_limit", {"task": 1})["error"]
    assert "missing a required argument" in said(worker, "broadcast", "time_limit")["error"]
    assert "no arguments" in said(worker, "broadcast", "ping", {"loudly": True})["error"]
    for bad in ({"x": object()}, {"x": float("inf")}, [1]):
        with pytest.raises(TypeError, match="JSON"):
            app.control.broadcast("ping", bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="NUL"):
        app.control.broadcast("ping", {"x": "\0"})
    assert said(worker, "broadcast", "ping") == {"ok": "pong"}


def test_what_a_worker_cannot_do_it_says(worker: RunningWorker) -> None:
    assert "one is to be left" in said(worker, "pool_shrink", 1)["error"]
    assert said(worker, "pool_restart") == {"error": "ValueError('Pool restarts not enabled')"}
    assert said(worker, "autoscale", 4, 1) == {"error": "ValueError('Autoscale not enabled')"}
    assert "djtasks holds none" in said(worker, "election", "id", "topic")["error"]
    with pytest.raises(ValueError, match="1024"):
        app.control.pool_grow(1_000_000)
    with pytest.raises(ValueError, match="above max"):
        app.control.autoscale(1, 2)


def test_a_heart_beats_when_it_is_told_to(worker: RunningWorker) -> None:
    beat = "SELECT heartbeat FROM djtasks_worker WHERE pid = %s"
    before = query(beat, worker.pid)
    assert said(worker, "heartbeat") is None
    assert query(beat, worker.pid) > before


def test_who_said_it_is_written_down(worker: RunningWorker) -> None:
    said(worker, "cancel_consumer", "nothing")
    said(worker, "cancel_consumer", "nothing", by="the night shift")
    found = query("SELECT by FROM djtasks_command WHERE name = 'cancel_consumer' ORDER BY id DESC LIMIT 2")
    assert found == [("the night shift",), (who(),)]
    app.control.revoke("of-somebody")
    assert query("SELECT by FROM djtasks_revocation ORDER BY id DESC LIMIT 1") == [(who(),)]


def test_a_broadcast_revocation_is_a_revocation(worker: RunningWorker) -> None:
    result = tasks.noop.apply_async(queue="nobody")
    assert said(worker, "broadcast", "revoke", {"task_id": result.id}) == {
        "ok": f"tasks {{'{result.id}'}} flagged as revoked"
    }
    assert ended(result) == "REVOKED"


def test_a_worker_that_is_shut_down_ends_what_runs_and_does_not_answer(workers: Workers, gate: Gate) -> None:
    other = workers.start("-c", "1", "-Q", "last")
    held = tasks.hold.apply_async([str(gate)], queue="last")
    workers.audit.began(held)
    assert app.control.shutdown([f"{other.name}@here"], reply=True, timeout=0.1) == []
    other.says("Warm shutdown")
    gate.open()
    assert other.wait() == 0
    assert ended(held) == "SUCCESS"
