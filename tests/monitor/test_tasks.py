"""The list of tasks: every one of them once, in its order, whatever is searched for."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from djtasks.db import tasklists, timeouts
from djtasks.ids import as_task_id
from djtasks.models import Message, Result
from djtasks.monitor import views_tasks
from djtasks.monitor.search import FILTERS
from tests.admin.conftest import a_message, a_result, a_worker, new_message, new_result
from tests.monitor.conftest import following, ids, to, words
from tests.storage.rows import HOSTILE


def find(client: Client, query: str, **more: Any) -> list[str]:
    """The ids on the first page of a search."""
    answer = client.get(to("tasks"), {"q": query, **more})
    assert answer.status_code == 200, words(answer, answer.status_code)
    return ids(answer)


def walk(client: Client, **query: Any) -> list[str]:
    """The ids on all pages."""
    found: list[str] = []
    answer = client.get(to("tasks"), query)
    for _ in range(200):
        assert answer.status_code == 200
        found += ids(answer)
        if (url := following(answer)) is None:
            return found
        answer = client.get(url)
    raise AssertionError("the list has no end")


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages and results, some with ids of their callers' own, some that are both; a page looks at few of them."""
    monkeypatch.setattr(views_tasks, "SIZE", 4)
    monkeypatch.setattr(tasklists, "WINDOW", 7)
    chance, now = random.Random(7), timezone.now()
    messages, results = [], []
    for number in range(60):
        uuid = {} if number % 5 else {"id": UUID(as_task_id(f"own {number}"))}
        if chance.random() < 0.5:
            messages.append(new_message(name=f"shop.t{number % 3}", **uuid))
        else:
            state = chance.choice(["SUCCESS", "FAILURE"])
            done = now - timedelta(seconds=chance.randrange(5))
            results.append(new_result(name=f"shop.t{number % 3}", state=state, done=done, **uuid))
        if number % 10 == 3 and messages:
            results.append(new_result(id=messages[-1].id, name=messages[-1].name, state="RETRY", done=None))
    Message.objects.bulk_create(messages)
    Result.objects.bulk_create(results, ignore_conflicts=True)


def all_ids(**fields: Any) -> set[str]:
    return {
        str(uuid) for model in (Message, Result) for uuid in model.objects.filter(**fields).values_list("pk", flat=True)
    }


@pytest.mark.parametrize("sort", ["-called", "called"])
@pytest.mark.parametrize(
    ("query", "fields"), [("", {}), ("name:t1", {"name": "shop.t1"}), ("shop.t2", {"name": "shop.t2"})]
)
def test_every_task_is_listed_once(
    admin_client: Client, many: None, sort: str, query: str, fields: dict[str, str]
) -> None:
    found = walk(admin_client, sort=sort, q=query)
    assert len(found) == len(set(found))
    assert set(found) == all_ids(**fields)
    timed = [uuid for uuid in found if UUID(uuid) < tasklists.FIRST_OTHER]
    assert timed == sorted(timed, reverse=sort == "-called")
    assert timed == found[: len(timed)]


@pytest.mark.parametrize("sort", ["-ended", "ended"])
@pytest.mark.parametrize("state", ["", "SUCCESS", "FAILURE"])
def test_what_has_ended_is_listed_by_its_end(admin_client: Client, many: None, sort: str, state: str) -> None:
    rows = Result.objects.filter(done__isnull=False)
    rows = rows.filter(state=state) if state else rows
    sign = "-" if sort == "-ended" else ""
    wanted = [str(uuid) for uuid in rows.order_by(f"{sign}done", f"{sign}id").values_list("pk", flat=True)]
    assert walk(admin_client, sort=sort, q=f"state:{state}" if state else "") == wanted


