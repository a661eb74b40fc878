"""What is done on a page is done: each action's effect in the database, and who may have it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.utils import timezone

from djtasks import shared_task
from djtasks.db.connections import open_private
from djtasks.models import Command, Message, PeriodicTask, Queue, Result, Revocation
from djtasks.monitor import views_workers
from djtasks.monitor.deeds import DEEDS
from djtasks.registry import tasks
from tests.admin.conftest import a_message, a_result, a_worker
from tests.monitor.conftest import to, words
from tests.storage.rows import empty

# What is revoked and told is so in transactions of its own.
pytestmark = pytest.mark.django_db(transaction=True, available_apps=None)
KEPT = {"body": b"[[1, 2], {}]", "body_content_type": "application/json", "body_content_encoding": ""}


@pytest.fixture(autouse=True)
def _tables_of_their_own(db: None) -> Iterator[None]:
    with open_private("test") as conn:
        empty(conn)
        yield
        empty(conn)


@pytest.fixture
def periodic() -> Iterator[PeriodicTask]:
    """A periodic task, of a task that there is."""

    @shared_task(name="tests.monitored")
    def monitored() -> None: ...

    yield PeriodicTask.objects.create(name="nightly", task=monitored.name, kind="interval", every=60, period="days")
    tasks.pop("tests.monitored", None)


def act(client: Client, url: str, **form: Any) -> str:
    """Answer the question with yes; what the page says then."""
    asked = client.get(url)
    assert asked.status_code == 200, words(asked, asked.status_code)
    assert '<form method="post"' in asked.content.decode()
    return words(client.post(url, form, follow=True))


def kept() -> list[str]:
    return list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))


# -- one task -----------------------------------------------------------------------------------------------------


def test_a_task_that_waits_is_revoked(admin_client: Client) -> None:
    message = a_message()
    assert "It waited, and will not run." in act(admin_client, to("deed", message.pk, "revoke"))
    assert not Message.objects.exists()
    assert Result.objects.get(pk=message.pk).state == "REVOKED"
    assert kept() == ["Revoked."]


def test_a_task_that_runs_is_terminated(admin_client: Client) -> None:
    worker = a_worker()
    message = a_message(owner=worker.pk, claim=1)
    assert "It runs, and is being ended." in act(admin_client, to("deed", message.pk, "terminate"))
    row = Revocation.objects.get()
    assert (row.task_id, row.terminate, row.by) == (message.pk, True, "superuser")


def test_a_task_that_has_failed_runs_again(admin_client: Client) -> None:
    for name in ("retry", "requeue"):
        result = a_result(state="FAILURE", **KEPT)
        assert "It was put back into its queue." in act(admin_client, to("deed", result.pk, name))
        assert not Result.objects.exists()
        message = Message.objects.get()
        assert message.pk == result.pk
        message.delete()


def test_a_task_that_waits_for_its_time_is_tried_at_once(admin_client: Client) -> None:
    message = a_message(lane=None, reason="eta", eta=timezone.now() + timedelta(hours=1))
    assert "may run now" in act(admin_client, to("deed", message.pk, "retry"))
    message.refresh_from_db()
    assert (message.lane, message.eta) == ("celery", None)


def test_a_result_is_forgotten(admin_client: Client) -> None:
    result = a_result()
    assert "Its result was deleted." in act(admin_client, to("deed", result.pk, "forget"))
    assert not Result.objects.exists()


def test_a_form_that_comes_too_late_says_what_is(admin_client: Client) -> None:
    message = a_message()
    url = to("deed", message.pk, "revoke")
    assert admin_client.get(url).status_code == 200
    Message.objects.all().delete()
    a_result(id=message.pk)
    assert "It had ended before." in words(admin_client.post(url, follow=True))
    assert Result.objects.get().state == "SUCCESS"
    Result.objects.all().delete()
    assert "No task with this id is here" in words(admin_client.post(url, follow=True), 404)
    result = a_result(state="FAILURE", body=None)
    assert "were not kept" in words(admin_client.post(to("deed", result.pk, "requeue"), follow=True))
    assert Result.objects.get() == result


def test_each_deed_needs_its_own_permission(staff: Callable[..., Client]) -> None:
    for name, deed in DEEDS.items():
        result = a_result(state="FAILURE", **KEPT)
        others = {each.permission for each in DEEDS.values()} - {deed.permission}
        client = staff("view_result", "view_message", *sorted(others), name)
        url = to("deed", result.pk, name)
        assert deed.permission in words(client.post(url), 403)
        assert url not in client.get(to("task", result.pk)).content.decode()
        assert Result.objects.get() == result
        assert not Message.objects.exists()
        assert not Revocation.objects.exists()
        assert staff("view_result", "view_message", deed.permission, f"only {name}").post(url).status_code == 302
        for model in (Result, Message, Revocation):
            model.objects.all().delete()


# -- queues -------------------------------------------------------------------------------------------------------


def test_a_queue_is_paused_and_resumed(admin_client: Client) -> None:
    assert "is paused" in act(admin_client, to("pause") + "?name=a/b%20c", note="deploy")
    row = Queue.objects.get(name="a/b c")
    assert (row.paused, row.by, row.note) == (True, "superuser", "deploy")
    page = words(admin_client.get(to("queues")))
    assert "deploy" in page
    assert "was paused before" in act(admin_client, to("pause") + "?name=a/b%20c")
    assert "goes on" in act(admin_client, to("resume") + "?name=a/b%20c")
    assert "was not paused" in act(admin_client, to("resume") + "?name=a/b%20c")
    assert not Queue.objects.get(name="a/b c").paused
    assert kept() == ["Paused.", "Resumed."]


def test_a_queue_is_purged_and_no_other(admin_client: Client) -> None:
    a_message(queue="slow")
    a_message(queue="slow", lane=None, reason="eta", eta=timezone.now() + timedelta(hours=1))
    other = a_message()
    page = act(admin_client, to("purge") + "?name=slow")
    assert "2 tasks were thrown away." in page
    assert Message.objects.get() == other
    assert kept() == ["Purged of 2 tasks."]


def test_what_names_no_queue_is_told(admin_client: Client) -> None:
    for page in ("pause", "resume", "purge"):
        for name in ("", "x" * 300, "%00"):
            assert "A queue" in words(admin_client.post(f"{to(page)}?name={name}"), 404)
    assert not Queue.objects.exists()


# -- workers ------------------------------------------------------------------------------------------------------

TOLD: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "grow": ({"n": "3"}, "pool_grow", {"n": 3}),
    "shrink": ({"n": "2"}, "pool_shrink", {"n": 2}),
    "autoscale": ({"min": "1", "max": "8"}, "autoscale", {"min": 1, "max": 8}),
    "restart-pool": ({}, "pool_restart", {"modules": None, "reload": False}),
    "add-consumer": ({"queue": "slow"}, "add_consumer", {"queue": "slow"}),
    "cancel-consumer": ({"queue": "slow"}, "cancel_consumer", {"queue": "slow"}),
    "rate-limit": (
        {"task_name": "shop.pay", "rate_limit": "10/m"},
        "rate_limit",
        {"task_name": "shop.pay", "rate_limit": "10/m"},
    ),
    "time-limit": (
        {"task_name": "shop.pay", "soft": "5", "hard": "10"},
        "time_limit",
        {"task_name": "shop.pay", "soft": 5.0, "hard": 10.0},
    ),
    "settings": ({}, "conf", {"with_defaults": False}),
    "registered": ({}, "registered", {}),
    "stats": ({}, "stats", {}),
    "shutdown": ({}, "shutdown", {}),
}


def test_there_is_an_example_of_each_order() -> None:
    assert set(TOLD) == set(views_workers.ORDERS)


def test_a_worker_is_told(admin_client: Client, staff: Callable[..., Client]) -> None:
    worker, onlooker = a_worker(), staff("view_worker")
    for name, (form, command, arguments) in TOLD.items():
        url = to("order", worker.pk, name)
        assert "djtasks.change_worker" in words(onlooker.post(url, form), 403)
        assert not Command.objects.exists()
        page = act(admin_client, url, **form)
        assert ("was told to stop" if name == "shutdown" else "has not answered") in page
        row = Command.objects.get()
        assert (row.name, row.arguments, row.destination, row.by) == (command, arguments, [worker.name], "superuser")
        row.delete()


def test_what_a_worker_answers_is_shown(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = a_worker()
    answers = {"grow": {"ok": "pool will grow"}, "shrink": {"error": "the pool <b>cannot</b>"}, "stats": {"<i>": [1]}}
    for name, answer in answers.items():
        told = [{worker.name: answer}]
        order = views_workers.ORDERS[name]._replace(send=lambda told=told, **options: told)
        monkeypatch.setitem(views_workers.ORDERS, name, order)
    for name, says in (("grow", "pool will grow"), ("shrink", "the pool <b>cannot</b>"), ("stats", "{'<i>': [1]}")):
        page = admin_client.post(to("order", worker.pk, name), TOLD[name][0], follow=True)
        assert says in words(page)
        assert "<b>" not in page.content.decode()
        assert "<i>" not in page.content.decode()


NO_SENSE: list[tuple[str, dict[str, str]]] = [
    ("grow", {}),
    ("grow", {"n": "0"}),
    ("grow", {"n": "99999999999999999999"}),
    ("grow", {"n": "x\0"}),
    ("autoscale", {"min": "5", "max": "2"}),
    ("add-consumer", {"queue": ""}),
    ("add-consumer", {"queue": "x" * 1000}),
    ("rate-limit", {"task_name": "t", "rate_limit": "often"}),
    ("rate-limit", {"task_name": "\0", "rate_limit": ""}),
    ("time-limit", {"task_name": "t", "soft": "-1"}),
    ("time-limit", {"task_name": "t", "soft": "nan"}),
    ("time-limit", {"task_name": "t", "soft": "9", "hard": "3"}),
]


def test_a_form_that_makes_no_sense_says_so(admin_client: Client) -> None:
    worker = a_worker()
    for name, form in NO_SENSE:
        page = admin_client.post(to("order", worker.pk, name), form)
        assert page.status_code == 400, (name, form)
        assert "errorlist" in page.content.decode()
    assert not Command.objects.exists()


# -- schedules ----------------------------------------------------------------------------------------------------


def test_a_periodic_task_is_run_now(admin_client: Client, periodic: PeriodicTask) -> None:
    assert "nightly was sent" in act(admin_client, to("schedule", periodic.pk, "run"))
    message = Message.objects.get()
    assert (message.name, message.periodic) == (periodic.task, periodic.pk)


def test_one_that_cannot_be_sent_says_why(admin_client: Client, periodic: PeriodicTask) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE djtasks_periodic_task SET args = '{}'")
    assert "nightly could not be sent" in act(admin_client, to("schedule", periodic.pk, "run"))
    assert not Message.objects.exists()


def test_a_periodic_task_is_disabled_and_enabled(admin_client: Client, periodic: PeriodicTask) -> None:
    for name, enabled in (("disable", False), ("enable", True)):
        assert f"nightly is {name}d" in act(admin_client, to("schedule", periodic.pk, name))
        periodic.refresh_from_db()
        assert periodic.enabled is enabled
        assert "It was so before" in act(admin_client, to("schedule", periodic.pk, name))
    assert kept() == ["Disabled.", "Enabled."]


# -- dead letters -------------------------------------------------------------------------------------------------


def test_chosen_dead_letters_are_requeued_or_deleted(admin_client: Client) -> None:
    first, second = (a_result(state="FAILURE", dead="rejected", **KEPT) for _ in range(2))
    living = a_result(state="FAILURE", **KEPT)
    url = f"{to('letters-requeue')}?id={first.pk}&id={living.pk}"
    page = admin_client.get(url).content.decode()
    assert page.count('name="id"') == 1
    assert str(first.pk) in page
    assert "1 × It was put back" in words(admin_client.post(url, {"id": [first.pk, living.pk]}, follow=True))
    assert set(Result.objects.values_list("pk", flat=True)) == {second.pk, living.pk}
    assert Message.objects.get().pk == first.pk
    assert "1 × Its result was deleted" in words(
        admin_client.post(to("letters-delete"), {"id": second.pk}, follow=True)
    )
    assert Result.objects.get() == living
    assert "None of these is a dead letter any more" in words(
        admin_client.post(to("letters-delete"), {"id": second.pk}, follow=True)
    )


def test_what_chooses_no_dead_letter_is_told(admin_client: Client) -> None:
    for chosen in ([], ["x"], ["0192aaaa-0000-7000-8000-000000000000"] * 201):
        for name in ("letters-requeue", "letters-delete"):
            assert admin_client.post(to(name), {"id": chosen}).status_code == 400
            assert admin_client.get(to(name), {"id": chosen}).status_code == 400
