"""The page of the queues: what there is, and who may pause what."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from djtasks import queues
from djtasks.models import Queue
from tests.admin.conftest import a_worker

URL = "/admin/djtasks/queue/"


@pytest.fixture(autouse=True)
def _no_queues(db: None) -> None:
    Queue.objects.all().delete()


def test_it_shows_the_queues_that_settings_workers_and_people_name(admin_client: Client) -> None:
    a_worker(queues=["slow", "celery"])
    queues.pause("night", by="anna", note="until the morning")
    page = admin_client.get(reverse("admin:djtasks_queue_changelist")).content.decode()
    for text in ("celery", "slow", "night", "anna", "until the morning"):
        assert text in page


def test_a_queue_is_paused_and_resumed_by_a_button(admin_client: Client) -> None:
    answer = admin_client.post(URL, {"name": "celery", "do": "pause", "note": "deploy"}, follow=True)
    assert "The queue celery is paused" in answer.content.decode()
    row = Queue.objects.get(name="celery")
    assert (row.paused, row.by, row.note) == (True, "superuser", "deploy")
    assert queues.paused() == {"celery"}
    answer = admin_client.post(URL, {"name": "celery", "do": "resume"}, follow=True)
    assert "The queue celery goes on" in answer.content.decode()
    assert queues.paused() == set()


def test_looking_at_the_page_changes_nothing(admin_client: Client) -> None:
    admin_client.get(URL, {"name": "celery", "do": "pause"})
    assert queues.paused() == set()


def test_a_form_of_another_site_pauses_nothing(admin_client: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = admin_client.cookies
    assert strict.post(URL, {"name": "celery", "do": "pause"}).status_code == 403
    assert queues.paused() == set()


def test_who_may_only_look_may_not_pause(staff: Callable[..., Client]) -> None:
    client = staff("view_queue")
    page = client.get(URL)
    assert page.status_code == 200
    assert 'value="pause"' not in page.content.decode()
    assert client.post(URL, {"name": "celery", "do": "pause"}).status_code == 403
    assert queues.paused() == set()


def test_who_may_not_look_does_not(staff: Callable[..., Client]) -> None:
    assert staff("view_result").get(URL).status_code == 403


def test_who_may_change_queues_pauses_them(staff: Callable[..., Client]) -> None:
    client = staff("view_queue", "change_queue")
    client.post(URL, {"name": "celery", "do": "pause"})
    assert queues.paused() == {"celery"}


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0b"])
def test_what_is_no_name_of_a_queue_is_refused(admin_client: Client, name: str) -> None:
    answer = admin_client.post(URL, {"name": name, "do": "pause"}, follow=True)
    assert answer.status_code == 200
    assert queues.paused() == set()


def test_a_hostile_name_is_shown_as_text(admin_client: Client) -> None:
    queues.pause("<script>alert(1)</script>", note="<b>")
    page = admin_client.get(URL).content.decode()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;" in page