def test_a_filter_finds_what_it_says(admin_client: Client) -> None:
    worker = a_worker(incarnation=77, name="celery@here")
    running = a_message(name="shop.ship", owner=77, claim=1)
    waiting = a_message(name="shop.mail", queue="slow")
    later = a_message(name="shop.mail", lane=None, reason="eta", eta=timezone.now() + timedelta(hours=1))
    root = uuid4()
    failed = a_result(name="shop.pay", state="FAILURE", worker="w2@there", root_id=root, parent_id=root)
    letter = a_result(name="shop.pay", state="FAILURE", dead="rejected")
    done = a_result(name="shop.pay", state="SUCCESS")
    named = a_result(id=UUID(as_task_id("my own")), state="half way", done=None)
    for query, rows in {
        "state:running": [running],
        "state:PENDING": [waiting],
        "state:scheduled": [later],
        "state:eta": [later],
        "state:limit": [],
        "state:FAILURE": [letter, failed],
        "state:success": [done],
        'state:"half way"': [named],
        "name:mail": [later, waiting],
        "mail": [later, waiting],
        "shop mail": [later, waiting],
        "slow": [waiting],
        "queue:slow": [waiting],
        "queue:slo": [],
        f"worker:{worker.name}": [running],
        "worker:w2": [failed],
        "w2@there": [failed],
        f"uuid:{done.pk}": [done],
        str(done.pk): [done],
        'uuid:"my own"': [named],
        f"root_id:{root}": [failed],
        f"parent_id:{root}": [failed],
        "dead:any": [letter],
        "dead:rejected": [letter],
        "dead:crashed": [],
        "name:shop state:FAILURE worker:w2": [failed],
        "since:1h name:pay": [done, letter, failed],
        "until:1h": [],
    }.items():
        assert set(find(admin_client, query)) == {str(row.pk) for row in rows}, query


def test_what_runs_is_found_behind_all_that_was_called_since(admin_client: Client, many: None) -> None:
    own = UUID(as_task_id("it runs"))
    running = [a_message(owner=1, claim=1, position=-1, priority=5), a_message(id=own, queue="b", owner=1, claim=2)]
    parked = [a_message(lane=None, reason="limit"), a_message(lane=None, reason="eta", eta=timezone.now())]
    Message.objects.bulk_create([new_message() for _ in range(20)])
    for sort in ("-called", "called"):
        assert set(walk(admin_client, q="state:running", sort=sort)) == {str(row.pk) for row in running}
        assert walk(admin_client, q="state:limit", sort=sort) == [str(parked[0].pk)]
        assert set(walk(admin_client, q="state:parked", sort=sort)) == {str(row.pk) for row in parked}
        assert walk(admin_client, q="state:running queue:b", sort=sort) == [str(own)]


def test_arguments_and_results_are_searched_as_flower_does(admin_client: Client) -> None:
    body = b'[["anna@example.org","\\u00e4"],{"user":5,"name":"Bob","on":true}]'
    message = a_message(body=body)
    a_message(body=b'[[],{"user":55,"name":"Bobby"}]')
    a_message(body=body, headers='{"sensitive": true}')
    result = a_result(result=b'"three words here"', body=body, body_content_type="application/json")
    both = [str(result.pk), str(message.pk)]
    for query, rows in {
        "args:anna@": both,
        "args:ä": both,
        "kwargs:user=5": both,
        'kwargs:user="5"': both,
        "kwargs:name=Bob": both,
        "kwargs:on=True": both,
        "kwargs:on=true": both,
        "kwargs:on": both,
        "kwargs:name=Bo": [],
        'result:"three words"': [str(result.pk)],
        "result:four": [],
    }.items():
        assert set(find(admin_client, query)) == set(rows), query


def test_payload_is_searched_and_shown_only_to_those_who_may_see_it(staff: Callable[..., Client]) -> None:
    message = a_message(body=b'[["secret 1"],{}]')
    result = a_result(result=b'"secret 2"')
    columns = {"col": ["args", "kwargs", "result"]}
    nobody = staff("view_message", "view_result")
    page = nobody.get(to("tasks"), columns)
    assert set(ids(page)) == {str(message.pk), str(result.pk)}
    assert "secret" not in page.content.decode()
    assert "permission" in words(nobody.get(to("tasks"), {"q": "args:secret"}), 403)
    somebody = staff("view_message", "view_result", "view_payload_message")
    page = somebody.get(to("tasks"), columns)
    assert "secret 1" in page.content.decode()
    assert "secret 2" not in page.content.decode()
    assert ids(somebody.get(to("tasks"), {"q": "result:secret"})) == []
    for row in (message, result):
        assert "secret" not in nobody.get(to("task", row.pk)).content.decode()
    assert "secret 1" in somebody.get(to("task", message.pk)).content.decode()
    assert "secret 2" not in somebody.get(to("task", result.pk)).content.decode()


