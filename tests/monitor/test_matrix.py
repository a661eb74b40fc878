"""Every page of the monitor, with every method, for everybody: generated from the URL configuration."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import URLPattern
from django.utils import timezone

from djtasks.models import Command, Limit, Message, PeriodicTask, Queue, Result, Revocation, Worker
from djtasks.monitor import urls
from djtasks.monitor.deeds import DEEDS
from djtasks.monitor.views_workers import ORDERS
from tests.admin.conftest import a_message, a_result, a_worker
from tests.monitor.conftest import to

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
#: What to put in place of names.
NAMES = {"order": list(ORDERS), "deed": list(DEEDS), "schedule": ["run", "enable", "disable"]}
#: Addresses that also answer to a POST.
ACTS = {"order", "pause", "resume", "purge", "deed", "schedule", "letters-requeue", "letters-delete"}
#: The permissions by which a page may be seen.
SEEN_BY = {
    "overview": ["view_worker"],
    "workers": ["view_worker"],
    "worker": ["view_worker"],
    "order": ["view_worker"],
    "queues": ["view_queue"],
    "pause": ["view_queue"],
    "resume": ["view_queue"],
    "purge": ["view_queue"],
    "tasks": ["view_message", "view_result"],
    "task": ["view_message", "view_result"],
    "deed": ["view_message", "view_result"],
    "schedules": ["view_periodictask"],
    "schedule": ["view_periodictask"],
    "limits": ["view_limit"],
    "letters": ["view_result"],
    "letters-requeue": ["view_result"],
    "letters-delete": ["view_result"],
}


@pytest.fixture
def rows(db: None) -> dict[str, Any]:
    """One of each thing that a page can be about."""
    letter = a_result(state="FAILURE", dead="rejected", body=b"[[1, 2], {}]", body_content_type="application/json")
    periodic = PeriodicTask.objects.create(
        name="nightly", task="djtasks.ping", kind="interval", every=60, period="days"
    )
    Limit.objects.create(key="tenant 1", most=3)
    return {"worker": a_worker(), "message": a_message(), "letter": letter, "periodic": periodic}


def addresses(rows: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each name, and each address that it stands for."""
    for pattern in urls.urlpatterns:
        if not (isinstance(pattern, URLPattern) and pattern.callback.__module__.startswith("djtasks.monitor.views_")):
            continue
        name = str(pattern.name)
        for word in NAMES.get(name, [""]):
            values = {"incarnation": rows["worker"].pk, "task_id": rows["letter"].pk, "pk": rows["periodic"].pk}
            args = [word if key == "name" else values[key] for key in pattern.pattern.converters]
            query = "?name=celery" if name in ("pause", "resume", "purge") else ""
            yield name, to(name, *args) + (f"?id={rows['letter'].pk}" if name.startswith("letters-") else query)


def state() -> list[Any]:
    """All that a page could change."""
    models = (Command, Limit, LogEntry, Message, PeriodicTask, Queue, Result, Revocation, Worker)
    return [list(model.objects.order_by("pk").values()) for model in models]


def test_every_address_says_who_may_see_it(rows: dict[str, Any]) -> None:
    assert {name for name, _ in addresses(rows)} == set(SEEN_BY)


def test_whoever_is_not_staff_is_asked_to_log_in(client: Client, django_user_model: Any, rows: dict[str, Any]) -> None:
    before = state()
    someone = Client()
    someone.force_login(django_user_model.objects.create_user("someone"))
    for visitor in (client, someone):
        for _, url in addresses(rows):
            for method in METHODS:
                answer = getattr(visitor, method)(url)
                assert answer.status_code == 302, (method, url)
                assert answer["Location"].startswith("/admin/login/?next=/djtasks/")
            live = visitor.get(url, {"live": "1"})
            assert live.status_code == 302 or live["HX-Refresh"] == "true"
    assert state() == before


def test_staff_without_the_permission_are_told_which(staff: Callable[..., Client], rows: dict[str, Any]) -> None:
    before, client = state(), staff()
    for name, url in addresses(rows):
        for method in ("get", "head", "post"):
            answer = getattr(client, method)(url)
            assert answer.status_code in (403, 405), (method, url)
        page = client.get(url).content.decode()
        assert any(codename in page for codename in SEEN_BY[name])
        assert rows["letter"].name not in page
    assert state() == before


