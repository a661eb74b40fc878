"""Periodic tasks in the admin, as a person with a browser meets them."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from djtasks.models import PeriodicTask, Result
from tests.browser.conftest import POLICY, Visitor
from tests.waits import wait_until

LIST = "/admin/djtasks/periodictask/"
ADD = f"{LIST}add/"
NOOP, COUNT = "tests.worker_app.tasks.noop", "testproject.census.tasks.census_file"
MARKUP = "<img src=x onerror=\"window.hit=1;alert('hit')\"><script>window.hit=1</script>{{7*7}}"
Visit = Callable[..., Visitor]


def runs(visitor: Visitor) -> list[str]:
    """The times that the preview shows."""
    return [str(text) for text in visitor.page.locator(".djtasks-runs time").all_inner_texts()]


def shows(visitor: Visitor, words: str) -> None:
    """Wait until the preview says this."""
    visitor.page.locator(".djtasks-words", has_text=words).wait_for()


def choose(visitor: Visitor, action: str) -> None:
    """Tick all rows of the list, and do that to them."""
    visitor.page.check("#action-toggle")
    visitor.page.select_option("select[name=action]", label=action)
    visitor.page.click("button[name=index]")
    visitor.page.locator(".messagelist li").first.wait_for()


def a_row(**fields: Any) -> PeriodicTask:
    """Every day, unless said otherwise."""
    values = {"name": "often", "task": NOOP, "kind": "interval", "every": 1, "period": "days"}
    return PeriodicTask.objects.create(**{**values, **fields})


def test_a_schedule_is_made_watched_while_one_types_run_and_disabled(visit: Visit) -> None:
    visitor = visit(width=1100)
    page = visitor.page
    visitor.go(ADD)
    page.click("#toggle-nav-sidebar")
    page.fill("#id_name", "Nightly census")
    page.fill("#id_task", COUNT)
    page.locator("#id_args_hint", has_text=f"{COUNT}(file_id: int)").wait_for()
    page.select_option("#id_kind", "crontab")
    assert not page.is_visible("#id_every")
    assert not page.is_visible("#id_event")
    shows(visitor, "every minute")
    page.fill("#id_hour", "2")
    page.fill("#id_minute", "30")
    page.fill("#id_timezone", "Europe/Paris")
    shows(visitor, "02:30")
    assert len(runs(visitor)) == 5
    before = runs(visitor)
    page.fill("#id_minute", "45")
    page.locator(".djtasks-runs time", has_text="02:45:00").first.wait_for()
    assert runs(visitor) != before
    page.fill("#id_args", "[42")
    assert "valid JSON" in visitor.text("#id_args_live")
    page.fill("#id_args", "[42]")
    page.locator("#id_args_live").wait_for(state="detached")
    page.locator("#id_kind").evaluate("each => each.closest('fieldset').previousElementSibling.scrollIntoView()")
    visitor.picture("schedule")
    page.click("[name=_save]")
    page.locator(".messagelist .success").wait_for()
    row = PeriodicTask.objects.get()
    assert (row.kind, row.minute, row.hour, row.timezone, row.args) == ("crontab", "45", "2", "Europe/Paris", [42])
    # Beat hears of it and says when it runs; the worker runs it at once when it is told to.
    wait_until(lambda: PeriodicTask.objects.get().next_run_at, "beat has looked")
    choose(visitor, "Run selected periodic tasks now")
    assert "1 periodic task sent." in visitor.text(".messagelist")
    wait_until(lambda: Result.objects.filter(periodic=row.pk, state="SUCCESS").exists(), "it has run")
    visitor.go(LIST)
    assert "Nightly census" in visitor.text("#result_list")
    assert visitor.text("#result_list .field-outcome") == "SUCCESS"
    assert ":45:00" in visitor.text("#result_list .field-next_run")
    visitor.picture("schedules")
    page.click("#result_list .field-outcome a")
    page.wait_for_url("**/djtasks/result/**/change/")
    assert COUNT in visitor.text("#content")
    assert "SUCCESS" in visitor.text("#content")
    assert "Nightly census" in visitor.text("#content")
    visitor.go(LIST)
    choose(visitor, "Disable selected periodic tasks")
    assert page.get_attribute("#result_list .field-is_enabled img", "alt") == "False"
    assert not PeriodicTask.objects.get().enabled


def test_mistakes_are_shown_at_their_fields_while_one_types(visit: Visit) -> None:
    visitor = visit()
    page = visitor.page
    visitor.go(ADD)
    page.fill("#id_every", "0")
    page.locator("#id_every_live", has_text="greater than or equal to 1").wait_for()
    assert page.get_attribute("#id_every", "aria-invalid") == "true"
    page.fill("#id_every", "90")
    page.locator("#id_every_live").wait_for(state="detached")
    shows(visitor, "every 90 minutes")
    page.select_option("#id_kind", "crontab")
    page.fill("#id_day_of_month", "31")
    page.fill("#id_month_of_year", "2")
    page.locator("#id_day_of_month_live").wait_for()
    assert runs(visitor) == []
    page.fill("#id_task", "tests.worker_app.tasks.noopp")
    page.locator("#id_task_hint", has_text="Did you mean").wait_for()
    page.select_option("#id_kind", "clocked")
    page.fill("#id_clocked_0", "2020-01-01")
    page.fill("#id_clocked_1", "00:00")
    page.locator("#id_clocked_live", has_text="passed").wait_for()
    assert not page.is_visible("#id_one_off")
    assert not PeriodicTask.objects.exists()


@pytest.mark.parametrize(
    ("verb", "saves", "runs_now", "deletes"),
    [
        ("view", False, False, False),
        ("change", True, False, False),
        ("run", False, True, False),
        ("delete", False, False, True),
    ],
)
def test_who_may_do_what_sees_it(visit: Visit, verb: str, saves: bool, runs_now: bool, deletes: bool) -> None:
    row = a_row()
    visitor = visit("view_periodictask", f"{verb}_periodictask")
    visitor.go(f"{LIST}{row.pk}/change/")
    page = visitor.page
    assert "every day" in visitor.text(".djtasks-schedule")
    assert page.locator("[name=_save]").count() == saves
    assert page.locator(".djtasks-run").count() == runs_now
    assert page.locator(".deletelink").count() == deletes


def test_hostile_texts_do_nothing(visit: Visit) -> None:
    visitor = visit()
    page = visitor.page
    row = a_row(name=MARKUP, task=MARKUP, description=MARKUP)
    PeriodicTask.objects.filter(pk=row.pk).update(timezone=MARKUP[:60])
    for path in (LIST, f"{LIST}{row.pk}/change/", f"{LIST}{row.pk}/history/", f"{LIST}{row.pk}/delete/"):
        visitor.go(path)
        assert "<img src=x" in page.locator("body").inner_text()
    visitor.go(ADD)
    page.fill("#id_task", MARKUP)
    page.locator("#id_task_hint", has_text="<img src=x").wait_for()
    page.select_option("#id_kind", "crontab")
    page.fill("#id_minute", MARKUP)
    page.fill("#id_timezone", MARKUP)
    page.locator("#id_timezone_live").wait_for()
    page.fill("#id_name", MARKUP + "2")
    page.click("[name=_save]")
    page.locator(".errornote").wait_for()
    assert page.evaluate("window.hit") is None
    assert page.locator("img[src=x]").count() == 0


def test_the_pages_work_under_a_strict_content_security_policy(visit: Visit) -> None:
    visitor = visit()
    page = visitor.page

    def guard(route: Any) -> None:
        response = route.fetch()
        route.fulfill(response=response, headers={**response.headers, "content-security-policy": POLICY})

    page.route("**/admin/djtasks/**", guard)
    row = a_row()
    visitor.go(LIST)
    visitor.go(f"{LIST}{row.pk}/change/")
    page.fill("#id_every", "3")
    shows(visitor, "every 3 days")


def test_the_form_and_the_list_fit_a_telephone_in_light_and_dark(visit: Visit) -> None:
    row = a_row(name="A periodic task with rather a long name", kind="crontab", every=None, period="")
    visitor = visit(width=390)
    page = visitor.page
    visitor.go(f"{LIST}{row.pk}/change/")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    panel = page.locator(".djtasks-schedule")
    for color in ("light", "dark"):
        page.emulate_media(color_scheme=color)
        colours = panel.evaluate("each => [getComputedStyle(each).color, getComputedStyle(each).backgroundColor]")
        text, ground = (sum(int(part) for part in re.findall(r"\d+", colour)[:3]) for colour in colours)
        assert (text > ground + 250) if color == "dark" else (ground > text + 250)
    panel.scroll_into_view_if_needed()
    visitor.picture("schedule-dark-narrow")
    visitor.go(LIST)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_form_works_without_a_script(visit: Visit) -> None:
    visitor = visit(script=False)
    page = visitor.page
    visitor.go(ADD)
    assert page.is_visible("#id_every")
    assert page.is_visible("#id_minute")
    page.fill("#id_name", "plain")
    page.fill("#id_task", NOOP)
    page.fill("#id_every", "5")
    page.click("[name=_save]")
    page.locator(".messagelist .success").wait_for()
    assert PeriodicTask.objects.get().every == 5
