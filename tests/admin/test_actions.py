"""What is done to tasks from the lists: by whoever may, who is asked for a second time, also for all of a list."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from djtasks.admin import deeds
from djtasks.models import Message, Result, Revocation
from tests.admin.conftest import a_message, a_result, words

RESULTS = "/admin/djtasks/result/"
MESSAGES = "/admin/djtasks/message/"


def ask(client: Client, path: str, action: str, *rows: Any, **more: str) -> HttpResponse:
    """Choose the action for these rows."""
    data = {"action": action, "_selected_action": [str(row.pk) for row in rows], **more}
    found: HttpResponse = client.post(path, data)
    return found


def confirm(client: Client, page: HttpResponse, path: str) -> HttpResponse:
    """Say yes: send the form of the page."""
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.content.decode())
    data: dict[str, list[str]] = {}
    for name, value in fields:
        data.setdefault(name, []).append(value)
    found: HttpResponse = client.post(path, data)
    return found


def failed(**fields: Any) -> Result:
    """A failure that could run again."""
    values = {"state": "FAILURE", "body": b"[[1], {}]", "body_content_type": "application/json", "headers": None}
    return a_result(**{**values, "body_content_encoding": "", **fields})


# -- revoke, terminate, forget ------------------------------------------------------------------------------------


def test_a_task_that_waits_is_revoked_after_a_question(
    admin_client: Client, django_capture_on_commit_callbacks: Any
) -> None:
    waits, other = a_message(), a_message()
    page = ask(admin_client, MESSAGES, "revoke_selected", waits)
    assert "Revoke these tasks?" in words(page)
    assert Message.objects.count() == 2
    with django_capture_on_commit_callbacks(execute=True):
        done = confirm(admin_client, page, MESSAGES)
    assert done.status_code == 302
    assert list(Message.objects.all()) == [other]
    assert Result.objects.get(pk=waits.pk).state == "REVOKED"
    assert LogEntry.objects.get().change_message == "Revoked."
    assert "Revoked." in words(admin_client.get(f"{RESULTS}{waits.pk}/history/"))


def test_a_task_that_runs_goes_on_unless_it_is_to_be_ended(
    admin_client: Client, django_capture_on_commit_callbacks: Any
) -> None:
    runs = a_message(owner=7, claim=1)
    for action, terminate in (("revoke_selected", False), ("terminate_selected", True)):
        with django_capture_on_commit_callbacks(execute=True):
            ask(admin_client, MESSAGES, action, runs, confirmed="yes")
        said = Revocation.objects.get(task_id=runs.pk)
        assert (said.terminate, said.by) == (terminate, "superuser")
        assert Message.objects.filter(pk=runs.pk).exists()


def test_results_are_forgotten_after_a_question(admin_client: Client) -> None:
    gone, stays, running = a_result(), a_result(), a_result(done=None, state="STARTED")
    page = ask(admin_client, RESULTS, "forget_selected", gone, running)
    assert str(running.pk) not in page.content.decode()
    confirm(admin_client, page, RESULTS)
    assert set(Result.objects.values_list("pk", flat=True)) == {stays.pk, running.pk}
    assert "1 of the tasks are forgotten." in words(admin_client.get(RESULTS))
    assert LogEntry.objects.get().object_id == str(gone.pk)


def test_a_task_that_waits_for_its_time_runs_now_after_a_question(admin_client: Client) -> None:
    later = timezone.now() + timedelta(hours=1)
    waits = a_message(lane=None, reason="eta", eta=later)
    page = ask(admin_client, MESSAGES, "hurry_selected", waits, a_message())
    assert "This task may run at once" in words(page)
    confirm(admin_client, page, MESSAGES)
    row = Message.objects.get(pk=waits.pk)
    assert (row.lane, row.reason, row.eta) == ("celery", None, None)


@pytest.mark.parametrize(
    ("action", "permission", "path"),
    [
        ("revoke_selected", "revoke_message", MESSAGES),
        ("terminate_selected", "terminate_message", MESSAGES),
        ("forget_selected", "forget_result", RESULTS),
        ("requeue_selected", "requeue_result", RESULTS),
    ],
)
def test_each_action_needs_its_own_permission(
    staff: Callable[..., Client], action: str, permission: str, path: str
) -> None:
    every = {"revoke_message", "terminate_message", "forget_result", "requeue_result"}
    row = a_message() if path == MESSAGES else failed()
    looks = ("view_message", "view_result", "change_message", "delete_result")
    client = staff(*looks, *(every - {permission}))
    assert action not in client.get(path).content.decode()
    ask(client, path, action, row, confirmed="yes")
    assert type(row).objects.filter(pk=row.pk).exists()
    assert not Revocation.objects.exists()
    may = staff(*looks, permission)
    assert action in may.get(path).content.decode()
    assert "confirmed" in ask(may, path, action, row).content.decode()


def test_a_form_of_another_site_does_nothing(admin_client: Client) -> None:
    row = a_result()
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = admin_client.cookies
    assert ask(strict, RESULTS, "forget_selected", row, confirmed="yes").status_code == 403
    assert Result.objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'])
def test_the_question_shows_names_as_text(admin_client: Client, text: str) -> None:
    page = ask(admin_client, MESSAGES, "revoke_selected", a_message(name=text, queue="celery"))
    assert text not in page.content.decode()


# -- all that a list finds ----------------------------------------------------------------------------------------


def test_all_that_a_list_finds_are_meant_and_no_others(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deeds, "BATCH", 20)
    rows = [failed() for _ in range(70)]
    a_result()
    path = f"{RESULTS}?state=FAILURE"
    assert "Select all that the list finds" in words(admin_client.get(path))
    page = ask(admin_client, path, "requeue_selected", rows[0], select_across="1")
    assert "All that the list finds are meant, 70 tasks." in words(page)
    confirm(admin_client, page, path)
    assert set(Message.objects.values_list("pk", flat=True)) == {row.pk for row in rows}
    assert Result.objects.get().state == "SUCCESS"


def test_what_has_come_since_the_question_is_not_meant(admin_client: Client) -> None:
    seen = failed()
    path = f"{RESULTS}?state=FAILURE"
    page = ask(admin_client, path, "requeue_selected", seen, select_across="1")
    later = failed(done=timezone.now() + timedelta(seconds=5))
    confirm(admin_client, page, path)
    assert list(Result.objects.all()) == [later]


def test_a_request_takes_no_more_than_it_can_bear_and_says_so(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deeds, "MOST", 30)
    monkeypatch.setattr(deeds, "BATCH", 20)
    rows = [failed() for _ in range(55)]
    page = ask(admin_client, RESULTS, "forget_selected", rows[0], select_across="1")
    assert "the first 30 of them" in words(page)
    answer = confirm(admin_client, page, RESULTS)
    assert Result.objects.count() == 25
    assert "there may be more: do it again" in words(admin_client.get(answer["Location"]))


def test_a_list_that_fits_a_page_offers_no_more_than_that(admin_client: Client) -> None:
    a_result()
    assert "Select all that the list finds" not in words(admin_client.get(RESULTS))


@pytest.mark.parametrize("asked", ["yesterday", "2026-01-01", "\0"])
def test_a_time_of_the_question_that_is_none_is_a_bad_request(admin_client: Client, asked: str) -> None:
    row = failed()
    answer = ask(admin_client, RESULTS, "forget_selected", row, select_across="1", asked=asked, confirmed="yes")
    assert answer.status_code == 400
    assert Result.objects.exists()
