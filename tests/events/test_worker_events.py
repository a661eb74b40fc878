"""What a worker tells of its tasks and of itself, seen by a receiver."""

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from djtasks import app
from djtasks.events.fields import Event
from tests.events.conftest import Listener
from tests.events_app import tasks
from tests.worker.running import Gate, RunningWorker, Workers, ended, query, value, wait_until

APPS = "tests.worker_app,tests.events_app"
Listen = Callable[..., Listener]


def tell(worker: RunningWorker, command: str) -> Any:
    return app.control.broadcast(command, destination=[f"{worker.name}@here"], reply=True, timeout=10)


@pytest.fixture(scope="module")
def worker(shared: Workers) -> RunningWorker:
    """One that tells of everything."""
    return shared.start("-c", "2", "-E", apps=APPS, WORKER_HEARTBEAT_INTERVAL=1.0)


def without(event: Event, *names: str) -> Event:
    """What is told, without what differs each time."""
    return {name: each for name, each in event.items() if name not in {"timestamp", "local_received", "clock", *names}}


def test_a_success_is_told_with_celerys_fields(worker: RunningWorker, listen: Listen) -> None:
    listener, before = listen(), time.time()
    result = tasks.add.delay(2, y=3)
    heard = listener.heard("task-received", "task-started", "task-succeeded", uuid=result.id)

    assert [event["type"] for event in heard] == ["task-received", "task-started", "task-succeeded"]
    always = {"hostname": f"{worker.name}@here", "pid": worker.pid, "utcoffset": 0, "uuid": result.id}
    received, started, succeeded = heard
    assert without(received) == {
        **always,
        "type": "task-received",
        "name": "tests.events_app.tasks.add",
        "args": "[2]",
        "kwargs": "{'y': 3}",
        "retries": 0,
        "eta": None,
        "expires": None,
        "root_id": result.id,
        "parent_id": None,
    }
    assert without(started) == {**always, "type": "task-started"}
    assert without(succeeded, "runtime") == {**always, "type": "task-succeeded", "result": "5"}
    assert 0 < succeeded["runtime"] < 20
    assert before <= received["timestamp"] <= started["timestamp"] <= succeeded["timestamp"] <= time.time()
    assert received["clock"] < started["clock"] < succeeded["clock"]


def test_other_ends_are_told_too(worker: RunningWorker, listen: Listen) -> None:
    listener = listen()
    failed, rejected, retried = tasks.fail.delay(), tasks.reject.delay(), tasks.again.delay()

    event = listener.one("task-failed", failed.id)
    assert event["exception"] == "KeyError('what is missing')"
    assert event["traceback"].startswith("Traceback")
    assert listener.one("task-rejected", rejected.id)["requeue"] is False
    listener.one("task-succeeded", retried.id)
    event = listener.one("task-retried", retried.id)
    assert "ValueError('not yet')" in event["exception"]
    types = [event["type"] for event in listener.heard(uuid=retried.id)]
    assert types.count("task-received") == types.count("task-started") == 2
    assert [event["retries"] for event in listener.heard(uuid=retried.id) if "retries" in event] == [0, 1]


def test_what_runs_is_told_of_while_it_runs_and_terminating_it_too(
    worker: RunningWorker, listen: Listen, gate: Gate
) -> None:
    listener = listen()
    held = tasks.hold.delay(str(gate))
    began = listener.one("task-started", held.id)
    assert began["timestamp"] <= time.time()
    assert not [
        event for event in listener.events if event.get("uuid") == held.id and event["type"] == "task-succeeded"
    ]

    app.control.revoke(held.id, terminate=True, signal="SIGKILL")
    event = listener.one("task-revoked", held.id)
    assert (event["terminated"], event["signum"], event["expired"]) == (True, signal.SIGKILL, False)


def test_what_never_runs_is_told_as_revoked(worker: RunningWorker, listen: Listen) -> None:
    listener = listen()
    expired = tasks.add.apply_async((1, 1), countdown=0.2, expires=0.1)
    event = listener.one("task-revoked", expired.id)
    assert (event["terminated"], event["signum"], event["expired"]) == (False, None, True)

    # What still waits is ended by whoever revokes it.
    wait_until(lambda: query("SELECT 1 FROM djtasks_worker WHERE state @> '{\"events\": true}'"), "the worker says so")
    waiting = tasks.add.apply_async((1, 1), queue="nobody")
    waiting.revoke()
    event = listener.one("task-revoked", waiting.id)
    assert (event["terminated"], event["expired"], event["hostname"]) == (False, False, "")


