"""The page of one task: what is known, what came of what, and a picture of it."""

import re
from datetime import timedelta
from uuid import UUID, uuid4

from django.db import connection
from django.test import Client
from django.utils import timezone

from djtasks.db import workflows
from djtasks.ids import new_task_id
from djtasks.models import Chord, Event, Message, PeriodicTask, Result
from djtasks.monitor import pictures
from tests.admin.conftest import a_message, a_result, a_worker, new_result
from tests.monitor.conftest import to, words


def test_it_says_what_is_known(admin_client: Client) -> None:
    worker, now = a_worker(), timezone.now()
    periodic = PeriodicTask.objects.create(name="nightly", task="x", kind="interval", every=1, period="days")
    result = a_result(
        name="shop.pay",
        state="FAILURE",
        owner=worker.pk,
        worker=worker.name,
        created=now - timedelta(seconds=10),
        started=now - timedelta(seconds=7),
        done=now,
        retries=2,
        periodic=periodic.pk,
        dead="rejected",
        traceback="Traceback: here",
        result=b'{"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"}',
        headers='{"task_id": "my own"}',
        body=b"[[1],{}]",
        body_content_type="application/json",
    )
    page = words(admin_client.get(to("task", result.pk)))
    for text in (
        "shop.pay",
        "FAILURE",
        "my own",
        "celery@here",
        "nightly",
        "rejected",
        "ran for 7.00 s",
        "waited 3.00 s",
    ):
        assert text in page
    for text in ("builtins.ValueError", "Traceback: here", "[1]", "began, for the last time (celery@here) +3.00 s"):
        assert text in page


def test_a_message_says_why_it_waits(admin_client: Client) -> None:
    message = a_message(lane=None, reason="limit", limit_key="tenant 7", unique_key="one")
    page = words(admin_client.get(to("task", message.pk)))
    for text in ("waits for its limit", "tenant 7", "one"):
        assert text in page


def test_events_stand_on_its_time_line(admin_client: Client) -> None:
    message, now = a_message(retries=1), timezone.now()
    for number, kind in enumerate(("task-received", "task-started", "task-retried", "task-<odd>")):
        at = now + timedelta(seconds=number)
        Event.objects.create(type=kind, uuid=message.pk, worker="celery@here", body={}, at=at)
    Event.objects.create(type="task-failed", uuid=uuid4(), worker="elsewhere", body={})
    page = words(admin_client.get(to("task", message.pk)))
    for text in (
        "taken by a worker (celery@here)",
        "began (celery@here) +1.00 s",
        "is to be tried again",
        "task-<odd>",
    ):
        assert text in page
    assert "elsewhere" not in page


def test_a_workflow_is_drawn_with_links_to_its_tasks(admin_client: Client) -> None:
    root = UUID(new_task_id())
    group = uuid4()
    a_result(id=root, name="shop.first")
    child = a_message(name="shop.second", root_id=root, parent_id=root, group_id=group)
    a_message(name="shop.third", root_id=root, parent_id=root, group_id=group, owner=1)
    Chord.objects.create(id=group, size=2, ended=0, root_id=root, body='{"task": "shop.body"}')
    page = admin_client.get(to("task", child.pk)).content.decode()
    picture = re.search(r"<svg.*?</svg>", page, re.S)
    assert picture
    assert picture[0].count("<rect") == 4
    assert picture[0].count('class="edge"') == 4
    assert f'<a href="{to("task", root)}">' in picture[0]
    assert 'class="box wait own"' in picture[0]
    for text in ("shop.first", "shop.third", "running", "0 of 2 ended", "shop.body"):
        assert text in picture[0]
    assert "chord: 0 of 2 have ended; then shop.body" in words(admin_client.get(to("task", root)))


def test_a_large_workflow_is_drawn_in_part_and_its_own_task_is_there(admin_client: Client) -> None:
    root = uuid4()
    rows = [new_result(root_id=root, name=f"shop.t{number}") for number in range(pictures.DRAWN + 30)]
    Result.objects.bulk_create(rows)
    own = max(rows, key=lambda row: str(row.id))
    page = admin_client.get(to("task", own.id)).content.decode()
    assert page.count("<rect") == pictures.DRAWN
    assert page.count('own"') == 1
    assert "30 more tasks are not drawn" in page


def test_of_a_workflow_no_more_than_a_window_is_read() -> None:
    root = UUID(new_task_id())
    Result.objects.bulk_create([new_result(root_id=root, name="a") for _ in range(30)])
    own = a_message(root_id=root, name="own")
    a_result(id=own.pk, root_id=root, name="own", state="RETRY", done=None)
    first = a_result(id=root, root_id=root, name="first")
    child = a_message(root_id=root, parent_id=own.pk, name="child")
    found = workflows.near(connection, str(own.pk), 10)
    assert len(found) == 10
    by_id = {each.id: each for each in found}
    assert by_id[str(own.pk)][:3] == (str(own.pk), "own", "RETRY")
    assert by_id[str(own.pk)].waiting
    assert by_id[str(first.pk)].state == "SUCCESS"
    assert by_id[str(child.pk)].state == "PENDING"


def test_a_circle_of_forged_rows_is_drawn_all_the_same(admin_client: Client) -> None:
    one, other, root = uuid4(), uuid4(), uuid4()
    a_result(id=one, parent_id=other, root_id=root)
    a_result(id=other, parent_id=one, root_id=root)
    assert "<svg" in admin_client.get(to("task", one)).content.decode()


def test_what_is_odd_in_a_row_is_shown_as_text(admin_client: Client) -> None:
    hostile = "<script>alert(1)</script>\N{RIGHT-TO-LEFT OVERRIDE}"
    message = a_message(name=hostile, queue=hostile, lane=hostile, headers="{", body=b"\xff\x00", unique_key=hostile)
    result = a_result(name=hostile, worker=hostile, state=hostile, done=None, headers="[" * 5000, result=b"\xff")
    for row in (message, result):
        page = admin_client.get(to("task", row.pk)).content.decode()
        assert "<script>alert" not in page
        assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in page
    assert Message.objects.count() == 1
