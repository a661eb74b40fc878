"""What the pages show: of workers, queues, limits and schedules, and what is wrong."""

import html
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from djtasks import queues
from djtasks.db import samples
from djtasks.db.connections import open_private
from djtasks.db.monitor import Picture, picture
from djtasks.models import Beat, Limit, PeriodicTask, Sample, Tick
from djtasks.monitor import charts, wrong
from tests.admin.conftest import a_message, a_result, a_worker
from tests.monitor.conftest import following, to, words


@pytest.fixture(autouse=True)
def _no_others(db: None) -> None:
    for model in (Beat, Limit, PeriodicTask, Sample, Tick):
        model.objects.all().delete()


def alarms(client: Client) -> list[str]:
    page = client.get(to("overview")).content.decode()
    found = re.search(r'<ul class="alarms">(.*?)</ul>', page, re.S)
    return [html.unescape(text) for text in re.findall(r"<a [^>]*>(.*?)</a>", found[1])] if found else []


def nightly(**fields: Any) -> PeriodicTask:
    return PeriodicTask.objects.create(name="nightly", task="x", kind="interval", every=1, period="hours", **fields)


# -- what is wrong ------------------------------------------------------------------------------------------------


def test_nothing_is_wrong_while_a_worker_lives(admin_client: Client) -> None:
    a_worker(queues=["celery"])
    a_message()
    assert alarms(admin_client) == []
    assert "Nothing is wrong." in words(admin_client.get(to("overview")))


def test_what_is_wrong_is_said(admin_client: Client) -> None:
    now = timezone.now()
    a_worker(queues=["celery"])
    a_worker(incarnation=2, name="late@there", heartbeat=now - timedelta(minutes=3))
    a_message(created=now - timedelta(hours=2))
    a_message(queue="nobody")
    a_message(lane=None, reason="name")
    a_result(dead="rejected", state="FAILURE")
    queues.pause("night", by="anna", note="deploy")
    nightly()
    found = " | ".join(alarms(admin_client))
    for text in (
        "The heart of the worker late@there has not beaten for 0:03:",
        "No worker takes from the queue nobody",
        "In the queue celery a task has waited for 2:00:",
        "1 task waits that no worker here knows.",
        "There is 1 dead letter.",
        "The queue night is paused",
        "No beat is there: 1 periodic task is enabled, and is not sent.",
    ):
        assert text in found


def test_a_beat_that_is_late_is_told_from_one_that_is_missing(admin_client: Client) -> None:
    a_worker()
    task = nightly()
    Tick.objects.update_or_create(
        periodic_task=task, defaults={"next_run_at": timezone.now() - timedelta(hours=1), "stale": False}
    )
    assert "No beat is there" in alarms(admin_client)[0]
    Beat.objects.create(incarnation=1, name="beat@here", host="here", pid=1)
    assert alarms(admin_client) == ["1 periodic task is more than a minute late."]
    PeriodicTask.objects.update(enabled=False)
    assert alarms(admin_client) == []


def test_an_old_transaction_is_named() -> None:
    oldest = {"who": "77", "name": "psql", "age": 4000.0}
    picture = Picture(0.0, [], [], [], [], 0, 0, 0, 0, {}, oldest, 0, 0)
    texts = [alarm.text for alarm in wrong.alarms(picture, {})]
    assert any("A transaction is open for 1:06:40 (process 77 of the server, psql)" in text for text in texts)


def test_an_alarm_is_told_only_to_those_who_may_see_what_it_is_about(staff: Callable[..., Client]) -> None:
    queues.pause("secret")
    a_result(dead="rejected", state="FAILURE")
    assert alarms(staff("view_result")) == ["There is 1 dead letter."]
    assert "secret" not in staff("view_worker").get(to("overview")).content.decode()


# -- charts -------------------------------------------------------------------------------------------------------


def drawn(client: Client, span: str = "1h") -> dict[str, Any]:
    page = client.get(to("overview"), {"span": span}).content.decode()
    found = re.search(r'data-charts="(.*?)"', page)
    assert found
    return {chart["name"]: chart for chart in json.loads(html.unescape(found[1]))}


