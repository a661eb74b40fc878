"""Dead letters in the admin: they are found, and put back by whoever may, who is asked for a second time."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from djtasks.models import Message, Result
from tests.admin.conftest import a_message, a_result, address, field, listed, words

LIST = "/admin/djtasks/result/"


def a_letter(dead: str | None = "rejected", **fields: Any) -> Result:
    """A dead letter."""
    values = {"state": "FAILURE", "body": b"[[1], {}]", "body_content_type": "application/json", "headers": None}
    return a_result(dead=dead, **{**values, "body_content_encoding": "", **fields})


def ask(client: Client, *rows: Result, **more: str) -> HttpResponse:
    """Choose the action for these rows."""
    data = {"action": "requeue_selected", "_selected_action": [str(row.pk) for row in rows], **more}
    found: HttpResponse = client.post(LIST, data)
    return found


def test_dead_letters_are_shown_as_such(admin_client: Client) -> None:
    letter = a_letter("crashed")
    assert "crashed" in words(admin_client.get(LIST))
    assert field(admin_client.get(address(letter)), "letter") == "crashed"


@pytest.mark.parametrize(("wanted", "found"), [("any", [2, 1]), ("failed", [2]), ("rejected", [1]), ("crashed", [])])
def test_a_filter_finds_dead_letters_and_those_of_a_reason(wanted: str, found: list[int], admin_client: Client) -> None:
    now = timezone.now()
    rows = [a_letter(None), a_letter("rejected"), a_letter("failed", done=now + timedelta(seconds=1)), a_result()]
    assert listed(admin_client.get(LIST, {"dead": wanted})) == [str(rows[number].pk) for number in found]


def test_a_filter_for_dead_letters_goes_with_the_others(admin_client: Client) -> None:
    wanted = a_letter(name="tests.wanted")
    a_letter(name="tests.other")
    assert listed(admin_client.get(LIST, {"dead": "any", "name": "tests.wanted"})) == [str(wanted.pk)]


def test_a_page_of_dead_letters_is_followed_by_the_next(admin_client: Client) -> None:
    now = timezone.now()
    rows = [a_letter(done=now - timedelta(seconds=number)) for number in range(60)]
    first = admin_client.get(LIST, {"dead": "any"})
    assert listed(first) == [str(row.pk) for row in rows[:50]]
    links = first.context["cl"].links
    assert listed(admin_client.get(LIST + links.next)) == [str(row.pk) for row in rows[50:]]


def test_whoever_may_is_asked_before_tasks_run_again(admin_client: Client) -> None:
    letter = a_letter()
    page = ask(admin_client, letter)
    assert "Run these tasks again?" in words(page)
    assert str(letter.pk) in page.content.decode()
    assert Result.objects.filter(pk=letter.pk).exists()
    assert not Message.objects.exists()


def test_a_confirmed_requeue_puts_the_tasks_back_and_is_in_the_history(admin_client: Client) -> None:
    letters = [a_letter(name="tests.one"), a_letter(None, name="tests.two", state="REVOKED")]
    response = ask(admin_client, *letters, confirmed="yes")
    assert response.status_code == 302
    assert sorted(Message.objects.values_list("pk", "redelivered")) == sorted((row.pk, True) for row in letters)
    assert not Result.objects.exists()
    assert LogEntry.objects.count() == 2
    assert "2 of the tasks put back into their queues." in words(admin_client.get(LIST))


def test_what_cannot_run_again_is_said(admin_client: Client) -> None:
    kept, bare = a_letter(), a_letter(body=None)
    page = words(admin_client.get(ask(admin_client, kept, bare, confirmed="yes")["Location"]))
    assert "1 of the tasks put back into their queues." in page
    assert "1 of the tasks cannot run again: their arguments were not kept." in page


def test_a_task_that_has_not_ended_is_not_offered(admin_client: Client) -> None:
    running = a_result(done=None, state="STARTED")
    a_message(id=running.pk)
    assert "None of the selected tasks has ended." in words(ask(admin_client, running))


def test_to_see_results_is_not_to_run_tasks_again(staff: Callable[..., Client]) -> None:
    letter = a_letter()
    client = staff("view_result", "change_result")
    assert "requeue_selected" not in client.get(LIST).content.decode()
    ask(client, letter, confirmed="yes")
    assert Result.objects.filter(pk=letter.pk).exists()
    assert not Message.objects.exists()


def test_the_permission_lets_staff_run_tasks_again(staff: Callable[..., Client]) -> None:
    letter = a_letter()
    client = staff("view_result", "requeue_result")
    assert "requeue_selected" in client.get(LIST).content.decode()
    ask(client, letter, confirmed="yes")
    assert Message.objects.get().pk == letter.pk


def test_a_get_never_runs_anything(admin_client: Client) -> None:
    letter = a_letter()
    admin_client.get(LIST, {"action": "requeue_selected", "_selected_action": str(letter.pk), "confirmed": "yes"})
    assert not Message.objects.exists()


def test_ids_that_are_none_are_a_bad_request(admin_client: Client) -> None:
    response = admin_client.post(
        LIST, {"action": "requeue_selected", "_selected_action": ["x", "' OR 1=1", ""], "confirmed": "yes"}
    )
    assert response.status_code == 400
    assert not Message.objects.exists()


def test_names_are_shown_as_text(admin_client: Client) -> None:
    letter = a_letter(name="<script>alert(1)</script>")
    assert "<script>alert" not in ask(admin_client, letter).content.decode()