def test_whoever_sees_one_table_sees_its_tasks_only(staff: Callable[..., Client]) -> None:
    message, result = a_message(name="shop.waits"), a_result(name="shop.ended")
    for codename, seen, unseen in (("view_message", message, result), ("view_result", result, message)):
        client = staff(codename)
        assert find(client, "") == [str(seen.pk)]
        assert find(client, str(unseen.pk)) == []
        assert client.get(to("task", seen.pk)).status_code == 200
        assert unseen.name not in words(client.get(to("task", unseen.pk)), 403)
    both = a_message()
    a_result(id=both.pk, state="half way", done=None)
    for query in ("", f"uuid:{both.pk}"):
        assert "half way" not in words(staff("view_message", f"search {query}").get(to("tasks"), {"q": query}))
    assert "half way" not in words(staff("view_message", "task").get(to("task", both.pk)))


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"q": "colour:red"}, "There is no filter colour:"),
        ({"q": "x" * 10_000}, "too long"),
        ({"q": "\0"}, "a NUL"),
        ({"q": "state:a state:b"}, "says twice"),
        ({"q": "a " * 30}, "more than 20 words"),
        ({"q": "since:yesterday"}, "is no time"),
        ({"q": "since:999999d"}, "is no time"),
        ({"q": "kwargs:=5"}, "takes the name of an argument"),
        ({"q": "uuid:a state:b"}, "nothing else"),
        ({"sort": "colour"}, "not by colour"),
        ({"sort": "-ended", "q": "state:running"}, "has not ended"),
        ({"col": "colour"}, "There is no column colour"),
        ({"after": "9" * 5000}, "no such page"),
        ({"after": "-1"}, "no such page"),
        ({"after": "x~y", "sort": "ended"}, "no such page"),
        ({"after": "2026-01-01~0192aaaa-0000-7000-8000-000000000000", "sort": "ended"}, "no such page"),
        ({"after": "0001-01-01T00:00+23:59~0192aaaa-0000-7000-8000-000000000000", "sort": "ended"}, "no such page"),
        ({"after": "9999-12-31T23:59-23:59~0192aaaa-0000-7000-8000-000000000000", "sort": "ended"}, "no such page"),
        ({"after": "9999-12-31T23:59:59+00:00", "sort": "ended"}, "no such page"),
    ],
)
def test_what_means_nothing_is_told(admin_client: Client, query: dict[str, str], says: str) -> None:
    a_message()
    assert says in words(admin_client.get(to("tasks"), query), 400)
    live = admin_client.get(to("tasks"), {**query, "live": "1"})
    assert live.status_code == 200
    assert says in words(live)


HURTFUL = [
    *HOSTILE,
    *(
        "%",
        "%%",
        "_",
        "\\",
        '"',
        "'",
        "''",
        "--",
        "/*",
        "*/",
        ";",
        "$$",
        "{{ 1 }}",
        "{% now %}",
        "<script>alert(1)</script>",
    ),
    *(
        '"><img src=x onerror=alert(1)>',
        "\ud800",
        "\N{RIGHT-TO-LEFT OVERRIDE}x",
        "(((((",
        "[",
        "a" * 499,
        "\x00",
        "💣" * 100,
    ),
]


@pytest.mark.parametrize("key", ["", *(f"{name}:" for name in FILTERS)])
def test_hostile_texts_are_only_texts(admin_client: Client, key: str) -> None:
    a_message(name="<script>alert(2)</script>")
    a_result(name='"><b>x', worker="<i>")
    for text in HURTFUL:
        query = (key + '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"') if key else text
        for sort in ("-called", "-ended") if key in ("", "name:") else ("-called",):
            answer = admin_client.get(f"{to('tasks')}", {"q": query.encode("utf-8", "replace"), "sort": sort})
            assert answer.status_code in (200, 400), (query, answer.status_code)
            page = answer.content.decode()
            assert "<script>alert" not in page
            assert "<img src=x" not in page
            assert '"><b>' not in page
    assert Message.objects.count() == Result.objects.count() == 1


def test_a_search_that_takes_too_long_says_so(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    a_message()
    slow = ("pg_sleep(1) IS NULL", "pg_sleep(1) IS NULL")
    monkeypatch.setitem(tasklists._CONDITIONS, "name", slow)
    monkeypatch.setattr(views_tasks, "_seconds", lambda: 0.05)
    assert "narrow it" in words(admin_client.get(to("tasks"), {"q": "name:x"}))
    assert words(admin_client.get(to("tasks")))


@pytest.mark.django_db(transaction=True)
def test_a_statement_outside_of_a_transaction_ends_in_time_and_leaves_no_limit() -> None:
    conn = connection
    with pytest.raises(timeouts.TooSlow):
        timeouts.within(conn, "SELECT pg_sleep(5)", {}, 0.05)
    assert timeouts.within(conn, "SELECT %(x)s::int", {"x": 5}, 1.0) == [(5,)]
    with conn.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)
