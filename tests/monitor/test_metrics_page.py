"""The monitor's page for Prometheus, its healthcheck, and the dashboard that reads them."""

from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from djtasks import metrics
from tests.admin.conftest import a_message, a_worker

TOKENS = {
    "prometheus": {"token": "prometheus-" + "x" * 20, "permissions": ["view_worker"]},
    "other": {"token": "other-" + "x" * 20, "permissions": ["view_result"]},
}
URL = "/djtasks/metrics"


def bearing(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[name]['token']}"}


def test_the_metrics_are_for_staff_and_tokens_until_they_are_for_all(
    client: Client, staff: Callable[..., Client], configure: Callable[..., None]
) -> None:
    configure(MONITOR_API_TOKENS=TOKENS)
    assert client.get(URL).status_code == 401
    assert "Bearer" in client.get(URL)["WWW-Authenticate"]
    assert staff().get(URL).status_code == 403
    assert staff("view_worker").get(URL).status_code == 200
    assert client.get(URL, headers=bearing("prometheus")).status_code == 200
    refused = client.get(URL, headers=bearing("other"))
    assert (refused.status_code, "djtasks.view_worker" in refused.content.decode()) == (403, True)
    assert client.get(URL, headers={"Authorization": "Bearer forged"}).status_code == 401
    configure(MONITOR_METRICS=True)
    assert client.get(URL).status_code == 200
    for method in ("post", "put", "patch", "delete", "options"):
        answer = getattr(client, method)(URL)
        assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")


def test_the_page_has_our_names_and_flowers(client: Client, configure: Callable[..., None]) -> None:
    configure(MONITOR_METRICS=True)
    a_worker(counters={"SUCCESS": 12, "FAILURE": 2, "refused": 1}, state={"running": 1, "prefetched": 3})
    a_message()
    with CaptureQueriesContext(connection) as seen:
        answer = client.get(URL)
    assert answer["Content-Type"] == metrics.CONTENT_TYPE
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    lines = answer.content.decode().splitlines()
    for line in (
        'djtasks_queue_messages{queue="celery"} 1.0',
        'djtasks_worker_outcomes_total{state="SUCCESS",worker="celery@here"} 12.0',
        'flower_worker_online{worker="celery@here"} 1.0',
        'flower_worker_number_of_currently_executing_tasks{worker="celery@here"} 1.0',
        'flower_worker_prefetched_tasks{task="",worker="celery@here"} 3.0',
        'flower_events_total{task="",type="task-succeeded",worker="celery@here"} 12.0',
        'flower_events_total{task="",type="task-failed",worker="celery@here"} 2.0',
    ):
        assert line in lines
    said = [each["sql"] for each in seen.captured_queries if "SAVEPOINT" not in each["sql"]]
    assert len(said) <= 6, said


def test_without_the_library_the_page_says_what_to_install(
    client: Client, configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(MONITOR_METRICS=True)
    monkeypatch.setattr(metrics, "missing", lambda: 'pip install "djtasks[prometheus]"')
    answer = client.get(URL)
    assert (answer.status_code, "djtasks[prometheus]" in answer.content.decode()) == (503, True)


def test_the_healthcheck_says_ok_and_asks_nobody(client: Client) -> None:
    with CaptureQueriesContext(connection) as seen:
        answer = client.get("/djtasks/healthcheck")
    assert (answer.status_code, answer.content, len(seen)) == (200, b"OK", 0)
    assert client.post("/djtasks/healthcheck").status_code == 405
