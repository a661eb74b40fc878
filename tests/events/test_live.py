"""Events are switched on and off while a worker runs; while they are off, nothing is written and nobody is rung."""

from collections.abc import Callable
from typing import Any

import psycopg

from djtasks import app
from tests.events.conftest import Listener
from tests.events_app import tasks
from tests.worker.running import RunningWorker, Workers, query, value, wait_until

Listen = Callable[..., Listener]


def tell(worker: RunningWorker, command: str) -> Any:
    answers = app.control.broadcast(command, destination=[f"{worker.name}@here"], reply=True, timeout=10)
    assert answers is not None
    return answers[0][f"{worker.name}@here"]


def test_nothing_is_told_until_a_worker_is_told_to(
    workers: Workers, listen: Listen, database: str, no_events: None
) -> None:
    worker = workers.start("-c", "1", apps="tests.worker_app,tests.events_app", WORKER_HEARTBEAT_INTERVAL=0.5)
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("LISTEN djtasks_event")
        value(tasks.add.delay(1, 1))
        beats = query("SELECT heartbeat FROM djtasks_worker")
        wait_until(lambda: query("SELECT heartbeat FROM djtasks_worker") != beats, "the heart beats")
        query("SELECT pg_notify('djtasks_event', 'end')")
        assert [notice.payload for notice in conn.notifies(timeout=10, stop_after=1)] == ["end"]
    assert query("SELECT count(*) FROM djtasks_event") == [(0,)]

    assert tell(worker, "disable_events") == {"ok": "task events already disabled"}
    assert tell(worker, "enable_events") == {"ok": "task events enabled"}
    assert tell(worker, "enable_events") == {"ok": "task events already enabled"}
    listener = listen()
    result = tasks.add.delay(1, 1)
    listener.heard("task-received", "task-started", "task-succeeded", uuid=result.id)
    assert listener.heard("worker-online")[0]["type"] == "worker-online"
    # A receiver that wakes workers need not wait for their next heartbeat.
    count = len([event for event in listener.events if event["type"] == "worker-heartbeat"])
    listener.receiver.wakeup_workers()
    wait_until(
        lambda: len([event for event in listener.events if event["type"] == "worker-heartbeat"]) > count, "it beats"
    )

    assert tell(worker, "disable_events") == {"ok": "task events disabled"}
    again = tasks.add.delay(1, 1)
    value(again)
    tasks.add.send_event("task-mark")
    listener.one("task-mark")
    assert not [event for event in listener.events if event.get("uuid") == again.id]
