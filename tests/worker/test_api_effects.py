"""The monitor's API with a real worker behind it: each verb does what it says. And Grafana's dashboard reads both."""

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client, override_settings

from testproject.postgres.shared import CHECKOUT
from tests.worker.running import RunningWorker, Workers, ended, living, query, wait_until
from tests.worker_app import tasks

TOKEN = "token-of-the-operator-" + "x" * 20
PERMISSIONS = [
    "view_worker",
    "change_worker",
    "view_message",
    "view_result",
    "view_payload_message",
    "view_payload_result",
    "add_message",
    "revoke_message",
    "terminate_message",
]
ON = {
    "MONITOR_API": True,
    "MONITOR_API_TIMEOUT": 20,
    "MONITOR_API_TOKENS": {"operator": {"token": TOKEN, "permissions": PERMISSIONS}},
    "WORKER_POOL_RESTARTS": True,
}
ECHO, HOLD = tasks.echo.name, tasks.hold.name


@pytest.fixture(autouse=True)
def _on() -> Iterator[None]:
    with override_settings(DJTASKS=ON):
        yield


@pytest.fixture(scope="module")
def worker(shared: Workers) -> RunningWorker:
    """A worker of two processes."""
    options = ("-c", "2", "-n", "api@here", "--http", "0")
    return shared.start(*options, WORKER_POOL_RESTARTS=True, WORKER_HEARTBEAT_INTERVAL=0.5)


def api(method: str, path: str, body: Any = None, status: int = 200) -> Any:
    """What is answered to the operator."""
    client = Client(headers={"Authorization": f"Bearer {TOKEN}"})
    more = {} if method == "get" else {"data": json.dumps(body or {}), "content_type": "application/json"}
    answer = getattr(client, method)(f"/djtasks/api/{path}", **more)
    assert answer.status_code == status, answer.content
    return answer.json()


def test_a_task_is_called_and_its_result_waited_for(worker: RunningWorker) -> None:
    told = api("post", f"task/apply/{ECHO}", {"args": [{"a": [1, None]}]})
    assert (told["state"], told["result"]) == ("SUCCESS", {"a": [1, None]})
    assert api("get", f"task/result/{told['task-id']}")["result"] == {"a": [1, None]}
    info = api("get", f"task/info/{told['task-id']}")
    assert (info["worker"], info["state"], info["name"]) == ("api@here", "SUCCESS", ECHO)
    failed = api("post", f"task/apply/{tasks.fail.name}", {"args": ["no"]})
    assert failed["state"] == "FAILURE"
    assert "no" in failed["result"]
    assert "Traceback" in failed["traceback"]
    sent = api("post", f"task/send-task/{ECHO}", {"args": [1]})["task-id"]
    assert api("get", f"task/result/{sent}?timeout=15")["state"] == "SUCCESS"


def test_what_runs_is_seen_waited_for_in_vain_and_terminated(worker: RunningWorker, shared: Workers) -> None:
    gate = shared.gate()
    told = api("post", f"task/apply/{HOLD}?timeout=0.2", {"args": [str(gate)]}, 202)
    task_id = told["task-id"]
    result = tasks.hold.AsyncResult(task_id)
    shared.audit.began(result)
    assert task_id in [each["id"] for each in api("get", "workers?workername=api@here")["api@here"]["active"]]
    asked = api("post", "workers/ask?workername=api@here")["api@here"]
    assert asked["active"][0]["id"] == task_id
    assert asked["stats"]["pid"] == worker.pid
    assert ECHO in [each.partition(" ")[0] for each in asked["registered"]]
    assert asked["conf"]["worker_pool_restarts"] is True
    assert api("post", f"task/revoke/{task_id}?terminate=true")["state"] == "signalled"
    assert ended(result) == "REVOKED"
    gate.open()


def test_a_worker_obeys(worker: RunningWorker) -> None:
    assert api("get", "workers?status=1") == {"api@here": True}
    worker.children(2)
    for path, count in (("grow/api@here?n=1", 3), ("shrink/api@here?n=1", 2)):
        assert api("post", f"worker/pool/{path}")["workers"].keys() == {"api@here"}
        worker.children(count)
    api("post", "worker/queue/add-consumer/api@here?queue=more")
    _takes_from({"celery", "more"})
    api("post", "worker/queue/cancel-consumer/api@here?queue=more")
    _takes_from({"celery"})
    assert (
        "new rate limit"
        in api("post", f"task/rate-limit/{ECHO}", {"workername": "api@here", "ratelimit": "5/m"})["message"]
    )
    assert "rate limit disabled" in api("post", f"task/rate-limit/{ECHO}?ratelimit=0")["message"]
    assert "time limits set" in api("post", f"task/timeout/{ECHO}?soft=30&hard=60&workername=api@here")["message"]
    assert "unknown task" in api("post", "task/timeout/no.such?soft=30", status=409)["error"]
    before = worker.children(2)
    api("post", "worker/pool/restart/api@here")
    wait_until(lambda: not living(before), "its children are others")
    assert api("post", f"task/apply/{ECHO}", {"args": [5]})["result"] == 5
    told = api("post", "worker/pool/autoscale/api@here?min=1&max=3", status=409)
    assert "api@here" in told["error"]


def _takes_from(names: set[str]) -> None:
    def look() -> bool:
        shown = api("get", "workers")["api@here"]["active_queues"]
        return {each["name"] for each in shown} == names

    wait_until(look, f"it takes from {names}")


# -- Grafana ------------------------------------------------------------------------------------------------------


def _names(page: str) -> set[str]:
    """The names of the metrics on a page; of a histogram also those of its parts."""
    found = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M):
        found |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "histogram" else {name}
    return found


def test_every_expression_of_the_dashboard_reads_a_metric_that_there_is(worker: RunningWorker) -> None:
    board = json.loads((CHECKOUT / "docs/deploy/grafana.json").read_text())
    assert {"title", "panels", "templating", "schemaVersion", "time"} <= board.keys()
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    page = Client(headers={"Authorization": f"Bearer {TOKEN}"}).get("/djtasks/metrics").content.decode()
    port = re.search(r"Answering at http://127\.0\.0\.1:(\d+)", worker.says("Answering at"))
    assert port
    with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/metrics", timeout=20) as answer:
        own = answer.read().decode()
    there = _names(page) | _names(own)
    used: set[str] = set()
    for panel in board["panels"]:
        assert 0 <= panel["gridPos"]["x"] <= 24 - panel["gridPos"]["w"]
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            named = set(re.findall(r"\b(?:djtasks|flower)_\w+", target["expr"]))
            assert named, target
            assert named <= there, (panel["title"], named - there)
            used |= named
    assert len(used) >= 10


def test_the_worker_is_told_to_shut_down(worker: RunningWorker) -> None:
    assert "told to shut down" in api("post", "worker/shutdown/api@here")["message"]
    assert worker.wait() == 0
    assert query("SELECT count(*) FROM djtasks_worker WHERE name = 'api@here'") == [(0,)]
    assert "no worker" in api("post", "worker/shutdown/api@here", status=404)["error"]
