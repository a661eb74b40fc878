"""The signals of a real worker: who sends what, in which process, with which arguments."""

import signal
from typing import Any

import pytest
from django.db import transaction

from djtasks import AsyncResult
from djtasks.app import app
from djtasks.requeue import requeue
from tests.signals_app import tasks
from tests.worker.running import Audit, RunningWorker, Workers, ended, error, query, value, wait_until
from tests.worker_app import tasks as plain

APPS = "tests.worker_app,tests.signals_app"


def launch(workers: Workers, *options: str, signals: str = "listen", **settings: Any) -> RunningWorker:
    worker = workers.launch("-l", "INFO", *options, apps=APPS, environment={"SIGNALS": signals}, **settings)
    return worker.ready()


@pytest.fixture(scope="module")
def worker(shared: Workers) -> RunningWorker:
    """One child (its celeryd_init receiver says so), and short ways."""
    return launch(shared, "-c", "2", ON_UNKNOWN_TASK="fail", WORKER_HEARTBEAT_INTERVAL=0.2)


def line(audit: Audit, event: str, result: AsyncResult[Any] | None = None) -> dict[str, Any]:
    """Wait for what was written about this event."""
    return wait_until(lambda: audit.lines(event, result), f"{event} of {result} was heard")[0]


def events_of(audit: Audit, result: AsyncResult[Any]) -> list[str]:
    return [each["event"] for each in audit.lines(None, result)]


# -- tasks --------------------------------------------------------------------------------------------------------


def test_a_success_is_told_by_the_worker_and_by_its_child(shared: Workers, worker: RunningWorker) -> None:
    result = tasks.add.apply_async((1,), {"y": 2}, headers={"tenant": 5})
    assert value(result) == 3
    received = line(shared.audit, "task_received", result)
    assert (received["sender"], received["pid"]) == (f"{worker.name}@here", worker.pid)
    assert received["request"] == {
        "id": result.id,
        "task_id": result.id,
        "name": tasks.add.name,
        "task_name": tasks.add.name,
        "args": [1],
        "kwargs": {"y": 2},
        "hostname": f"{worker.name}@here",
        "headers": {"tenant": 5},
        "retries": 0,
    }
    prerun = line(shared.audit, "task_prerun", result)
    assert (prerun["sender"], prerun["keys"]) == (tasks.add.name, ["args", "kwargs", "task", "task_id"])
    assert prerun["pid"] != worker.pid
    postrun = line(shared.audit, "task_postrun", result)
    assert postrun["keys"] == ["args", "kwargs", "retval", "state", "task", "task_id"]
    assert postrun["values"]["state"] == "SUCCESS"
    assert events_of(shared.audit, result) == ["task_received", "task_prerun", "after_return", "task_postrun"]


@pytest.mark.parametrize(("task", "kind"), [(tasks.overrun, "TimeLimitExceeded"), (tasks.die, "WorkerLostError")])
def test_what_the_worker_itself_ends_is_told_by_the_worker(
    shared: Workers, worker: RunningWorker, task: Any, kind: str
) -> None:
    result = task.apply_async((7,), {})
    assert error(result).startswith(kind)
    failure = line(shared.audit, "task_failure", result)
    assert failure["keys"] == ["args", "einfo", "exception", "kwargs", "task_id", "traceback"]
    assert (failure["sender"], failure["pid"]) == (task.name, worker.pid)
    assert failure["exception"].startswith(kind)
    handler = line(shared.audit, "on_failure", result)
    assert (handler["pid"], handler["args"], handler["kwargs"], handler["request"]) == (worker.pid, [7], {}, result.id)
    assert handler["exc"].startswith(kind)
    assert kind in handler["einfo"]
    assert line(shared.audit, "after_return", result)["status"] == "FAILURE"
    told = [each for each in events_of(shared.audit, result) if each not in ("task_received", "task_prerun")]
    assert told == ["on_failure", "after_return", "task_failure"]


def test_a_task_that_expires_while_it_waits_is_told_as_revoked(shared: Workers, worker: RunningWorker) -> None:
    result = tasks.add.apply_async((1,), countdown=100, expires=0.1)
    assert ended(result) == "REVOKED"
    revoked = line(shared.audit, "task_revoked", result)
    assert (revoked["sender"], revoked["pid"]) == (tasks.add.name, worker.pid)
    assert revoked["keys"] == ["expired", "request", "signum", "terminated"]
    assert revoked["values"] == {"expired": True, "signum": None, "terminated": False}
    assert revoked["request"]["args"] == [1]


def test_a_run_that_is_terminated_is_told_as_revoked(shared: Workers, worker: RunningWorker) -> None:
    gate = shared.gate()
    result = plain.hold.apply_async((str(gate),))
    shared.audit.began(result)
    app.control.revoke(result.id, terminate=True)
    assert ended(result) == "REVOKED"
    revoked = line(shared.audit, "task_revoked", result)
    assert (revoked["sender"], revoked["pid"]) == (plain.hold.name, worker.pid)
    assert revoked["values"] == {"expired": False, "signum": signal.SIGTERM, "terminated": True}
    assert revoked["request"]["args"] == [str(gate)]


def test_a_message_that_cannot_be_read_is_rejected(shared: Workers, worker: RunningWorker) -> None:
    with transaction.atomic():
        result = tasks.add.apply_async((1,), enqueue="in_transaction")
        query("UPDATE djtasks_message SET body = 'no json' WHERE id = %s", result.id)
    assert error(result).startswith("DecodeError")
    rejected = line(shared.audit, "task_rejected", result)
    assert (rejected["sender"], rejected["pid"]) == (f"{worker.name}@here", worker.pid)
    assert rejected["keys"] == ["exc", "message"]
    assert rejected["exception"].startswith("DecodeError")


def test_a_message_of_a_task_that_is_not_known_is_told(shared: Workers, worker: RunningWorker) -> None:
    with transaction.atomic():
        result = tasks.add.apply_async((1,), enqueue="in_transaction")
        query("UPDATE djtasks_message SET name = 'shop.nowhere' WHERE id = %s", result.id)
    assert error(result).startswith("NotRegistered")
    unknown = line(shared.audit, "task_unknown", result)
    assert unknown["keys"] == ["exc", "id", "message", "name"]
    assert unknown["values"]["name"] == "shop.nowhere"
    assert unknown["exception"] == "NotRegistered('shop.nowhere')"


def test_a_retry_is_told_with_its_reason(shared: Workers, worker: RunningWorker) -> None:
    result = tasks.retried.apply_async(headers={"traceparent": "00-ab-cd-01"})
    assert value(result) == "{'traceparent': '00-ab-cd-01'}"
    wait_until(lambda: shared.audit.lines("task_retry"), "the retry was heard")
    retry = shared.audit.lines("task_retry")[0]
    assert retry["keys"] == ["einfo", "reason", "request"]
    assert retry["request"]["id"] == result.id


def test_headers_travel_through_a_requeue(shared: Workers, worker: RunningWorker) -> None:
    result = tasks.break_down.apply_async((1,), headers={"traceparent": "00-ab-cd-01"})
    ended(result)
    assert requeue([result.id]) == {result.id: "requeued"}
    received = wait_until(
        lambda: len(found := shared.audit.lines("task_received", result)) == 2 and found, "it was received again"
    )
    assert [each["request"]["headers"] for each in received or ()] == [{"traceparent": "00-ab-cd-01"}] * 2
