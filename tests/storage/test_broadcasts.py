"""Broadcasts: one message becomes one for each live worker of its queue, all of them or none."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.test import override_settings

from djtasks.db import messages, queues, revocations
from djtasks.payload import pack_call, unpack_call
from djtasks.worker import broadcasts
from djtasks.worker.claimer import Claimer
from djtasks.worker.identity import new_incarnation
from djtasks.worker.lanes import Lanes
from djtasks.worker.state import State
from tests.keys import Keys
from tests.storage.rows import Table, hire, message, put, take
from tests.storage.test_claimer import registration

ROWS = """
    SELECT id::text, lane, queue, priority, parent_id::text, root_id::text, headers,
        extract(epoch FROM expires - created)::float8 AS lasts
    FROM djtasks_message ORDER BY lane, position
"""


@pytest.fixture(autouse=True)
def declared() -> Iterator[None]:
    """The queue `news` is broadcast."""
    with override_settings(DJTASKS={"TASK_QUEUES": {"celery": {}, "news": {"broadcast": True}}}):
        yield


@pytest.fixture
def three(conn: psycopg.Connection) -> list[int]:
    """Three workers that hear the news, and one that does not; one more has had no heartbeat for long."""
    found = [hire(conn, "news", f"news.w{number}", name=f"w{number}", idle=True) for number in (1, 2, 3)]
    hire(conn, "celery", name="deaf")
    lost = hire(conn, "news", "news.lost", name="lost")
    conn.execute(
        "UPDATE djtasks_worker SET heartbeat = statement_timestamp() - interval '1 hour' WHERE incarnation = %s", [lost]
    )
    return found


def test_what_is_sent_is_passed_on_to_every_live_worker_of_the_queue(
    conn: psycopg.Connection, three: list[int], table: Table
) -> None:
    follows = {"callbacks": [1], "errbacks": [2], "chord": {}, "group": "g", "group_index": 1, "task_id": "nightly"}
    text = json.dumps({**follows, "timelimit": [9, 8], "chain": [3]})
    [sent] = put(conn, queue="news", priority=4, headers=text, chord=None)
    assert broadcasts.pass_on(conn, "w2", ["news"])
    rows = {row["lane"]: row for row in table.rows(ROWS)}
    assert sorted(rows) == ["news.w1", "news.w2", "news.w3"]
    own = rows.pop("news.w2")
    assert (own["id"], own["queue"], own["headers"], own["parent_id"]) == (sent, "news.w2", text, None)
    for row in rows.values():
        assert (row["queue"], row["priority"], row["parent_id"], row["root_id"]) == (row["lane"], 4, sent, sent)
        assert json.loads(row["headers"]) == {"timelimit": [9, 8], "root_id": "nightly", "parent_id": "nightly"}
    # The worker that they are for may never come back.
    assert all(row["lasts"] == pytest.approx(broadcasts.KEPT, abs=1) for row in (own, *rows.values()))
    assert not broadcasts.pass_on(conn, "w1", ["news"])
    assert [each.id for each in take(conn, three[1], 5, "news.w2")] == [sent]


def test_two_workers_that_pass_on_at_once_make_no_copy_twice(
    conn: psycopg.Connection, connect: Callable[..., psycopg.Connection], three: list[int], table: Table
) -> None:
    put(conn, 250, queue="news")
    others = [connect(), connect()]

    def work(number: int) -> None:
        while broadcasts.pass_on(others[number], f"w{number + 1}", ["news"]):
            pass

    with ThreadPoolExecutor() as threads:
        list(threads.map(work, range(2)))
    while broadcasts.pass_on(conn, "w3", ["news"]):
        pass
    counts = table.rows("SELECT lane, count(*) FROM djtasks_message GROUP BY lane ORDER BY lane")
    assert [(row["lane"], row["count"]) for row in counts] == [(f"news.w{number}", 250) for number in (1, 2, 3)]


def test_a_worker_that_dies_in_the_middle_has_passed_on_nothing(
    conn: psycopg.Connection,
    connect: Callable[..., psycopg.Connection],
    three: list[int],
    table: Table,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = put(conn, 2, queue="news")
    dying = connect()
    # Its session ends before its COMMIT.
    killed = dying.info.backend_pid

    def die(*_: Any) -> None:
        conn.execute("SELECT pg_terminate_backend(%s)", [killed])
        raise psycopg.OperationalError("the server has closed the connection")

    monkeypatch.setattr(broadcasts.table, "readdress", die)
    with pytest.raises(psycopg.OperationalError):
        broadcasts.pass_on(dying, "w1", ["news"])
    monkeypatch.undo()
    assert [(row["id"], row["lane"]) for row in table.rows(ROWS)] == [(each, "news") for each in sent]
    assert broadcasts.pass_on(conn, "w2", ["news"])
    assert len(table.rows(ROWS)) == 6


def test_what_is_paused_waits_and_what_is_revoked_or_too_late_is_not_copied(
    conn: psycopg.Connection, three: list[int], table: Table
) -> None:
    revoked, late = put(conn, queue="news"), put(conn, queue="news", expires_in=0.0)
    revocations.revoke_tasks(conn, revoked, terminate=False, signal=None, seconds=60.0, by="")
    queues.pause(conn, ["news"])
    assert not broadcasts.pass_on(conn, "w1", ["news"])
    queues.resume(conn, ["news"])
    assert broadcasts.pass_on(conn, "w1", ["news"])
    assert [(row["id"], row["lane"]) for row in table.rows(ROWS)] == [(each, "news.w1") for each in revoked + late]


def test_with_no_live_worker_it_waits_for_the_first_one(conn: psycopg.Connection, table: Table) -> None:
    [sent] = put(conn, queue="news")
    node = registration()._replace(queues=["news", "news.celery@test"])
    claimer = Claimer(State(new_incarnation()), Lanes(node.queues, node.name), lambda: node)
    assert [each.id for each in claimer.claim(conn, 5, 0)] == [sent]
    # And nothing is taken from the broadcast queue itself.
    assert [scan.lane for scan in claimer.lanes.scans()] == ["news.celery@test"]
    assert claimer.lanes.names == ["news", "news.celery@test"]
    assert table.rows(ROWS)[0]["queue"] == "news.celery@test"


def test_a_worker_that_sleeps_is_rung_for_its_copy(
    conn: psycopg.Connection, connect: Callable[..., psycopg.Connection], three: list[int]
) -> None:
    listener = connect()
    listener.execute(f"LISTEN djtasks_worker_{three[2]}".encode())
    put(conn, queue="news")
    broadcasts.pass_on(conn, "w1", ["news"])
    assert [note.channel for note in listener.notifies(timeout=5, stop_after=1)] == [f"djtasks_worker_{three[2]}"]


def test_copies_of_a_signed_call_are_signed_and_of_a_forged_one_there_are_none(
    conn: psycopg.Connection, three: list[int], table: Table, tmp_path: Any
) -> None:
    with override_settings(DJTASKS=Keys(tmp_path).settings(TASK_QUEUES={"news": {"broadcast": True}})):
        true = message(queue="news", name="tests.add")
        content_type, encoding, body = pack_call("tests.add", (1, 2), {}, None, "gzip", true.id, None)
        true = true._replace(content_type=content_type, content_encoding=encoding, body=body)
        forged = message(queue="news", name="tests.other", content_type=content_type, body=body)
        messages.enqueue(conn, [true, forged])
        assert broadcasts.pass_on(conn, "w1", ["news"])
        found = [each for number, worker in enumerate(three, 1) for each in take(conn, worker, 9, f"news.w{number}")]
        assert sorted(each.name for each in found) == ["tests.add", "tests.add", "tests.add", "tests.other"]
        for each in found:
            if each.name == "tests.add":
                call = (each.body, each.content_type, each.content_encoding, each.name, each.id, each.headers)
                assert unpack_call(*call) == ([1, 2], {})
