"""Filters by time and periodic task, and the search in arguments."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from djtasks.db import pages
from djtasks.models import Message, PeriodicTask, Result
from tests.admin.conftest import a_message, a_result, address, below, field, listed, words

RESULTS = "/admin/djtasks/result/"
MESSAGES = "/admin/djtasks/message/"


def ids(*rows: Any) -> list[str]:
    return [str(row.pk) for row in rows]


def a_periodic_task(name: str = "nightly report") -> PeriodicTask:
    """One that runs every hour."""
    return PeriodicTask.objects.create(name=name, task="tests.add", kind="interval", every=1, period="hours")


# -- time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("span", "found"), [("10m", 1), ("1h", 2), ("1d", 3), ("7d", 4)])
def test_results_are_found_by_how_long_ago_they_ended(admin_client: Client, span: str, found: int) -> None:
    now = timezone.now()
    ages = (timedelta(minutes=1), timedelta(minutes=30), timedelta(hours=5), timedelta(days=3), timedelta(days=9))
    rows = [a_result(done=now - age) for age in ages]
    a_result(done=None, state="STARTED")
    assert listed(admin_client.get(RESULTS, {"time": span})) == ids(*rows[:found])


def test_a_stretch_of_time_stands_in_the_address(admin_client: Client) -> None:
    rows = [a_result(done=datetime(2026, 1, day, 12, tzinfo=UTC)) for day in (4, 3, 2, 1)]
    for text, found in (
        ("2026-01-02..2026-01-04", rows[1:3]),
        ("2026-01-03T12:00:00Z..", rows[:2]),
        ("..2026-01-02T12:00:00+00:00", rows[3:]),
        ("..2026-01-02T12:00:00+01:00", rows[3:]),
    ):
        assert listed(admin_client.get(RESULTS, {"time": text})) == ids(*found)


def test_messages_are_found_by_when_they_were_called(admin_client: Client) -> None:
    new, old = a_message(), a_message(created=timezone.now() - timedelta(hours=2))
    assert listed(admin_client.get(MESSAGES, {"time": "1h"})) == ids(new)
    assert listed(admin_client.get(MESSAGES, {"time": "1d"})) == ids(new, old)


@pytest.mark.parametrize("text", ["x", "..", "1h..", "2026-13-01..", "0001-01-01T00:00:00+23:00..", "\0"])
def test_a_time_that_is_none_leads_to_the_whole_list(admin_client: Client, text: str) -> None:
    assert admin_client.get(RESULTS, {"time": text})["Location"] == f"{RESULTS}?e=1"


def test_time_goes_with_the_other_filters_and_with_pages(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    rows = [a_result(state="FAILURE", done=now - timedelta(minutes=number)) for number in range(1, 70)]
    a_result()
    first = admin_client.get(RESULTS, {"time": "1h", "state": "FAILURE"})
    assert listed(first) == ids(*rows[:50])
    assert listed(admin_client.get(RESULTS + first.context["cl"].links.next)) == ids(*rows[50:59])


# -- periodic tasks -----------------------------------------------------------------------------------------------


def test_the_runs_of_a_periodic_task_are_found_and_named(admin_client: Client) -> None:
    periodic, other = a_periodic_task(), a_periodic_task("other")
    run, waits = a_result(periodic=periodic.pk), a_message(periodic=periodic.pk)
    a_result(), a_result(periodic=other.pk), a_message(), a_message(periodic=other.pk)
    for path, row in ((RESULTS, run), (MESSAGES, waits)):
        page = admin_client.get(path, {"periodic": str(periodic.pk)})
        assert listed(page) == ids(row)
        assert '<td class="field-run_of">nightly report</td>' in page.content.decode()
        shown = admin_client.get(address(row))
        assert field(shown, "periodic_link") == "nightly report"
        assert f'href="/admin/djtasks/periodictask/{periodic.pk}/change/"' in shown.content.decode()


def test_a_run_that_has_not_ended_is_found_too_and_pages_go_on(admin_client: Client) -> None:
    periodic, now = a_periodic_task(), timezone.now()
    runs = [a_result(periodic=periodic.pk, done=now - timedelta(seconds=number)) for number in range(60)]
    running = a_result(periodic=periodic.pk, done=None, state="STARTED")
    first = admin_client.get(RESULTS, {"periodic": str(periodic.pk)})
    assert listed(first) == ids(*runs[:50])
    rest = admin_client.get(RESULTS + first.context["cl"].links.next)
    assert listed(rest) == ids(*runs[50:], running)


def test_a_periodic_task_that_is_gone_is_told_by_its_number(admin_client: Client) -> None:
    row = a_result(periodic=123456)
    assert "(123456)" in words(admin_client.get(RESULTS))
    assert field(admin_client.get(address(row)), "periodic_link") == "one that is gone (123456)"


@pytest.mark.parametrize("wanted", [{"state": "FAILURE"}, {"dead": "any"}, {"dead": "failed"}, {"queue": "q"}])
def test_a_periodic_task_goes_with_the_other_filters(admin_client: Client, wanted: dict[str, str]) -> None:
    fit = a_result(periodic=5, state="FAILURE", dead="failed", queue="q")
    a_result(periodic=5), a_result(periodic=6, state="FAILURE", dead="failed", queue="q")
    assert listed(admin_client.get(RESULTS, {"periodic": "5", **wanted})) == ids(fit)


@pytest.mark.parametrize("status", ["waiting", "running", "parked", "eta"])
def test_the_messages_of_a_periodic_task_are_found_by_status(admin_client: Client, status: str) -> None:
    rows = {
        "waiting": a_message(periodic=5),
        "running": a_message(periodic=5, owner=1, claim=1),
        "parked": a_message(periodic=5, lane=None, reason="name"),
        "eta": a_message(periodic=5, lane=None, reason="eta", eta=timezone.now()),
    }
    expected = [rows["parked"], rows["eta"]] if status == "parked" else [rows[status]]
    assert listed(admin_client.get(MESSAGES, {"periodic": "5", "status": status})) == ids(*expected)


@pytest.mark.parametrize("number", ["x", "99999999999999999999"])
def test_a_number_that_is_none_leads_to_the_whole_list(admin_client: Client, number: str) -> None:
    assert admin_client.get(RESULTS, {"periodic": number})["Location"] == f"{RESULTS}?e=1"


# -- arguments ----------------------------------------------------------------------------------------------------


def test_arguments_are_searched_as_they_are_stored(admin_client: Client) -> None:
    wanted = a_message(body=b'[["anna@example.org"], {"ort": "K\\u00f6ln"}]')
    raw = a_message(body='[["Köln"], {}]'.encode())
    a_message()
    assert listed(admin_client.get(MESSAGES, {"q": "args:anna@example.org"})) == ids(wanted)
    assert listed(admin_client.get(MESSAGES, {"q": "args: Köln"})) == ids(wanted, raw)
    kept = a_result(body=b'[["anna"], {}]', state="FAILURE")
    a_result()
    assert listed(admin_client.get(RESULTS, {"q": "args:anna"})) == ids(kept)
    assert listed(admin_client.get(RESULTS, {"q": "args:%"})) == []


def test_a_search_in_arguments_says_how_far_it_came(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "TEXT_WINDOW", 3)
    rows = [a_message(body=b'[["x"], {}]' if number == 4 else b"[[], {}]") for number in range(6)]
    page = admin_client.get(MESSAGES, {"q": "args:x"})
    assert below(page) == "0 messages found among the 3 that were looked at"
    assert listed(admin_client.get(MESSAGES + page.context["cl"].links.next)) == ids(rows[4])


def test_sensitive_arguments_are_not_found(admin_client: Client) -> None:
    a_message(body=b'[["secret"], {}]', headers='{"sensitive": true}')
    assert listed(admin_client.get(MESSAGES, {"q": "args:secret"})) == []


def test_who_may_not_see_arguments_cannot_search_them(staff: Callable[..., Client]) -> None:
    row = a_message(body=b'[["anna"], {}]')
    client = staff("view_message", "view_payload_result")
    assert listed(client.get(MESSAGES, {"q": "args:anna"})) == []
    assert listed(staff("view_message", "view_payload_message").get(MESSAGES, {"q": "args:anna"})) == ids(row)


# -- what only some may see ---------------------------------------------------------------------------------------


def test_payload_needs_a_permission_of_its_own(staff: Callable[..., Client]) -> None:
    rows: list[Message | Result] = [
        a_message(body=b'[["secret one"], {}]', headers='{"headers": {"x": "secret two"}}'),
        a_result(state="FAILURE", result=b'"secret one"', traceback="secret two", body=b'[["secret three"], {}]'),
    ]
    for row in rows:
        kind = row._meta.model_name
        page = staff(f"view_{kind}", f"change_{kind}").get(address(row))
        assert "tests.add" in words(page)
        assert "secret" not in page.content.decode()
        both = staff(f"view_{kind}", f"view_payload_{kind}").get(address(row))
        assert "secret one" in words(both)
        assert "secret two" in words(both)
