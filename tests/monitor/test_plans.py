"""What a page costs: few statements, each of which reads the long tables by their indexes, and little of them."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from djtasks.models import Message, PeriodicTask, Result
from djtasks.monitor import live, views_overview
from tests.admin.conftest import a_worker
from tests.monitor.conftest import ids, to, words

LONG = ("djtasks_message", "djtasks_result")
#: Statements of a page for a superuser: two of them are Django's, for the session and the user.
MOST = 5
#: Pages that a statement may read: a search looks at 20,000 rows of each table, and finds some by their keys.
READ = 90_000
ROWS = 30_000
#: The workflow of some of them.
ROOT = "01a00000-0000-7000-8000-000000000005"


@pytest.fixture
def full(db: None) -> None:
    """Many rows of every kind; and the server knows it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO djtasks_message (id, name, queue, body, lane, reason, eta, owner, claim, root_id, headers)"
            " SELECT ('01a00000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,"
            " 'shop.t' || n %% 7, CASE n %% 3 WHEN 0 THEN 'slow' ELSE 'celery' END, '[[1],{}]',"
            " CASE WHEN n %% 4 = 0 THEN NULL WHEN n %% 3 = 0 THEN 'slow' ELSE 'celery' END,"
            " CASE WHEN n %% 4 = 0 THEN (ARRAY['eta', 'name', 'limit', 'rate'])[1 + n %% 4] END,"
            " now() + n * interval '1 second', CASE WHEN n < 20 THEN 4242 END, n,"
            " CASE WHEN n %% 100 = 0 THEN %s::uuid END, NULL FROM generate_series(1, %s) AS n",
            [ROOT, ROWS],
        )
        cursor.execute(
            "INSERT INTO djtasks_result (id, name, queue, state, done, started, worker, dead, result, root_id, body)"
            " SELECT ('01a10000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,"
            " 'shop.t' || n %% 7, 'celery', CASE WHEN n %% 50 = 0 THEN 'FAILURE' ELSE 'SUCCESS' END,"
            " CASE WHEN n %% 200 = 7 THEN NULL ELSE now() - n * interval '1 second' END, now(), 'celery@here',"
            " CASE WHEN n %% 500 = 0 THEN 'rejected' END, '1',"
            " CASE WHEN n %% 100 = 0 THEN %s::uuid END, '[[1],{}]' FROM generate_series(1, %s) AS n",
            [ROOT, ROWS],
        )
        cursor.execute("ANALYZE djtasks_message, djtasks_result")
    a_worker(queues=["celery", "slow"])
    PeriodicTask.objects.create(name="nightly", task="djtasks.ping", kind="interval", every=60, period="days")


def pages() -> Iterator[str]:
    """Every page that shows long tables, in every way that is another statement."""
    message = Message.objects.filter(root_id__isnull=False).values_list("pk", flat=True)[0]
    letter = Result.objects.filter(dead__isnull=False).values_list("pk", flat=True)[0]
    yield from (to(name) for name in ("overview", "workers", "queues", "tasks", "schedules", "limits", "letters"))
    yield to("worker", 4242)
    yield to("task", message)
    yield to("task", letter)
    yield to("letters") + "?reason=crashed"
    yield f"{to('letters-requeue')}?id={letter}"
    yield to("purge") + "?name=celery"
    searches = (
        *("state:running", "state:PENDING", "state:limit", "state:SUCCESS", "state:nothing", "name:t3", "name:nothing"),
        *(
            "nothing",
            "worker:here",
            "queue:slow",
            "dead:any",
            "args:nothing",
            "kwargs:a=5",
            "result:nothing",
            "since:1h",
        ),
        *(
            f"root_id:{message}",
            f"root_id:{ROOT}",
            f"parent_id:{message}",
            f"uuid:{letter}",
        ),
    )
    for search in searches:
        yield f"{to('tasks')}?q={search}"
        yield f"{to('tasks')}?q={search}&sort=called&after=01a00000-0000-7000-8000-000000000100"
    for search in ("", "state:FAILURE", "state:SUCCESS", "dead:any", "name:nothing", "args:nothing"):
        yield f"{to('tasks')}?q={search}&sort=-ended"
        yield f"{to('tasks')}?q={search}&sort=ended"
    yield f"{to('tasks')}?sort=-ended&after=2026-01-01T00:00:00%2B00:00~{letter}"
    yield f"{to('tasks')}?col=args&col=result"


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def plan_of(statement: str) -> dict[str, Any]:
    """The plan, where the server reads no table as a whole unless it must: of so few rows it might think it cheaper."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement.replace("%", "%%"), {})
        found = cursor.fetchone()[0]
    plan: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return plan


def test_no_page_needs_many_statements_or_reads_a_long_table_without_an_index(admin_client: Client, full: None) -> None:
    told: dict[str, str] = {}
    for url in pages():
        views_overview._history.clear()
        with CaptureQueriesContext(connection) as seen:
            words(admin_client.get(url))
        said = [each["sql"] for each in seen.captured_queries]
        said = [each for each in said if not each.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK"))]
        assert len(said) <= MOST, (url, said)
        told |= {each.partition("; ")[2] if each.startswith("SET LOCAL") else each: url for each in said}
    long = {statement: url for statement, url in told.items() if any(table in statement for table in LONG)}
    assert len(long) > 40
    for statement, url in long.items():
        plan = plan_of(statement)
        for node in nodes(plan):
            if node.get("Relation Name") in LONG:
                assert "Index" in node["Node Type"], (url, statement, json.dumps(plan)[:3000])
        blocks = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        assert blocks < READ, (url, blocks, statement)


def test_staff_need_two_statements_more_for_what_they_may(staff: Callable[..., Client]) -> None:
    client = staff("view_worker", "view_queue", "view_message", "view_result", "view_limit", "view_periodictask")
    for name in ("overview", "workers", "queues", "tasks", "schedules", "limits", "letters"):
        with CaptureQueriesContext(connection) as seen:
            words(client.get(to(name)))
        assert len(seen) <= MOST + 2, name


def test_fifty_browsers_ask_the_database_once(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.parts, "seconds", 60.0)
    a_worker()
    url = to("overview") + "?live=1"
    first = admin_client.get(url)
    assert first.status_code == 200
    assert "celery" in words(first)
    with CaptureQueriesContext(connection) as seen:
        for _ in range(50):
            assert admin_client.get(url).content == first.content
    # The session and the user of each.
    assert not [each for each in seen.captured_queries if "djtasks_" in each["sql"]]
    again = admin_client.get(url, headers={"If-None-Match": first["ETag"]})
    assert again.status_code == 304
    assert again.content == b""
    assert again["ETag"] == first["ETag"]


def test_a_part_is_kept_for_those_who_may_see_the_same(
    admin_client: Client, staff: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live.parts, "seconds", 60.0)
    a_worker(name="celery@secret")
    url = to("overview") + "?live=1"
    assert "Places" not in words(admin_client.get(to("workers") + "?live=1", headers={"Accept-Language": "de"}))[:5]
    admin_client.get(url)
    page = words(staff("view_result").get(url))
    assert "Busy places" not in page
    assert "In queues" not in page
    assert "Dead letters" in page


def test_a_live_part_has_no_form_and_no_frame(admin_client: Client, full: None) -> None:
    for url in (to("overview"), to("workers"), to("queues"), to("tasks"), to("schedules"), to("limits")):
        part = admin_client.get(url + "?live=1").content.decode()
        assert "<html" not in part
        assert "<form" not in part
        assert "csrf" not in part
    assert len(ids(admin_client.get(to("tasks")))) == 50
