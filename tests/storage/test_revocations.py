"""Revocations against the real tables: what a claim sees of them, what a sweep does, and races that end once."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from djtasks import control, signals
from djtasks.db import control as commands
from djtasks.db import revocations
from djtasks.worker.pulse import Pulse
from djtasks.worker.state import State
from tests.storage.rows import NODE, Table, hire, put, take
from tests.waits import wait_until

Connect = Callable[..., psycopg.Connection]

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["djtasks"])


@pytest.fixture
def pulse() -> Pulse:
    """A pulse that does not beat by itself."""
    return Pulse(
        State(0),
        NODE,
        tell=lambda news: None,
        concurrency=lambda: 1,
        process_group=lambda: 1,
        known=lambda: [],
        queues=["celery"],
    )


@pytest.fixture
def told() -> Iterator[list[dict[str, Any]]]:
    """What receivers of task_revoked are told."""
    found: list[dict[str, Any]] = []

    def receive(sender: Any, request: Any, **arguments: Any) -> None:
        arguments.pop("signal")
        found.append({"sender": sender, "id": request.id, **arguments})

    signals.task_revoked.connect(receive)
    yield found
    signals.task_revoked.disconnect(receive)


def stamped(**stamps: Any) -> str:
    """The headers of a message with these stamps."""
    return json.dumps({"stamped_headers": list(stamps), "stamps": stamps})


def test_a_claim_is_not_suspect_while_there_is_no_revocation(conn: psycopg.Connection) -> None:
    put(conn, 2)
    owner = hire(conn)
    assert [message.suspect for message in take(conn, owner, 1)] == [False]
    control.revoke("another")
    assert [message.suspect for message in take(conn, owner, 1)] == [True]


def test_revoke_waits_for_a_claim_in_flight_and_tells_its_worker(
    conn: psycopg.Connection, connect: Connect, table: Table
) -> None:
    [task_id] = put(conn)
    owner = hire(conn)
    claimer, listener = connect(), connect()
    listener.execute(f"LISTEN djtasks_worker_{owner}".encode())
    with ThreadPoolExecutor(1) as threads, claimer.transaction():
        [message] = take(claimer, owner)
        revoking = threads.submit(control.revoke, task_id, terminate=True)
        waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'djtasks control' AND wait_event_type = 'Lock'"
        wait_until(lambda: table.rows(waits), "it waits")
        assert not message.suspect
        claimer.execute("COMMIT; BEGIN")
        assert revoking.result(10) == {task_id: "signalled"}
    assert [found.payload for found in listener.notifies(timeout=5, stop_after=1)] == ["control"]
    assert revocations.matching(conn, [task_id]) == {task_id: (True, 15)}


def test_a_sweep_ends_what_was_put_back_or_has_come_after_it_was_revoked(
    conn: psycopg.Connection, pulse: Pulse, table: Table
) -> None:
    ended: list[str] = []
    pulse.ended = lambda message, outcome: ended.append(message.id)
    root = "00000000-0000-7000-8000-000000000001"
    control.revoke(root, workflow=True)
    control.revoke_by_stamped_headers({"tenant": "x"})
    late, child = "00000000-0000-7000-8000-000000000002", "00000000-0000-7000-8000-000000000003"
    control.revoke(late)
    put(conn, id=late, countdown=3600.0)
    put(conn, id=child, root_id=root, countdown=3600.0)
    [marked] = put(conn, headers=stamped(tenant=["w", "x"]), countdown=3600.0)
    put(conn, headers=stamped(tenant="y"), countdown=3600.0)
    put(conn, headers='{"stamped_headers": ["tenant"], "stamps": "no dict"}')
    put(conn, headers='{"stamped_headers"')
    put(conn, countdown=3600.0)
    pulse.revoke(conn)
    assert set(ended) == {late, child, marked}
    assert table.messages() == 4
    states = table.rows("SELECT state FROM djtasks_result")
    assert [row["state"] for row in states] == ["REVOKED"] * 3


def test_a_revocation_is_forgotten_when_its_time_is_over(conn: psycopg.Connection, pulse: Pulse, table: Table) -> None:
    with override_settings(DJTASKS={"REVOCATION_EXPIRES": timedelta(milliseconds=1)}):
        control.revoke("soon over")
    control.revoke("later")
    [row] = table.rows("SELECT count(*) FROM djtasks_revocation WHERE expires < now() + interval '2 hours 59 minutes'")
    assert row["count"] == 1
    pulse.revoke(conn)
    assert table.value("SELECT count(*) FROM djtasks_revocation") == 1


def test_what_has_expired_and_is_revoked_ends_once_and_is_told_once(
    conn: psycopg.Connection, connect: Connect, pulse: Pulse, table: Table, told: list[dict[str, Any]]
) -> None:
    swept: list[str] = []
    pulse.ended = lambda message, outcome: swept.append(message.id)
    ids = put(conn, 300, expires_in=0.0)
    with ThreadPoolExecutor(2) as threads:
        expiring = threads.submit(pulse.expire, connect())
        said = threads.submit(control.revoke, ids).result(30)
        expiring.result(30)
    assert (table.messages(), table.results()) == (0, 300)
    revoked = {each["id"] for each in told}
    assert len(told) + len(swept) == 300
    assert revoked.isdisjoint(swept)
    assert set(said.of("prevented")) == revoked
    assert set(said.of("done")) == set(swept)


def test_the_receivers_of_task_revoked_are_told_of_what_a_caller_revokes(
    conn: psycopg.Connection, told: list[dict[str, Any]]
) -> None:
    [task_id] = put(conn, name="tests.unknown.here")
    control.revoke(task_id)
    assert told == [
        {"sender": "tests.unknown.here", "id": task_id, "terminated": False, "signum": None, "expired": False}
    ]


def test_two_who_revoke_the_same_tasks_at_once_end_each_once(conn: psycopg.Connection, table: Table) -> None:
    ids = put(conn, 400)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda part: control.revoke(part), [ids, ids[::-1], ids[::2], ids[1::2]]))
    assert sum(len(answer.of("prevented")) for answer in answers) == 400
    assert all(set(answer.values()) <= {"prevented", "done"} for answer in answers)
    assert (table.messages(), table.results()) == (0, 400)


def test_a_second_revocation_can_only_add(conn: psycopg.Connection) -> None:
    [task_id] = put(conn)
    take(conn, hire(conn, pool="solo"))
    assert control.revoke(task_id, terminate=True, signal="KILL") == {task_id: "running"}
    assert control.revoke(task_id) == {task_id: "running"}
    assert revocations.matching(conn, [task_id]) == {task_id: (True, 9)}


def test_what_a_worker_without_a_row_holds_is_noted(conn: psycopg.Connection) -> None:
    [task_id] = put(conn)
    owner = hire(conn)
    take(conn, owner)
    conn.execute("DELETE FROM djtasks_worker")
    assert control.revoke(task_id, terminate=True) == {task_id: "noted"}


def test_purge_throws_away_what_waits_in_these_queues(conn: psycopg.Connection, table: Table) -> None:
    put(conn, 3, queue="one")
    put(conn, 2, queue="one", countdown=60.0)
    put(conn, 1, queue="two")
    assert control.purge(["one"]) == 5
    assert control.purge(["one"]) == 0
    assert (table.messages(), table.results()) == (1, 0)


def test_commands_and_their_answers_are_forgotten(conn: psycopg.Connection, table: Table) -> None:
    old = commands.send(conn, "ping", {}, None, seconds=-120)
    new = commands.send(conn, "ping", {}, ["a"], seconds=60)
    for number in (old, new):
        commands.reply(conn, number, "a", {"ok": "pong"})
    commands.reply(conn, 10**9, "a", {"ok": "too late"})
    assert [command.id for command in commands.inbox(conn, [])] == [new]
    assert commands.inbox(conn, [new]) == []
    assert commands.prune(conn) == 1
    assert table.value("SELECT count(*) FROM djtasks_reply") == 1


WORDS = some.sampled_from(["a", "b", "c"])
VALUES = some.one_of(some.integers(0, 2), WORDS, some.none(), some.booleans())
STAMPS = some.dictionaries(WORDS, some.one_of(VALUES, some.lists(VALUES, max_size=3)), max_size=3)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    messages=some.lists(STAMPS, max_size=6), meant=STAMPS.filter(lambda stamps: any(v != [] for v in stamps.values()))
)
def test_a_stamp_means_a_task_when_any_of_its_values_is_any_of_theirs(
    conn: psycopg.Connection, messages: list[dict[str, Any]], meant: dict[str, Any]
) -> None:
    def many(value: Any) -> set[str]:
        return {json.dumps(each) for each in (value if isinstance(value, list) else [value])}

    conn.execute("DELETE FROM djtasks_message")
    ids = [put(conn, headers=stamped(**stamps))[0] for stamps in messages]
    expected = {
        task_id
        for task_id, stamps in zip(ids, messages, strict=True)
        if any(many(value) & many(stamps[name]) for name, value in meant.items() if name in stamps)
    }
    assert set(control.revoke_by_stamped_headers(meant).of("prevented")) == expected