def test_to_see_is_not_to_act(staff: Callable[..., Client], rows: dict[str, Any]) -> None:
    before = state()
    client = staff(*{codename for each in SEEN_BY.values() for codename in each})
    for name, url in addresses(rows):
        assert client.get(url).status_code == (403 if name in ACTS else 200), url
        assert client.post(url).status_code == (403 if name in ACTS else 405), url
        if name not in ACTS:
            page = client.get(url).content.decode()
            assert "/do/" not in page
            assert "/tell/" not in page
            assert "purge" not in page
    assert state() == before


def test_nothing_changes_on_a_get_of_a_superuser(admin_client: Client, rows: dict[str, Any]) -> None:
    before = state()
    for _, url in addresses(rows):
        for method in ("get", "head"):
            answer = getattr(admin_client, method)(url)
            assert answer.status_code == 200, (url, answer.content[:2000])
        assert admin_client.get(url, {"live": "1", "name": "celery"}).status_code in (200, 400), url
    assert state() == before


def test_other_methods_are_refused(admin_client: Client, rows: dict[str, Any]) -> None:
    before = state()
    for name, url in addresses(rows):
        for method in METHODS[2:]:
            if not (method == "post" and name in ACTS):
                answer = getattr(admin_client, method)(url)
                assert answer.status_code == 405, (method, url)
                assert "GET" in answer["Allow"]
    assert state() == before


def test_a_form_of_another_site_does_nothing(admin_client: Client, rows: dict[str, Any]) -> None:
    before, strict = state(), Client(enforce_csrf_checks=True)
    strict.cookies = admin_client.cookies
    for name, url in addresses(rows):
        if name in ACTS:
            assert strict.post(url).status_code == 403, url
    assert state() == before


def test_read_only_means_everybody(admin_client: Client, configure: Callable[..., None], rows: dict[str, Any]) -> None:
    configure(MONITOR_READ_ONLY=True)
    before = state()
    for name, url in addresses(rows):
        assert admin_client.get(url).status_code == (403 if name in ACTS else 200), url
        if name in ACTS:
            assert "MONITOR_READ_ONLY" in admin_client.post(url).content.decode()
        else:
            page = admin_client.get(url).content.decode()
            assert "/do/" not in page
            assert "/tell/" not in page
            assert "read-only" in page
    assert state() == before


def test_every_answer_has_the_policy_and_no_code_in_it(admin_client: Client, rows: dict[str, Any]) -> None:
    for name, url in addresses(rows):
        answer = admin_client.get(url)
        assert answer["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
        page = answer.content.decode()
        for piece in ("<style", " style=", " onclick=", "javascript:", "http://", "https://", " hx-on"):
            assert piece not in page, (name, piece)
        assert page.count("<script") == page.count("<script src=") > 0


def test_a_task_that_vanished_has_a_page_that_says_so(admin_client: Client) -> None:
    gone = "0192aaaa-0000-7000-8000-000000000000"
    for name in ("task", *(("deed", each) for each in DEEDS)):
        url = to("task", gone) if name == "task" else to("deed", gone, name[1])
        assert "No task with this id is here" in admin_client.get(url).content.decode()
        assert admin_client.get(url).status_code == 404
    assert admin_client.post(to("deed", gone, "revoke")).status_code == 404
    assert Revocation.objects.count() == 0
    assert admin_client.get(to("worker", 5)).status_code == 410
    assert admin_client.get(to("worker", 2**70)).status_code == 410
    assert admin_client.post(to("order", 5, "shutdown")).status_code == 410
    assert admin_client.get(to("schedule", 2**70, "run")).status_code == 410
    assert admin_client.post(to("schedule", 77, "run")).status_code == 410


def test_what_is_old_is_told_apart_from_what_is_wrong(admin_client: Client) -> None:
    a_worker(heartbeat=timezone.now() - timedelta(minutes=5), name="late@here")
    page = admin_client.get(to("overview")).content.decode()
    assert "The heart of the worker late@here has not beaten" in page
    assert "No worker is there" in page
