"""The live monitor, as a person with a browser meets it, with a real worker behind it."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse

from djtasks.models import Message, PeriodicTask, Queue, Result, Sample, Worker
from testproject.census.processes import Process
from testproject.census.tasks import take_census
from tests.browser.conftest import PICTURES, Site, Visitor
from tests.browser.looks import PHONE, WATCH, faults, wrong_with
from tests.browser.scenes import MARKUP, furnish
from tests.waits import wait_until
from tests.worker.running import query
from tests.worker_app.ends import refused
from tests.worker_app.tasks import echo, fail, hold, noop, pid

SETTINGS = {
    "WORKER_HEARTBEAT_INTERVAL": 0.5,
    "WORKER_POOL_RESTARTS": True,
    "MONITOR_REFRESH": 1,
    "IMPORTS": ["tests.worker_app.ends", "tests.worker_app.flows", "tests.worker_app.limited"],
}
NODE, SCALER = "census@here", "scaler@here"
WORKER = ("-c", "2", "-n", NODE)
Visit = Callable[..., Visitor]


@pytest.fixture(scope="module")
def scaler(site: Site) -> Process:
    """A second worker, which scales by itself, and takes from a queue of its own."""
    return site.processes.start("scaler", "runworker", "--autoscale", "2,1", "-n", SCALER, "-Q", "scaled", "-q")


@pytest.fixture(autouse=True)
def _no_queue_of_others(site: Site) -> None:
    Queue.objects.all().delete()
    Sample.objects.all().delete()


@pytest.fixture
def visitor(visit: Visit) -> Visitor:
    """A superuser, whose browser tells when a page has wanted what its policy forbids."""
    found = visit()
    found.page.add_init_script(WATCH)
    return found


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """What some tasks wait for; it opens when the test ends, if it has not before."""
    found = tmp_path / "gate"
    yield found
    found.touch()


def to(name: str, *args: Any) -> str:
    """The address of a page."""
    return reverse(f"djtasks_monitor:{name}", args=args)


def follow(visitor: Visitor, name: str, inside: str = "main") -> None:
    """Click on a link of this name, which leads to a question."""
    visitor.page.locator(inside).get_by_role("link", name=name, exact=True).first.click()
    visitor.page.locator("form.question").wait_for()


def yes(visitor: Visitor, **fields: str) -> str:
    """Fill in the form, and say yes; what the page says then."""
    for name, value in fields.items():
        visitor.page.fill(f"#id_{name}", value)
    visitor.page.locator("form.question button[type=submit]").click()
    visitor.page.locator(".messages li").first.wait_for()
    return visitor.text(".messages")


def act(visitor: Visitor, name: str, **fields: str) -> str:
    """Click on a link of this name, fill in the form, and say yes; what the page says then."""
    follow(visitor, name)
    return yes(visitor, **fields)


def worker(name: str = NODE) -> Worker:
    """The row of a worker, when there is one."""
    return wait_until(lambda: Worker.objects.filter(name=name).first(), f"{name} is there") or Worker()


def becomes(condition: Callable[[], object], what: str) -> None:
    """Wait until that is so in the database."""
    wait_until(condition, what, 15.0)


def test_what_happens_is_seen_without_a_reload(visitor: Visitor, gate: Path) -> None:
    page = visitor.page

    def watch(path: str) -> None:
        visitor.go(path)
        page.evaluate("window.loaded = 'once'")

    def sees(text: str, where: str = "#live") -> None:
        page.locator(where, has_text=re.compile(text)).first.wait_for()
        assert page.evaluate("window.loaded") == "once"

    watch(to("tasks"))
    assert "No task fits" in visitor.text("#live")
    held = hold.delay(str(gate))
    sees(str(held.id))
    sees("running", "#live tr")
    first = page.locator("#live .id a").first
    first.focus()
    echo.apply_async(["later"], countdown=3600)
    sees("waits for its time", "#live tr")
    # Who is in the middle of something stays there.
    assert page.evaluate("document.activeElement.textContent") == str(held.id)
    watch(to("worker", worker().pk))
    sees(str(held.id))
    watch(to("task", held.id))
    sees("running")
    gate.touch()
    sees("SUCCESS")
    assert "SUCCESS" in page.locator("#news").text_content()
    watch(to("queues"))
    for _ in range(3):
        noop.apply_async(queue="nobody's")
    sees("nobody's ?3", "#live tr")
    watch(to("overview"))
    Queue.objects.create(name="mail", paused=True)
    sees("mail", "#live .alarms")
    page.locator(".chart canvas").first.wait_for()
    page.get_by_role("button", name="Pause").click()
    Queue.objects.create(name="parcels", paused=True)
    with page.expect_event("console", lambda said: said.text == "asked"):
        # Two more turns of the clock, in which nothing is asked for.
        page.evaluate("setTimeout(() => console.log('asked'), 2200)")
    assert "parcels" not in visitor.text("#live")
    page.get_by_role("button", name="Pause").click()
    sees("parcels", "#live .alarms")


def test_a_task_is_revoked_terminated_retried_requeued_and_forgotten(visitor: Visitor, gate: Path) -> None:
    later = noop.apply_async(countdown=3600)
    held = hold.delay(str(gate))
    failed = fail.delay("no such order")
    hurried = echo.apply_async(["soon"], countdown=3600)
    visitor.go(to("task", later.id))
    assert "will not run" in act(visitor, "Revoke")
    assert Result.objects.get(pk=later.id).state == "REVOKED"
    assert not Message.objects.filter(pk=later.id).exists()
    visitor.go(to("task", hurried.id))
    assert "may run now" in act(visitor, "Retry")
    becomes(lambda: Result.objects.filter(pk=hurried.id, state="SUCCESS").exists(), "the hurried one has run")
    becomes(lambda: Message.objects.filter(pk=held.id, owner__isnull=False).exists(), "the held one runs")
    visitor.go(to("task", held.id))
    assert "is being ended" in act(visitor, "Terminate")
    becomes(lambda: Result.objects.filter(pk=held.id, state="REVOKED").exists(), "the held one was ended")
    becomes(lambda: Result.objects.filter(pk=failed.id, state="FAILURE").exists(), "it has failed")
    before = Result.objects.get(pk=failed.id).done
    visitor.go(to("task", failed.id))
    assert "no such order" in visitor.text("main")
    assert "put back" in act(visitor, "Requeue")
    becomes(lambda: Result.objects.filter(pk=failed.id, done__gt=before).exists(), "it has failed again")
    visitor.go(to("task", failed.id))
    assert "deleted" in act(visitor, "Forget")
    assert not Result.objects.filter(pk=failed.id).exists()


def test_a_queue_is_paused_by_keyboard_resumed_and_purged(visitor: Visitor) -> None:
    page = visitor.page
    noop.apply_async(queue="mail")
    noop.apply_async(queue="mail", countdown=3600)
    visitor.go(to("queues"))
    focused = "document.activeElement.textContent.trim()"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Skip to the content"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == "pause mail":
            break
    assert page.evaluate(focused) == "pause mail"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.locator("form.question").wait_for()
    while page.evaluate("document.activeElement.id") != "id_note":
        page.keyboard.press("Tab")
    page.keyboard.type("the mail server moves")
    page.keyboard.press("Enter")
    page.locator(".messages li").first.wait_for()
    row = Queue.objects.get(name="mail")
    assert (row.paused, row.by, row.note) == (True, "admin", "the mail server moves")
    assert "goes on" in act(visitor, "resume mail")
    assert not Queue.objects.get(name="mail").paused
    follow(visitor, "purge mail")
    page.get_by_role("link", name="No, go back").click()
    assert Message.objects.filter(queue="mail").count() == 2
    assert "2 tasks were thrown away" in act(visitor, "purge mail")
    assert not Message.objects.exists()


def test_a_worker_grows_shrinks_restarts_its_pool_and_changes_its_queues(visitor: Visitor) -> None:
    row = worker()

    def told(name: str, **fields: str) -> str:
        visitor.go(to("worker", row.pk))
        return act(visitor, name, **fields)

    def now() -> Worker:
        return Worker.objects.get(pk=row.pk)

    assert "will grow" in told("Grow the pool", n="1")
    becomes(lambda: now().concurrency == 3, "the pool has grown")
    assert "will shrink" in told("Shrink the pool", n="2")
    becomes(lambda: now().concurrency == 1, "the pool has shrunk")
    before = pid.delay().get(timeout=15)
    assert "reload started" in told("Restart the pool")
    becomes(lambda: pid.delay().get(timeout=15) != before, "the pool is another one")
    assert "add consumer extra" in told("Take from a queue, too", queue="extra")
    becomes(lambda: "extra" in now().queues, "the queue was added")
    assert echo.apply_async([5], queue="extra").get(timeout=15) == 5
    assert "no longer consuming" in told("Take no more from a queue", queue="extra")
    becomes(lambda: "extra" not in now().queues, "the queue was cancelled")


def test_a_worker_is_given_limits_and_asked_what_it_has(visitor: Visitor, gate: Path) -> None:
    row, page = worker(), visitor.page

    def answers(name: str) -> str:
        visitor.go(to("worker", row.pk))
        follow(visitor, name)
        page.locator("form.question button[type=submit]").click()
        page.get_by_role("link", name="Back to the worker").wait_for()
        return visitor.text("main")

    visitor.go(to("worker", row.pk))
    assert "new rate limit" in act(visitor, "Limit the rate of a task", task_name=noop.name, rate_limit="1/h")
    runs = [noop.delay() for _ in range(2)]
    becomes(lambda: Result.objects.filter(pk=runs[0].id, state="SUCCESS").exists(), "the first one has run")
    echo.delay(1).get(timeout=15)
    assert not Result.objects.filter(pk=runs[1].id).exists()
    visitor.go(to("worker", row.pk))
    assert "rate limit" in act(visitor, "Limit the rate of a task", task_name=noop.name, rate_limit="")
    becomes(lambda: Result.objects.filter(pk=runs[1].id, state="SUCCESS").exists(), "the second one has run")
    assert noop.name in answers("Its tasks")
    visitor.go(to("worker", row.pk))
    assert "time limits set" in act(visitor, "Limit the time of a task", task_name=hold.name, hard="0.2")
    held = hold.delay(str(gate))
    becomes(lambda: Result.objects.filter(pk=held.id, state="FAILURE").exists(), "it was ended")
    assert "TimeLimitExceeded" in str(held.result) + type(held.result).__name__
    visitor.go(to("worker", row.pk))
    act(visitor, "Limit the time of a task", task_name=hold.name)
    assert "WORKER_POOL_RESTARTS" in answers("Its settings").upper()
    assert "prefork" in answers("What it counts")


def test_a_worker_scales_by_itself_as_it_is_told_and_is_shut_down(
    visitor: Visitor, scaler: Process, gate: Path
) -> None:
    row = worker(SCALER)
    visitor.go(to("worker", row.pk))
    assert "max=3 min=3" in act(visitor, "Scale by itself", min="3", max="3")
    becomes(lambda: Worker.objects.get(pk=row.pk).concurrency == 3, "it has grown")
    visitor.go(to("worker", row.pk))
    assert "was told to stop" in act(visitor, "Shut the worker down")
    becomes(scaler.ended, "the worker has ended")
    assert not Worker.objects.filter(pk=row.pk).exists()
    assert worker(NODE)
    # Whoever has its page open is told so, and what is gone is no error of the site.
    visitor.go(to("workers"))
    assert SCALER not in visitor.text("#live")


def test_a_periodic_task_is_run_now_disabled_and_enabled(visitor: Visitor) -> None:
    row = PeriodicTask.objects.create(name="nightly", task=noop.name, kind="interval", every=20, period="minutes")
    visitor.go(to("schedules"))
    assert "nightly was sent" in act(visitor, "run now nightly")
    becomes(lambda: Result.objects.filter(periodic=row.pk, state="SUCCESS").exists(), "it has run")
    assert "is disabled" in act(visitor, "disable nightly")
    assert not PeriodicTask.objects.get().enabled
    assert "is enabled" in act(visitor, "enable nightly")
    assert PeriodicTask.objects.get().enabled
    visitor.page.locator("#live", has_text="nightly").locator(".strip circle").first.wait_for()


def test_dead_letters_are_requeued_and_deleted(visitor: Visitor) -> None:
    page = visitor.page
    first, second = (refused.delay("never") for _ in range(2))
    becomes(lambda: Result.objects.filter(dead="rejected").count() == 2, "both were rejected")
    visitor.go(to("letters"))

    def chosen(task_id: str, button: str) -> str:
        page.locator(f"input[name=id][value='{task_id}']").check()
        page.get_by_role("button", name=button).click()
        page.locator("form.question").wait_for()
        assert str(task_id) in visitor.text("form.question")
        return yes(visitor)

    assert "put back" in chosen(first.id, "Requeue the chosen ones")
    # It refuses itself no second time, and leaves no result.
    becomes(lambda: not Message.objects.exists(), "it has run")
    assert [str(each.pk) for each in Result.objects.all()] == [second.id]
    visitor.go(to("letters"))
    assert "deleted" in chosen(second.id, "Delete the chosen ones")
    assert not query("SELECT 1 FROM djtasks_result WHERE id = %s", second.id)


def test_without_scripts_all_can_be_read_and_done(visit: Visit) -> None:
    visitor = visit(script=False)
    noop.apply_async(queue="mail")
    visitor.go(to("overview"))
    assert "mail" in visitor.text("main")
    visitor.page.get_by_role("link", name="Queues", exact=True).click()
    assert "is paused" in act(visitor, "pause mail", note="deploy")
    assert Queue.objects.get(name="mail").note == "deploy"


PAGES = ("overview", "workers", "queues", "tasks", "schedules", "limits", "letters")


def a_census() -> str:
    """Have one taken of this folder; the id of the task that sums it up."""
    assert take_census.delay(str(Path(__file__).parent)).get(timeout=30)
    found = wait_until(lambda: Result.objects.filter(name__endswith=".summarise").first(), "a census was taken")
    assert found is not None
    return str(found.pk)


def test_every_page_is_for_everybody_on_any_screen_and_hostile_texts_do_nothing(visitor: Visitor, gate: Path) -> None:
    # A picture is to show a shop as it is.
    scene, row = furnish(NODE, hostile=not PICTURES), worker()
    addresses = {name: to(name) for name in PAGES}
    addresses |= {"worker": to("worker", row.pk), "task": to("task", a_census()), "failed": to("task", scene.failed)}
    addresses |= {"searched": to("tasks") + "?q=state:FAILURE&col=name&col=args&col=result"}
    addresses |= {"none": to("tasks") + "?q=no-such-task"}
    hold.delay(str(gate))
    becomes(lambda: Message.objects.filter(name=hold.name, owner__isnull=False).exists(), "something runs")
    assert wrong_with(visitor, addresses) == ""
    visitor.go(to("letters"))
    assert PICTURES or MARKUP in visitor.text("main")


def test_every_question_is_for_everybody_on_any_screen(visitor: Visitor) -> None:
    scene, row = furnish(NODE), worker()
    addresses = {verb: f"{to(verb)}?name=mail" for verb in ("pause", "purge")}
    addresses |= {verb: to("order", row.pk, verb) for verb in ("autoscale", "time-limit")}
    addresses |= {"forget": to("deed", scene.failed, "forget"), "run": to("schedule", scene.periodic, "run")}
    addresses |= {"delete": f"{to('letters-delete')}?id={scene.letter}"}
    assert wrong_with(visitor, addresses) == ""


def test_light_and_dark_are_a_readers_choice_and_are_kept(visit: Visit) -> None:
    furnish(NODE, hostile=False)
    visitor = visit(color="dark", width=PHONE)
    page = visitor.page
    background = "getComputedStyle(document.body).backgroundColor"
    visitor.go(to("overview"))
    dark = page.evaluate(background)
    visitor.picture("monitor-dark-narrow")
    page.get_by_role("button", name="Light or dark").click()
    light = page.evaluate(background)
    assert dark != light
    page.reload()
    assert page.evaluate(background) == light


def test_what_is_not_there_is_said_on_a_page_that_all_can_read(visitor: Visitor) -> None:
    for path, status in (
        (to("task", "0192aaaa-0000-7000-8000-000000000000"), 404),
        (to("worker", 1), 410),
        (to("tasks") + "?q=state:%00&sort=no", 400),
    ):
        visitor.go(path)
        assert faults(visitor.page) == {}
        # That the browser tells of the status is right; and there is nothing else to tell of.
        assert [each for each in visitor.errors if str(status) not in each] == []
        visitor.errors.clear()
