"""Enqueue: one statement for a batch, deduplicated by id, timed by the database's clock, whatever the text."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import DataError, connection, transaction

from djtasks.db import finish, messages, results
from djtasks.db.messages import MANY
from djtasks.ids import as_task_id, new_task_id
from djtasks.messages import Message, Progress
from tests.storage.rows import HOSTILE, NODE, Table, counting, ended, hire, message, put, take

Connect = Callable[..., psycopg.Connection]

#: One, several, and so many that they travel as binary arrays.
SIZES = [1, 3, MANY + 20]


@pytest.fixture(params=["private", "django"])
def way(request: pytest.FixtureRequest, conn: psycopg.Connection) -> Any:
    """A private connection, and Django's own: their parameters travel in different ways."""
    if request.param == "private":
        yield conn
    else:
        with transaction.atomic():
            yield connection


def row_of(way: Any, task_id: str) -> dict[str, Any]:
    """The row of a message, as the connection that wrote it sees it."""
    with way.cursor() as cursor:
        cursor.execute("SELECT * FROM djtasks_message WHERE id = %s", [task_id])
        row = cursor.fetchone()
        return {column.name: value for column, value in zip(cursor.description, row, strict=True)}


# -- order, number, identity --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", SIZES)
def test_a_batch_is_one_statement_and_keeps_its_order(conn: psycopg.Connection, table: Table, count: int) -> None:
    made = [message() for _ in range(count)][::-1]
    with counting(conn) as statements:
        assert messages.enqueue(conn, made) == {each.id for each in made}
    assert len(statements) == 1
    assert table.waiting() == [each.id for each in made]


def test_ten_thousand_messages_of_one_statement_keep_their_order(conn: psycopg.Connection) -> None:
    made = [message(body=str(number).encode()) for number in range(10_000)][::-1]
    messages.enqueue(conn, made)
    owner = hire(conn)
    found = take(conn, owner, 6_000) + take(conn, owner, 6_000)
    assert [each.body for each in found] == [each.body for each in made]


@pytest.mark.parametrize("count", SIZES)
def test_an_id_that_waits_already_is_not_written_again_and_not_returned(way: Any, count: int) -> None:
    made = [message(body=b"first") for _ in range(count)]
    messages.enqueue(way, made)
    again = [each._replace(body=b"second") for each in made]
    fresh = message()
    assert messages.enqueue(way, again) == set()
    assert messages.enqueue(way, [*again, fresh]) == {fresh.id}
    assert bytes(row_of(way, made[0].id)["body"]) == b"first"


def test_an_id_that_comes_twice_in_a_batch_is_written_once(conn: psycopg.Connection, table: Table) -> None:
    one = message(body=b"first")
    assert messages.enqueue(conn, [one, one._replace(body=b"second")]) == {one.id}
    row = table.message(one.id)
    assert row is not None
    assert row["body"] == b"first"


def test_of_many_callers_with_the_same_id_one_is_written(conn: psycopg.Connection, connect: Connect) -> None:
    shared = [as_task_id(f"nightly-{number}") for number in range(100)]
    links = [connect() for _ in range(4)]
    start = threading.Barrier(len(links))

    def work(link: psycopg.Connection) -> list[str]:
        start.wait(20)
        return [task_id for each in shared for task_id in messages.enqueue(link, [message(id=each)])]

    with ThreadPoolExecutor(len(links)) as pool:
        written = [task_id for found in pool.map(work, links) for task_id in found]
    assert sorted(written) == sorted(shared)


def test_a_message_keeps_its_id_whatever_the_case_it_was_written_in(conn: psycopg.Connection, table: Table) -> None:
    task_id = as_task_id(new_task_id().upper())
    messages.enqueue(conn, [message(id=task_id)])
    assert table.waiting() == [task_id]


# -- an id of the caller's own ------------------------------------------------------------------------------------


def over(conn: psycopg.Connection, task_id: str, state: str = "SUCCESS") -> None:
    """A task of this id has run and ended."""
    messages.enqueue(conn, [message(id=task_id)])
    [held] = take(conn, hire(conn))
    finish.finish(conn, _owner(conn, task_id), [ended(held, state)], NODE)


def _owner(conn: psycopg.Connection, task_id: str) -> int:
    found = conn.execute("SELECT owner FROM djtasks_message WHERE id = %s", [task_id]).fetchone()
    assert found is not None
    return int(found[0])


def test_the_terminal_result_of_an_own_id_is_forgotten_with_the_enqueue(conn: psycopg.Connection, table: Table) -> None:
    task_id = as_task_id("nightly")
    over(conn, task_id, "FAILURE")
    with conn.transaction(force_rollback=True):
        assert messages.enqueue(conn, [message(id=task_id)]) == {task_id}
        assert results.forget_ended(conn, [task_id]) == 1
        assert results.fetch(conn, [task_id])[task_id].state == "PENDING"
        assert table.result(task_id) is not None
    assert table.result(task_id) is not None
    assert table.messages() == 0


def test_a_state_that_is_no_end_is_not_forgotten(conn: psycopg.Connection, table: Table) -> None:
    [task_id] = put(conn)
    results.report(conn, [Progress(0, task_id, "HALFWAY", b"50")])
    assert results.forget_ended(conn, [task_id]) == 0
    assert table.result(task_id) is not None


