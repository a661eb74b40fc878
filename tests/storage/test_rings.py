"""Rings: who hears of what can be done now, and only when it is committed."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import transaction

from djtasks.db import notify
from djtasks.ids import new_task_id
from tests.storage.calls import MODES, call, committed, undone
from tests.storage.rows import Table, hire

Connect = Callable[..., psycopg.Connection]

pytestmark = committed


class Bell:
    """A worker that sleeps, and hears."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self.conn = conn
        self.channel = notify.worker_channel(hire(conn, "celery", "b", idle=True))
        conn.execute(f"LISTEN {self.channel}".encode())

    def rings(self) -> int:
        """How often it was rung since the last time. Our own notification tells that nothing else comes before it."""
        self.conn.execute(f"NOTIFY {self.channel}, 'end'".encode())
        for count, notification in enumerate(self.conn.notifies(timeout=20)):
            if notification.payload == "end":
                return count
        raise AssertionError("no notification came")


@pytest.fixture
def bell(connect: Connect) -> Bell:
    """A worker that sleeps, and hears."""
    return Bell(connect())


@pytest.mark.parametrize("mode", MODES)
def test_a_sleeping_worker_is_rung_at_once_outside_of_a_transaction(bell: Bell, mode: str) -> None:
    call(mode)
    assert bell.rings() == 1


@pytest.mark.parametrize("mode", ["on_commit", "in_transaction"])
def test_a_sleeping_worker_is_rung_once_and_only_after_the_commit(bell: Bell, mode: str) -> None:
    with transaction.atomic():
        call(mode)
        call(mode)
        with transaction.atomic(savepoint=False):
            call(mode)
        with transaction.atomic():
            call(mode)
        with undone():
            call(mode)
        assert bell.rings() == 0
    assert bell.rings() == 1


@pytest.mark.parametrize("mode", ["on_commit", "in_transaction"])
def test_a_rollback_rings_nobody(bell: Bell, mode: str) -> None:
    with undone():
        call(mode)
    with transaction.atomic(), undone():
        call(mode)
    assert bell.rings() == 0


def test_a_savepoint_that_is_rolled_back_does_not_take_the_ring_of_the_others_with_it(bell: Bell) -> None:
    with transaction.atomic():
        call("in_transaction", fields={"queue": "b"})
        with undone():
            call("in_transaction")
    assert bell.rings() == 1


def test_immediately_rings_before_the_caller_s_commit(bell: Bell) -> None:
    with transaction.atomic():
        call("immediately")
        assert bell.rings() == 1
    assert bell.rings() == 0


@pytest.mark.parametrize(
    ("fields", "rings"),
    [
        ({"countdown": 60.0}, 0),
        ({"eta": 4_000_000_000.0}, 0),
        ({"countdown": 0.5}, 1),
        ({"countdown": -1.0}, 1),
        ({"eta": 1_000_000_000.0}, 1),
        ({"queue": "nobody's"}, 0),
    ],
)
def test_only_what_may_run_now_or_soon_rings_and_only_workers_of_its_queue(
    bell: Bell, fields: dict[str, Any], rings: int
) -> None:
    call(fields=fields)
    assert bell.rings() == rings


def test_with_autocommit_off_a_ring_comes_with_the_commit(bell: Bell) -> None:
    transaction.set_autocommit(False)
    try:
        call("in_transaction")
        assert bell.rings() == 0
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert bell.rings() == 1


# -- which workers ------------------------------------------------------------------------------------------------


def test_only_sleeping_workers_of_the_queue_are_rung_and_one_more_than_there_are_messages(
    conn: psycopg.Connection,
) -> None:
    for _ in range(4):
        hire(conn, "a", "b", idle=True)
    hire(conn, "a")
    hire(conn, "c", idle=True)
    mine = hire(conn, "a", idle=True)
    assert notify.ring_workers(conn, ["a"], 1) == 2
    assert notify.ring_workers(conn, ["a", "x"], 100) == 5
    assert notify.ring_workers(conn, ["a"], 100, but=mine) == 4
    assert notify.ring_workers(conn, ["x"], 100) == 0


def test_queues_of_any_name_are_rung(conn: psycopg.Connection) -> None:
    for name in ("ä€😀", "a'b\"c\\d%s", "[]", ""):
        hire(conn, name, idle=True)
        assert notify.ring_workers(conn, [name]) == 1


# -- who waits for results ----------------------------------------------------------------------------------------


def heard(listener: psycopg.Connection) -> list[str]:
    """The payloads that have come since the last time."""
    listener.execute(f"NOTIFY {notify.RESULTS}, 'end'".encode())
    payloads: list[str] = []
    for notification in listener.notifies(timeout=20):
        if notification.payload == "end":
            return payloads
        payloads.append(notification.payload)
    raise AssertionError("no notification came")


def test_nobody_is_rung_where_nobody_waits(conn: psycopg.Connection, connect: Connect) -> None:
    listener = connect()
    listener.execute(f"LISTEN {notify.RESULTS}".encode())
    notify.ring_waiters(conn, [new_task_id()])
    notify.register_waiter(conn, 1, -1.0)
    notify.ring_waiters(conn, [new_task_id()])
    assert heard(listener) == []


def test_any_number_of_ends_fits_into_notifications(conn: psycopg.Connection, connect: Connect) -> None:
    listener = connect()
    listener.execute(f"LISTEN {notify.RESULTS}".encode())
    notify.register_waiter(conn, 1, 60.0)
    ids = [new_task_id() for _ in range(1001)]
    notify.ring_waiters(conn, ids)
    payloads = heard(listener)
    assert [task_id for payload in payloads for task_id in payload.split(",")] == ids
    assert max(map(len, payloads)) < 8000


def test_the_registrations_of_processes_that_died_are_removed_by_others(conn: psycopg.Connection, table: Table) -> None:
    notify.register_waiter(conn, 1, -120.0)
    notify.register_waiter(conn, 2, -10.0)
    notify.register_waiter(conn, 3, 60.0)
    notify.remove_waiter(conn, 3)
    assert [row["id"] for row in table.rows("SELECT id FROM djtasks_waiter")] == [2]
