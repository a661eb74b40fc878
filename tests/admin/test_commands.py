"""What workers were told can be read after it is over; dead letters have a page; queues say how deep they are."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from djtasks import queues
from djtasks.db import control as table
from djtasks.db import queues as depths
from djtasks.models import Command, Queue, Reply, Revocation
from tests.admin.conftest import a_message, a_result, field, listed, words

COMMANDS = "/admin/djtasks/command/"
LETTERS = "/admin/djtasks/deadletter/"
QUEUES = "/admin/djtasks/queue/"
REVOCATIONS = "/admin/djtasks/revocation/"


@pytest.fixture(autouse=True)
def _nothing(db: None) -> None:
    for model in (Reply, Command, Queue, Revocation):
        model.objects.all().delete()


# -- commands -----------------------------------------------------------------------------------------------------


def test_a_command_and_its_answers_are_read_after_it_is_over(admin_client: Client) -> None:
    number = table.send(connection, "rate_limit", {"task_name": "<b>"}, ["a@here"], seconds=-60, by="anna")
    table.reply(connection, number, "a@here", {"ok": "<i>new rate limit</i>"})
    page = admin_client.get(COMMANDS)
    for text in ("rate_limit", "a@here", "anna", "&lt;b&gt;"):
        assert text in page.content.decode()
    row = admin_client.get(f"{COMMANDS}{number}/change/")
    assert "<i>new rate limit</i>" in field(row, "answers")
    assert "<i>" not in row.content.decode()


def test_commands_are_kept_for_their_time_and_pings_for_a_minute() -> None:
    for name, age in (("shutdown", 3600), ("ping", 3600), ("ping", 1), ("shutdown", 8 * 86400)):
        table.send(connection, name, {}, None, seconds=-age)
    assert table.prune(connection, timedelta(days=7).total_seconds()) == 2
    assert sorted(Command.objects.values_list("name", flat=True)) == ["ping", "shutdown"]
    assert table.inbox(connection, []) == []


def test_commands_are_seen_by_whoever_may_and_changed_by_nobody(
    admin_client: Client, staff: Callable[..., Client]
) -> None:
    number = table.send(connection, "shutdown", {}, None, seconds=60)
    assert staff("view_result").get(COMMANDS).status_code == 403
    assert "shutdown" in words(staff("view_command").get(COMMANDS))
    assert admin_client.post(f"{COMMANDS}{number}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.get(f"{COMMANDS}add/").status_code == 403


# -- dead letters -------------------------------------------------------------------------------------------------


def test_dead_letters_have_a_page_with_their_reasons(admin_client: Client) -> None:
    now = timezone.now()
    rows = [a_result(state="FAILURE", dead=why, done=now) for why in ("rejected", "crashed")]
    a_result(state="FAILURE")
    assert set(listed(admin_client.get(LETTERS))) == {str(row.pk) for row in rows}
    assert listed(admin_client.get(LETTERS, {"dead": "crashed"})) == [str(rows[1].pk)]
    assert field(admin_client.get(f"{LETTERS}{rows[0].pk}/change/"), "letter") == "rejected"
    assert admin_client.get(f"{LETTERS}{rows[0].pk}/history/").status_code == 200
    assert admin_client.get(f"{LETTERS}%00/history/").status_code == 302


def test_dead_letters_are_put_back_from_their_page(admin_client: Client) -> None:
    row = a_result(state="FAILURE", dead="failed", body=b"[[1], {}]", body_content_type="application/json")
    data = {"action": "requeue_selected", "_selected_action": [str(row.pk)], "confirmed": "yes"}
    admin_client.post(LETTERS, data)
    assert listed(admin_client.get("/admin/djtasks/message/")) == [str(row.pk)]


def test_whoever_may_see_results_sees_dead_letters(staff: Callable[..., Client]) -> None:
    assert staff("view_result").get(LETTERS).status_code == 200
    assert staff("view_message").get(LETTERS).status_code == 403


# -- queues -------------------------------------------------------------------------------------------------------


def test_a_queue_says_how_many_stand_in_it_and_how_old_the_oldest_is(admin_client: Client) -> None:
    queues.pause("deep")
    now = timezone.now()
    a_message(queue="deep", created=now - timedelta(hours=9), owner=1, claim=1)
    a_message(queue="deep", created=now - timedelta(hours=2), priority=-5)
    a_message(queue="deep", created=now - timedelta(hours=1), priority=9)
    a_message(queue="deep", lane=None, reason="eta", eta=now)
    found = depths.depths(connection, ["deep", "empty"], 10)
    assert found["deep"].known == 3
    assert 7199 < (found["deep"].oldest or 0) < 7300
    assert found["empty"] == (0, None)
    page = admin_client.get(QUEUES).content.decode()
    assert '<td class="field-depth">3</td>' in page
    assert '<td class="field-oldest">2:00:0' in page


def test_what_stands_in_a_queue_is_counted_up_to_a_bound() -> None:
    for _ in range(5):
        a_message(queue="deep")
    assert depths.depths(connection, ["deep"], 3)["deep"].known == 3


# -- revocations --------------------------------------------------------------------------------------------------


def test_a_revocation_is_taken_back_after_a_question(admin_client: Client) -> None:
    later = timezone.now() + timedelta(hours=1)
    gone, stays = (Revocation.objects.create(stamp="tenant", value=value, expires=later) for value in ('"<b>"', "2"))
    data = {"action": "take_back_selected", "_selected_action": [str(gone.pk)]}
    page = admin_client.post(REVOCATIONS, data)
    assert "Take these revocations back?" in words(page)
    assert "<b>" not in page.content.decode()
    admin_client.post(REVOCATIONS, {**data, "confirmed": "yes"})
    assert list(Revocation.objects.all()) == [stays]


def test_taking_back_needs_the_permission_to_delete(staff: Callable[..., Client]) -> None:
    row = Revocation.objects.create(stamp="a", value="1", expires=timezone.now() + timedelta(hours=1))
    data = {"action": "take_back_selected", "_selected_action": [str(row.pk)], "confirmed": "yes"}
    staff("view_revocation", "change_revocation").post(REVOCATIONS, data)
    assert Revocation.objects.exists()
    staff("view_revocation", "delete_revocation").post(REVOCATIONS, data)
    assert not Revocation.objects.exists()


@pytest.mark.parametrize("text", ["x", "-1", "9" * 30, ""])
def test_a_number_of_a_revocation_that_is_none_is_a_bad_request(admin_client: Client, text: str) -> None:
    data = {"action": "take_back_selected", "_selected_action": [text], "confirmed": "yes"}
    assert admin_client.post(REVOCATIONS, data).status_code == 400