# -- time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, MANY])
def test_a_countdown_and_a_relative_expiry_count_from_the_insert_by_the_database_s_clock(
    conn: psycopg.Connection, table: Table, count: int
) -> None:
    made = [message(countdown=30.5, expires_in=90.25, eta=1.0, expires=2.0) for _ in range(count)]
    messages.enqueue(conn, made)
    row = table.rows(
        "SELECT extract(epoch FROM eta - created)::float8 AS eta, extract(epoch FROM expires - created)::float8 AS exp"
        " FROM djtasks_message"
    )[0]
    # `created` is the statement's time too, so the difference is exact.
    assert (row["eta"], row["exp"]) == (30.5, 90.25)


def test_the_clock_starts_with_the_statement_not_with_the_transaction(conn: psycopg.Connection, table: Table) -> None:
    with conn.transaction():
        found = conn.execute("SELECT now(), pg_sleep(0.05)").fetchone()
        assert found is not None
        [task_id] = put(conn, countdown=0.0)
    row = table.message(task_id)
    assert row is not None
    assert row["eta"] > found[0]
    assert row["created"] > found[0]


@pytest.mark.parametrize(
    ("fields", "runs_now"),
    [
        ({}, True),
        ({"countdown": 0.0}, True),
        ({"countdown": -5.0}, True),
        ({"eta": 1_000_000_000.0}, True),
        ({"countdown": 60.0}, False),
        ({"eta": 4_000_000_000.0}, False),
        ({"countdown": -1.0, "eta": 4_000_000_000.0}, True),
        ({"countdown": 60.0, "eta": 1_000_000_000.0}, False),
        ({"expires_in": -60.0}, True),
    ],
)
def test_only_what_may_run_now_is_in_its_lane(
    conn: psycopg.Connection, table: Table, fields: dict[str, float], runs_now: bool
) -> None:
    [task_id] = put(conn, 1, **fields)
    row = table.message(task_id)
    assert row is not None
    assert (row["lane"], row["reason"]) == (("celery", None) if runs_now else (None, "eta"))


def test_a_batch_may_mix_what_runs_now_and_what_runs_later(conn: psycopg.Connection, table: Table) -> None:
    made = [message(), message(countdown=60.0), message(eta=4_000_000_000.0), message(expires_in=5.0)]
    messages.enqueue(conn, made)
    assert table.waiting() == [made[0].id, made[3].id]


# -- what is written is what is read ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", SIZES)
def test_any_text_comes_back_as_it_was(way: Any, count: int) -> None:
    for text in HOSTILE:
        fields = {"name": text, "queue": text[:200], "headers": text, "content_type": text, "content_encoding": text}
        made = [message() for _ in range(count - 1)]
        messages.enqueue(way, [*made, hostile := message(**fields, body=text.encode() + b"\x00\xff")])
        row = row_of(way, hostile.id)
        assert {key: row[key] for key in fields} == fields
        assert bytes(row["body"]) == text.encode() + b"\x00\xff"
        assert row["lane"] == text[:200]


@pytest.mark.parametrize("count", SIZES)
def test_a_nul_or_a_lone_surrogate_in_a_text_is_refused_whole(
    conn: psycopg.Connection, table: Table, count: int
) -> None:
    for field in ("name", "queue", "headers", "content_type", "content_encoding"):
        for text, error in (("a\0b", psycopg.DataError), ("a\udc80b", UnicodeEncodeError)):
            made = [*(message() for _ in range(count - 1)), message(**{field: text})]
            with pytest.raises(error):
                messages.enqueue(conn, made)
    assert table.messages() == 0
    assert messages.enqueue(conn, [message()])


@pytest.mark.parametrize("count", SIZES)
def test_django_s_connection_says_django_s_errors(count: int) -> None:
    made = [*(message() for _ in range(count - 1)), message(name="a\0b")]
    with pytest.raises(DataError), transaction.atomic():
        messages.enqueue(connection, made)
    assert connection.is_usable()


@pytest.mark.parametrize("count", SIZES)
def test_the_bounds_of_every_number_come_back(way: Any, count: int) -> None:
    made: list[Message] = [message() for _ in range(count - 1)]
    extremes = message(priority=-32768, retries=2**31 - 1, eta=-62_000_000_000.5, expires=250_000_000_000.0)
    messages.enqueue(way, [*made, extremes])
    row = row_of(way, extremes.id)
    assert (row["priority"], row["retries"]) == (-32768, 2**31 - 1)


@pytest.mark.parametrize("count", SIZES)
def test_one_message_and_many_write_the_same_row(way: Any, count: int) -> None:
    fields: dict[str, Any] = {
        "name": "n",
        "queue": "q",
        "body": b"b",
        "content_type": "t",
        "content_encoding": "e",
        "priority": 3,
        "retries": 4,
        "headers": "{}",
    }
    made = [message(**fields) for _ in range(count)]
    messages.enqueue(way, made)
    row = row_of(way, made[0].id)
    found = {key: bytes(row[key]) if key == "body" else row[key] for key in fields}
    assert found == fields
    nothing = ("owner", "claim", "eta", "expires", "reason")
    assert [row[key] for key in nothing] == [None] * len(nothing)
    assert (row["lane"], row["crashes"], row["rerun"]) == ("q", 0, False)


def test_a_time_that_is_no_number_is_refused(conn: psycopg.Connection, table: Table) -> None:
    with pytest.raises(psycopg.Error):
        put(conn, eta=math.nan)
    assert table.messages() == 0