def test_secrets_are_not_told(worker: RunningWorker, listen: Listen) -> None:
    listener = listen()
    result = tasks.login.delay("me", "sesame-open-up")
    heard = listener.heard("task-received", "task-succeeded", uuid=result.id)

    assert "sesame" not in json.dumps(heard)
    assert listener.one("task-received", result.id)["args"] == "['me', ********]"
    assert listener.one("task-succeeded", result.id)["result"] == "'welcome me, ********'"


def test_a_task_tells_what_it_likes_and_a_quiet_one_nothing(worker: RunningWorker, listen: Listen) -> None:
    listener = listen()
    quiet = tasks.quiet.delay()
    ended(quiet)
    result = tasks.progress.delay()
    event = listener.one("task-progress", result.id)
    assert (event["step"], event["of"], event["hostname"]) == (3, {"total": 7}, f"{worker.name}@here")
    assert event["pid"] != worker.pid
    listener.one("task-succeeded", result.id)
    assert not [event for event in listener.events if event.get("uuid") == quiet.id]

    tasks.add.send_event("task-outside", note="no worker")
    assert listener.one("task-outside")["note"] == "no worker"


def test_what_a_task_sends_is_told_by_its_caller(worker: RunningWorker, listen: Listen, settings: Any) -> None:
    settings.DJTASKS = {"TASK_SEND_SENT_EVENT": True}
    listener = listen()
    result = tasks.add.apply_async((2, 3), countdown=0.1)
    event = listener.one("task-sent", result.id)
    assert event["hostname"].startswith(f"gen{os.getpid()}@")
    assert without(event, "eta", "hostname") == {
        "type": "task-sent",
        "uuid": result.id,
        "name": "tests.events_app.tasks.add",
        "args": "[2, 3]",
        "kwargs": "{}",
        "retries": 0,
        "expires": None,
        "queue": "celery",
        "exchange": "",
        "routing_key": "celery",
        "root_id": result.id,
        "parent_id": None,
        "pid": os.getpid(),
        "utcoffset": 0,
    }
    assert event["eta"] > "2026"
    with_many = tasks.add.bulk_apply_async([((1, 1), {}), ((1, 2), {})])
    for each in with_many:
        listener.one("task-sent", each.id)


def test_the_worker_tells_of_itself(worker: RunningWorker, listen: Listen) -> None:
    listener = listen(replay=False)
    beat = listener.one("worker-heartbeat")
    assert set(without(beat)) == {
        *("type", "hostname", "pid", "utcoffset", "freq", "active", "processed", "loadavg"),
        *("sw_ident", "sw_ver", "sw_sys"),
    }
    assert (beat["hostname"], beat["pid"], beat["freq"]) == (f"{worker.name}@here", worker.pid, 1.0)
    assert (beat["sw_ident"], beat["sw_sys"], len(beat["loadavg"])) == ("djtasks", "Linux", 3)


def test_an_ended_worker_says_so_and_a_killed_one_falls_silent(shared: Workers, listen: Listen, gate: Gate) -> None:
    ending = shared.start("-P", "threads", "-c", "1", "-Q", "threads", "-E", apps=APPS, WORKER_HEARTBEAT_INTERVAL=1.0)
    listener = listen()
    state = app.events.State()
    held = tasks.hold.apply_async((str(gate),), queue="threads")
    listener.one("task-started", held.id)
    ending.signal(signal.SIGKILL)
    ending.wait()
    for event in list(listener.events):
        state.event({**event, "local_received": event["timestamp"]})
    silent = state.workers[f"{ending.name}@here"]
    wait_until(lambda: not silent.alive, "it is taken for gone")
    assert state.tasks[held.id].state == "STARTED"
    gate.open()

    warm = shared.start("-P", "solo", "-Q", "solo", "-E", apps=APPS)
    done = tasks.add.apply_async((1, 1), queue="solo")
    value(done)
    assert warm.stop() == 0
    listener.heard("worker-offline")
    types = [event["type"] for event in listener.events if event["hostname"] == f"{warm.name}@here"]
    assert types[0] == "worker-online"
    assert types[-1] == "worker-offline"
    # The other worker ends what the killed one was at, and tells of it.
    assert listener.one("task-failed", held.id)["exception"].startswith("WorkerLostError")