def test_charts_show_what_samples_have_kept(admin_client: Client) -> None:
    for node, count in (("a", 60), ("b", 120)):
        numbers = {"SUCCESS": count, "FAILURE": 6, "runs": 10, "runtime": 5.0, "waited": 20.0, "busy": 1, "pool": 2}
        samples.write(connection, "worker", {node: numbers}, ago=120)
    samples.write(connection, "queue", {"celery": {"depth": 7, "oldest": 3.5}, "slow": {"depth": 4}}, ago=120)
    found = drawn(admin_client)

    def value(chart: str, line: int) -> Any:
        values = [each for each in found[chart]["lines"][line]["values"][:-1] if each is not None]
        assert len(values) == 1
        return values[0]

    assert value("throughput", 0) == 3.0
    assert value("failures", 0) == 0.2
    assert (value("latency", 0), value("latency", 1)) == (2.0, 0.5)
    assert (value("depth", 0), value("depth", 1), value("depth", 2)) == (11, 7, 4)
    assert value("oldest", 0) == 3.5
    assert (value("busy", 0), value("busy", 1)) == (2, 4)
    for chart in found.values():
        assert {len(line["values"]) for line in chart["lines"]} == {len(chart["times"])}
    assert "3.00" in words(admin_client.get(to("overview")))


@pytest.mark.parametrize("span", [each.name for each in charts.SPANS])
def test_charts_reach_as_far_as_is_asked_for(admin_client: Client, span: str) -> None:
    times = drawn(admin_client, span)["throughput"]["times"]
    seconds = next(each.seconds for each in charts.SPANS if each.name == span)
    assert seconds <= times[-1] - times[0] < seconds * 1.05
    assert times == sorted(times)


def test_a_span_that_there_is_not_is_told(admin_client: Client) -> None:
    assert "Charts go back for 1h, 6h, 24h" in words(admin_client.get(to("overview"), {"span": "1y"}), 400)


def test_the_last_point_is_now(admin_client: Client) -> None:
    a_worker(counters={"SUCCESS": 10}, state={"running": 2}, concurrency=3)
    a_message(created=timezone.now() - timedelta(seconds=30))
    found = drawn(admin_client)
    last = {name: [line["values"][-1] for line in chart["lines"]] for name, chart in found.items()}
    assert last["depth"] == [1]
    assert 29 < last["oldest"][0] < 90
    assert last["busy"] == [2, 3]


def test_results_are_counted_while_they_are_few(admin_client: Client) -> None:
    for _ in range(3):
        a_result()
    assert " Results 3 " in words(admin_client.get(to("overview")))


def test_how_fast_tasks_end_is_seen_between_two_looks() -> None:
    def look(now: float, count: int, incarnation: str = "1") -> dict[str, float]:
        workers = [{"incarnation": incarnation, "counters": {"SUCCESS": count, "odd": "x"}}]
        return pace.rates(Picture(now, workers, [], [], [], 0, 0, 0, 0, {}, None, 0, 0))

    pace = charts.Pace()
    assert look(100.0, 50) == {}
    assert look(110.0, 70) == {"SUCCESS": 2.0}
    assert look(120.0, 90) == {"SUCCESS": 2.0}
    assert look(500.0, 95) == {}
    assert look(510.0, 3, "2") == {"SUCCESS": 0.3}


# -- workers ------------------------------------------------------------------------------------------------------


def test_a_worker_is_shown_with_what_it_says_of_itself(admin_client: Client) -> None:
    state = {
        "running": 1,
        "prefetched": 4,
        "load": [0.5, 0.25, 0.1],
        "versions": {"python": "3.11.7"},
        "rusage": {"maxrss": 2048, "utime": 1.5, "stime": 0.25},
        "odd": ["<b>"],
    }
    worker = a_worker(state=state, counters={"SUCCESS": 1234, "FAILURE": 5, "x": None})
    mine = a_message(name="shop.mine", owner=worker.pk, claim=1)
    a_message(name="shop.other", owner=77, claim=1)
    listed = words(admin_client.get(to("workers")))
    for text in ("celery@here", "0.5, 0.25, 0.1", "1,234", "prefork"):
        assert text in listed
    page = words(admin_client.get(to("worker", worker.pk)))
    for text in ("python 3.11.7", "2 MiB", "1.50 s / 250 ms", "['<b>']", "shop.mine", str(mine.pk)):
        assert text in page
    assert "shop.other" not in page


@pytest.mark.parametrize(("running", "state"), [(None, "asleep"), (0, "asleep"), (1, "at work")])
def test_a_worker_that_runs_a_task_is_not_asleep(admin_client: Client, running: int | None, state: str) -> None:
    worker = a_worker(state={"running": running}, idle=True)
    for url in (to("workers"), to("worker", worker.pk)):
        assert f'<span class="state good">{state}</span>' in admin_client.get(url).content.decode()


@pytest.mark.parametrize("state", [None, [], 7, {"running": "many", "load": 5, "rusage": [], "versions": None}])
def test_a_worker_that_says_odd_things_is_shown_all_the_same(admin_client: Client, state: Any) -> None:
    worker = a_worker(state=state, counters=[], queues={"a": 1})
    for url in (to("workers"), to("worker", worker.pk), to("overview"), to("queues")):
        assert words(admin_client.get(url))


