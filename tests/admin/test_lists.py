"""The lists: their order, their pages, search and filters, and what they ask of the database."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from djtasks import shared_task
from djtasks.admin.base import ReadOnlyAdmin
from djtasks.ids import as_task_id
from djtasks.models import Message, Result, Worker
from djtasks.registry import tasks
from tests.admin.conftest import a_message, a_result, a_worker, below, listed, paging, words

RESULTS = "/admin/djtasks/result/"
MESSAGES = "/admin/djtasks/message/"
HEAVY = re.compile(r"\b(body|result|traceback|headers)\b")


def ids(*rows: Any) -> list[str]:
    return [str(row.pk) for row in rows]


def statements(captured: CaptureQueriesContext) -> list[str]:
    return [query["sql"] for query in captured]


# -- order and pages ----------------------------------------------------------------------------------------------


def test_messages_come_in_the_order_in_which_they_will_be_taken_and_parked_ones_last(admin_client: Client) -> None:
    later = a_message(queue="b")
    parked = a_message(queue="a", lane=None, reason="eta", eta=timezone.now() + timedelta(hours=1))
    first, urgent, second = a_message(queue="a"), a_message(queue="a", priority=9), a_message(queue="a")
    assert listed(admin_client.get(MESSAGES)) == ids(urgent, first, second, later, parked)


def test_the_last_task_that_ended_comes_first_and_those_that_run_come_last(admin_client: Client) -> None:
    now = timezone.now()
    running = a_result(state="STARTED", done=None)
    older, newer = a_result(done=now - timedelta(hours=1)), a_result(done=now)
    assert listed(admin_client.get(RESULTS)) == ids(newer, older, running)


@pytest.mark.parametrize("kind", ["message", "result"])
def test_next_and_previous_walk_through_all_rows_and_back(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(ReadOnlyAdmin, "list_per_page", 3)
    make, path = {"message": (a_message, MESSAGES), "result": (a_result, RESULTS)}[kind]
    rows = [make() for _ in range(8)]
    everything = (
        ids(*rows) if kind == "message" else ids(*sorted(rows, key=lambda row: (row.done, row.pk), reverse=True))
    )

    pages = [admin_client.get(path)]
    assert set(paging(pages[0])) == {"next"}
    while "next" in paging(pages[-1]):
        pages.append(admin_client.get(path + paging(pages[-1])["next"]))
    assert [task for page in pages for task in listed(page)] == everything
    assert [len(listed(page)) for page in pages] == [3, 3, 2]

    back = admin_client.get(path + paging(pages[2])["previous"])
    assert listed(back) == listed(pages[1])
    back = admin_client.get(path + paging(back)["previous"])
    assert listed(back) == listed(pages[0])
    assert listed(admin_client.get(path + paging(back)["next"])) == listed(pages[1])
    assert listed(admin_client.get(path + paging(pages[2])["first"])) == listed(pages[0])


@pytest.mark.parametrize(
    "place",
    [
        "2",
        "x",
        "[]",
        "{}",
        '["after"]',
        '["after","nowhere"]',
        '["after","ended","2025-01-01"]',
        '["after","ended","today","x"]',
        '["after","ended","2025-01-01T00:00:00+00:00","no-uuid"]',
        '["after","unfinished",5]',
        '["sideways","unfinished","00000000-0000-0000-0000-000000000000"]',
        '["after","lanes","celery","0","0"]',
        '["after","parked","99999999999999999999","0"]',
        '["after","lane","\\u0000","0"]',
        "[" * 5000,
        "\0",
    ],
)
def test_a_place_that_is_none_leads_to_the_first_page(admin_client: Client, place: str) -> None:
    a_result()
    response = admin_client.get(RESULTS, {"p": place})
    assert response.status_code == 302
    assert response["Location"] == f"{RESULTS}?e=1"
    assert len(listed(admin_client.get(response["Location"]))) == 1


def test_a_place_outside_of_a_filtered_list_leads_to_the_first_page(admin_client: Client) -> None:
    response = admin_client.get(MESSAGES, {"p": '["after","lanes","celery","0","0"]', "status": "eta"})
    assert response["Location"] == f"{MESSAGES}?e=1"


def test_a_list_that_fits_a_page_says_how_long_it_is(admin_client: Client) -> None:
    assert below(admin_client.get(RESULTS)) == "0 results"
    a_result()
    assert below(admin_client.get(RESULTS)) == "1 result"
    a_result()
    response = admin_client.get(RESULTS)
    assert below(response) == "2 results"
    assert paging(response) == {}


def test_sorting_by_a_column_is_not_offered_and_changes_nothing(admin_client: Client) -> None:
    rows = [a_message(name=name) for name in "bca"]
    response = admin_client.get(MESSAGES, {"o": "2"})
    assert listed(response) == ids(*rows)
    assert "sortable" not in response.content.decode()


# -- search -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "path"), [(a_message, MESSAGES), (a_result, RESULTS)])
def test_search_finds_a_row_by_its_id_in_any_way_of_writing_it(
    admin_client: Client, make: Callable[..., Any], path: str
) -> None:
    row, _ = make(), make()
    for text in (str(row.pk), str(row.pk).upper(), row.pk.hex, f"  {row.pk} ", f"{{{row.pk}}}"):
        assert listed(admin_client.get(path, {"q": text})) == ids(row)


@pytest.mark.parametrize("text", ["nightly", "report 7", "tests.add", "naïve", "<b>", "%", "'; --"])
@pytest.mark.parametrize(("make", "path"), [(a_message, MESSAGES), (a_result, RESULTS)])
def test_search_finds_a_row_by_its_callers_own_id(
    admin_client: Client, make: Callable[..., Any], path: str, text: str
) -> None:
    row, _ = make(id=UUID(as_task_id(text))), make()
    assert listed(admin_client.get(path, {"q": text})) == ids(row)


@pytest.mark.parametrize(("make", "path"), [(a_message, MESSAGES), (a_result, RESULTS)])
def test_search_finds_rows_by_the_beginning_of_their_tasks_name(
    admin_client: Client, make: Callable[..., Any], path: str
) -> None:
    rows = {name: make(name=name) for name in ("shop.mail", "shop.maps", "shop%mail", "other.shop.mail")}
    assert set(listed(admin_client.get(path, {"q": "shop.ma"}))) == set(ids(rows["shop.mail"], rows["shop.maps"]))
    assert listed(admin_client.get(path, {"q": "shop%"})) == ids(rows["shop%mail"])
    assert listed(admin_client.get(path, {"q": "SHOP"})) == []


def test_search_for_an_id_that_no_row_has_finds_nothing(admin_client: Client) -> None:
    a_result()
    response = admin_client.get(RESULTS, {"q": str(uuid4())})
    assert listed(response) == []
    assert below(response) == "0 results"


def test_search_for_a_nul_is_refused_with_a_message(admin_client: Client) -> None:
    assert "Null characters are not allowed" in words(admin_client.get(RESULTS, {"q": "a\0b"}))


def test_search_says_how_much_it_found_and_offers_the_whole_list(admin_client: Client) -> None:
    a_result(name="shop.mail")
    a_result()
    assert "1 result ( Show all )" in words(admin_client.get(RESULTS, {"q": "shop"}))


# -- filters ------------------------------------------------------------------------------------------------------


def test_messages_are_filtered_by_what_they_wait_for(admin_client: Client) -> None:
    soon = timezone.now() + timedelta(hours=1)
    rows = {
        "waiting": a_message(),
        "running": a_message(owner=4242, claim=1),
        "eta": a_message(lane=None, reason="eta", eta=soon),
        "name": a_message(lane=None, reason="name"),
        "limit": a_message(lane=None, reason="limit"),
    }
    for status, row in rows.items():
        assert listed(admin_client.get(MESSAGES, {"status": status})) == ids(row), status
    parked = listed(admin_client.get(MESSAGES, {"status": "parked"}))
    assert parked == ids(rows["eta"], rows["name"], rows["limit"])
    assert "parked: a concurrency limit is reached" in words(admin_client.get(MESSAGES, {"status": "limit"}))


def test_messages_that_wait_for_their_time_come_in_its_order(admin_client: Client) -> None:
    now = timezone.now()
    rows = [a_message(lane=None, reason="eta", eta=now + timedelta(minutes=minutes)) for minutes in (3, 1, 2)]
    assert listed(admin_client.get(MESSAGES, {"status": "eta"})) == ids(rows[1], rows[2], rows[0])


def test_messages_are_filtered_by_queue_whether_they_wait_or_are_parked(admin_client: Client) -> None:
    rows = [a_message(queue="mail"), a_message(queue="mail", lane=None, reason="name")]
    a_message(queue="maps")
    assert listed(admin_client.get(MESSAGES, {"queue": "mail"})) == ids(*rows)
    assert listed(admin_client.get(MESSAGES, {"queue": "mail", "status": "waiting"})) == ids(rows[0])
    assert listed(admin_client.get(MESSAGES, {"queue": "mail", "status": "name"})) == ids(rows[1])


def test_messages_are_filtered_by_the_worker_that_holds_them(admin_client: Client) -> None:
    a_worker()
    row, _, _ = a_message(owner=4242, claim=1), a_message(owner=7, claim=1), a_message()
    response = admin_client.get(MESSAGES, {"owner": "4242"})
    assert listed(response) == ids(row)
    assert "By worker All celery@here" in words(response)


def test_results_are_filtered_by_state(admin_client: Client) -> None:
    rows = {state: a_result(state=state) for state in ("SUCCESS", "FAILURE", "REVOKED")}
    rows |= {state: a_result(state=state, done=None) for state in ("RETRY", "STARTED", "half way")}
    for state, row in rows.items():
        assert listed(admin_client.get(RESULTS, {"state": state})) == ids(row), state
    unfinished = listed(admin_client.get(RESULTS, {"state": "not ended"}))
    assert set(unfinished) == set(ids(rows["RETRY"], rows["STARTED"], rows["half way"]))


def test_a_state_that_a_running_task_gave_itself_is_found_though_it_sounds_like_an_end(admin_client: Client) -> None:
    ended, claimed = a_result(state="FAILURE"), a_result(state="FAILURE", done=None)
    assert listed(admin_client.get(RESULTS, {"state": "FAILURE"})) == ids(ended, claimed)


@pytest.mark.parametrize(("column", "value"), [("queue", "mail"), ("name", "shop.mail"), ("worker", "celery@there")])
def test_results_are_filtered_by_queue_task_and_worker(admin_client: Client, column: str, value: str) -> None:
    row, _ = a_result(**{column: value}), a_result()
    assert listed(admin_client.get(RESULTS, {column: value})) == ids(row)
    assert listed(admin_client.get(RESULTS, {column: value, "state": "SUCCESS"})) == ids(row)
    assert listed(admin_client.get(RESULTS, {column: value, "state": "FAILURE"})) == []


def test_filters_offer_what_settings_registry_and_workers_name(
    admin_client: Client, configure: Callable[..., None]
) -> None:
    configure(TASK_QUEUES=["mail", "maps"], TASK_DEFAULT_QUEUE="mail")
    a_worker(queues=["maps", "extra"])

    @shared_task(name="shop.offered")
    def offered() -> None: ...

    try:
        response = words(admin_client.get(RESULTS))
    finally:
        tasks.unregister(offered)
    assert "By queue All extra mail maps" in response
    assert "shop.offered" in response
    assert "By worker All celery@here" in response


def test_a_filters_value_that_is_not_offered_may_stand_in_the_address(admin_client: Client) -> None:
    row = a_result(queue="unheard of")
    response = admin_client.get(RESULTS, {"queue": "unheard of"})
    assert listed(response) == ids(row)
    assert '<li class="selected">' in response.content.decode()


@pytest.mark.parametrize(
    "query", ["status=odd", "owner=me", "owner=99999999999999999999", "queue=%00", "name=a%00b", "status=%00"]
)
def test_a_filters_value_that_no_row_can_have_leads_to_the_whole_list(admin_client: Client, query: str) -> None:
    assert admin_client.get(f"{MESSAGES}?{query}")["Location"] == f"{MESSAGES}?e=1"


def test_a_filter_starts_at_the_first_page(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReadOnlyAdmin, "list_per_page", 1)
    a_result()
    a_result()
    second = admin_client.get(RESULTS + paging(admin_client.get(RESULTS))["next"])
    assert "p=" not in "".join(re.findall(r'href="(\?[^"]*state=[^"]*)"', second.content.decode()))
    assert 'name="p"' not in second.content.decode()


# -- what is asked of the database --------------------------------------------------------------------------------


ADDRESSES = [
    RESULTS,
    f"{RESULTS}?state=FAILURE",
    f"{RESULTS}?queue=celery&name=tests.add&worker=x",
    f"{RESULTS}?q=tests",
    f"{RESULTS}?q=00000000-0000-0000-0000-000000000000",
    f"{RESULTS}?_facets=True&all=",
    MESSAGES,
    f"{MESSAGES}?status=running",
    f"{MESSAGES}?queue=celery&name=tests.add&owner=1",
    f"{MESSAGES}?q=tests",
    "/admin/djtasks/worker/",
    "/admin/djtasks/worker/?q=here",
]


@pytest.mark.parametrize("path", ADDRESSES)
def test_a_list_takes_at_most_six_queries_however_long_it_is(
    admin_client: Client, django_assert_max_num_queries: Any, path: str
) -> None:
    for number in range(60):
        a_message(owner=number or None)
        a_result(owner=number, worker=f"worker {number}")
    a_worker()
    with django_assert_max_num_queries(6):
        assert admin_client.get(path).status_code == 200


@pytest.mark.parametrize("path", ADDRESSES[:-2])
def test_a_list_never_counts_and_never_fetches_payload(admin_client: Client, path: str) -> None:
    a_message()
    a_result()
    with CaptureQueriesContext(connection) as captured:
        admin_client.get(path)
    ours = [sql for sql in statements(captured) if "djtasks_message" in sql or "djtasks_result" in sql]
    assert ours
    for sql in ours:
        assert "COUNT(" not in sql.upper()
        assert "DISTINCT" not in sql.upper()
        assert not HEAVY.search(sql), sql


def fill(count: int) -> None:
    """So many results: every thousandth failed, and the oldest is that of the task `rare`."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO djtasks_result (id, done, state, name, queue, periodic)
            SELECT gen_random_uuid(), now() - n * interval '1 second',
                CASE WHEN n %% 1000 = 0 THEN 'FAILURE' ELSE 'SUCCESS' END,
                CASE WHEN n = %s THEN 'rare' ELSE 'common' END, 'celery',
                CASE WHEN n %% 10 = 0 THEN 100 + n / 10 %% 2 END
            FROM generate_series(1, %s) AS n
            """,
            [count, count],
        )
        cursor.execute("ANALYZE djtasks_result")


def test_a_list_of_200_000_results_is_neither_counted_nor_scanned(admin_client: Client) -> None:
    fill(200_000)
    for query in (
        *({}, {"state": "FAILURE"}, {"state": "SUCCESS"}, {"name": "rare"}, {"q": "rare"}, {"queue": "none"}),
        *({"time": "1h"}, {"time": "2020-01-01..2020-01-02"}, {"time": "1d", "name": "rare"}, {"q": "args:rare"}),
        *({"periodic": "100"}, {"periodic": "7"}),
    ):
        with CaptureQueriesContext(connection) as captured:
            response = admin_client.get(RESULTS, query)
        assert response.status_code == 200
        for sql in statements(captured):
            assert "COUNT(" not in sql.upper()
            if "djtasks_result" in sql:
                with connection.cursor() as cursor:
                    cursor.execute("EXPLAIN " + sql)
                    plan = "\n".join(line for (line,) in cursor.fetchall())
                assert "Seq Scan on djtasks_result" not in plan, f"{query}\n{plan}"
                assert "Bitmap" not in plan, f"{query}\n{plan}"
    assert "about 200,000 results in all" in words(admin_client.get(RESULTS))


def test_a_search_of_200_000_results_stops_halfway_and_can_be_gone_on_with(admin_client: Client) -> None:
    fill(200_000)
    response = admin_client.get(RESULTS, {"name": "rare"})
    assert below(response) == "0 results found among the 50,000 that were looked at"
    for _ in range(3):
        response = admin_client.get(RESULTS + paging(response)["search on"])
    assert len(listed(response)) == 1


def test_a_thousand_workers_are_no_thousand_queries(admin_client: Client, django_assert_max_num_queries: Any) -> None:
    values = {"host": "", "pid": 1, "boot_id": "", "pid_namespace": "", "pid_started": "", "pool": "prefork"}
    Worker.objects.bulk_create(Worker(incarnation=n, name=f"worker {n}", **values) for n in range(1500))
    for number in range(50):
        a_message(owner=number)
    with django_assert_max_num_queries(5):
        assert len(listed(admin_client.get(f"{MESSAGES}?{urlencode({'status': 'running'})}"))) == 50


@pytest.mark.django_db(databases=["default", "other"])
def test_the_rows_are_those_of_the_tasks_own_database(admin_client: Client, configure: Callable[..., None]) -> None:
    here = a_result(name="here")
    there = Result(id=uuid4(), name="there", queue="celery", state="SUCCESS", created=here.created, done=here.done)
    there.save(using="other")
    message = Message(id=there.pk, name="there", queue="celery", lane="celery", body=b"[[], {}]")
    message.save(using="other")
    configure(DATABASE="other")
    assert listed(admin_client.get(RESULTS)) == ids(there)
    page = words(admin_client.get(f"{RESULTS}{there.pk}/change/"))
    assert "there" in page
    assert "a message" in page