# -- queues, limits, schedules, dead letters ----------------------------------------------------------------------


def test_queues_are_shown_with_what_stands_in_them(admin_client: Client) -> None:
    a_worker(queues=["celery", 'odd "one"/x'])
    a_message(queue='odd "one"/x', created=timezone.now() - timedelta(seconds=90))
    a_message(lane=None, reason="rate")
    page = admin_client.get(to("queues"))
    assert 'odd "one"/x' in words(page)
    assert "0:01:3" in words(page)
    urls = [html.unescape(url) for url in re.findall(r'href="(/djtasks/[^"]*)"', page.content.decode())]
    for url in urls:
        assert admin_client.get(url).status_code == 200, url
    assert any("tasks/?q=queue" in url for url in urls)


def test_limits_are_shown_page_by_page(admin_client: Client) -> None:
    Limit.objects.bulk_create([Limit(key=f"tenant {number:03}", most=2) for number in range(150)])
    Limit.objects.create(key="<b>mail", rate=0.5, next_at=timezone.now() + timedelta(seconds=30))
    a_message(limit_key="tenant 000", owner=1, claim=1)
    a_message(limit_key="tenant 000")
    a_message(limit_key="tenant 000", lane=None, reason="limit")
    first = admin_client.get(to("limits"))
    assert "<b>mail – – 0" not in words(first)
    assert "tenant 000 2 2 – – 1" in words(first)
    url = following(first)
    assert url
    second = words(admin_client.get(url))
    assert "tenant 149" in second
    assert "tenant 000" not in second
    assert "0.50 a second" in words(admin_client.get(to("limits"), {"q": "<b>"}))
    for query in ({"q": "\0"}, {"after": "x" * 10_000}):
        assert "too long, or has characters" in words(admin_client.get(to("limits"), query), 400)


def test_schedules_are_shown_with_their_next_runs(admin_client: Client) -> None:
    task, now = nightly(), timezone.now()
    Tick.objects.update_or_create(
        periodic_task=task,
        defaults={"next_run_at": now + timedelta(minutes=30), "stale": False, "error": "no <b>queue</b>"},
    )
    Beat.objects.create(incarnation=1, name="beat@here", host="here", pid=1, sent=12)
    page = admin_client.get(to("schedules"))
    assert page.content.decode().count("<circle") == 1
    for text in ("nightly", "every hour", "beat@here", "12 sent", "no <b>queue</b>", "run now", "disable"):
        assert text in words(page)
    assert admin_client.get(to("schedules"), {"reach": "24h"}).content.decode().count("<circle") == 12
    assert words(admin_client.get(to("schedules"), {"q": "night"})).count("nightly") == 2 + 2
    assert "goes 1h, 24h, 7d ahead" in words(admin_client.get(to("schedules"), {"reach": "1y"}), 400)


def test_a_schedule_that_cannot_be_read_is_shown_all_the_same(admin_client: Client) -> None:
    task = nightly()
    Tick.objects.update_or_create(periodic_task=task, defaults={"next_run_at": timezone.now(), "stale": False})
    with connection.cursor() as cursor:
        cursor.execute("UPDATE djtasks_periodic_task SET kind = 'crontab', every = NULL, period = '', minute = 'x'")
    assert "unreadable" in words(admin_client.get(to("schedules")))


def test_dead_letters_are_shown_and_filtered(admin_client: Client, staff: Callable[..., Client]) -> None:
    a_result(name="shop.one", dead="rejected", state="FAILURE")
    a_result(name="shop.two", dead="crashed", state="FAILURE")
    a_result(name="shop.three", state="FAILURE")
    page = words(admin_client.get(to("letters")))
    assert "shop.one" in page
    assert "shop.two" in page
    assert "shop.three" not in page
    assert "shop.two" not in words(admin_client.get(to("letters"), {"reason": "rejected"}))
    assert "There is no reason" in words(admin_client.get(to("letters"), {"reason": "x"}), 400)
    assert "no such page" in words(admin_client.get(to("letters"), {"after": "x"}), 400)
    assert 'type="checkbox"' not in staff("view_result").get(to("letters")).content.decode()


def test_a_transaction_that_is_open_elsewhere_is_seen() -> None:
    with open_private("test of the monitor") as conn, conn.transaction():
        conn.execute("SELECT txid_current(), count(*) FROM djtasks_queue")
        conn.execute("DECLARE held CURSOR FOR SELECT 1 FROM djtasks_queue")
        oldest = picture(connection).oldest
    assert oldest is not None
    assert oldest["age"] >= 0
    assert oldest["who"]
