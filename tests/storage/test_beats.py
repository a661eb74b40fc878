"""The service in a thread: its row, its signals, and what does not end it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection

from djtasks import signals
from djtasks.beat.scheduler import Scheduler
from djtasks.beat.service import MAX_INTERVAL, Beat, BeatOptions, BeatThread
from djtasks.conf import settings
from djtasks.db import beats
from djtasks.db.beats import Registration
from djtasks.db.connections import LOST, Link
from tests.storage.periodic import due_since, messages, periodic, tick
from tests.storage.proxy import Cut, Proxy
from tests.waits import wait_until


@pytest.fixture
def rows(conn: psycopg.Connection) -> Callable[[], list[tuple[Any, ...]]]:
    """The rows of beats."""
    return lambda: conn.execute("SELECT incarnation, embedded, sent FROM djtasks_beat").fetchall()


@contextmanager
def running(**options: Any) -> Iterator[BeatThread]:
    """A beat in a thread."""
    thread = BeatThread(BeatOptions(**options))
    thread.start()
    try:
        yield thread
    finally:
        thread.stop(20)
    assert not thread.is_alive()


def test_a_beat_has_a_row_while_it_runs_and_says_what_it_is(conn: psycopg.Connection, rows: Any) -> None:
    heard: list[Any] = []

    def hear(sender: Any, signal: Any, **_: Any) -> None:
        heard.append((sender, signal))

    for signal in (signals.beat_init, signals.beat_embedded_init):
        signal.connect(hear)
    try:
        for embedded, signal in ((True, signals.beat_embedded_init), (False, signals.beat_init)):
            with running(embedded=embedded) as thread:
                wait_until(rows, "it has its row")
                assert rows() == [(thread.beat.registration.incarnation, embedded, 0)]
                assert heard == [(thread.beat, signal)]
            assert rows() == []
            heard.clear()
    finally:
        for signal in (signals.beat_init, signals.beat_embedded_init):
            signal.disconnect(hear)


def test_a_beat_that_was_killed_is_taken_off_the_list_by_the_others(conn: psycopg.Connection, rows: Any) -> None:
    dead, alive = (Registration(number, f"beat@{number}", "here", number, False) for number in (1, 3))
    for each in (dead, alive):
        beats.beat(conn, each, 7)
    conn.execute("UPDATE djtasks_beat SET heartbeat = heartbeat - interval '2 minutes' WHERE incarnation = 1")
    assert beats.prune(conn, 60) == ["beat@1"]
    assert rows() == [(3, False, 7)]
    # It was not dead after all.
    beats.beat(conn, dead, 8)
    assert (1, False, 8) in rows()


def test_an_error_of_a_tick_ends_no_beat(
    conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    errors = [ValueError("a mistake"), psycopg.errors.DeadlockDetected("once more"), psycopg.OperationalError("gone")]
    with running() as thread:
        own = thread.beat.scheduler.tick

        def ticking(conn: psycopg.Connection) -> float | None:
            if errors:
                raise errors.pop(0)
            return own(conn)

        monkeypatch.setattr(thread.beat.scheduler, "tick", ticking)
        with caplog.at_level(logging.WARNING, "djtasks.beat"):
            task = periodic(conn)
            wait_until(lambda: tick(conn, task)["next_run_at"], "it goes on")
    for text in ("a mistake", "once more", "Lost the database (gone)"):
        assert text in caplog.text


def test_it_sleeps_no_longer_than_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BeatOptions().longest == settings.BEAT_MAX_LOOP_INTERVAL == MAX_INTERVAL
    assert BeatOptions(max_interval=3).longest == 3


def test_it_stops_at_once_however_long_it_would_sleep(conn: psycopg.Connection, rows: Any) -> None:
    beat = Beat()
    beat.stop()
    beat.run()
    assert rows() == []


@pytest.mark.parametrize("cuts", [["before"], ["after"], ["before", "after", "before"]])
@pytest.mark.parametrize("marker", [b"INSERT INTO djtasks_message", b"UPDATE djtasks_tick", b"COMMIT"])
def test_a_due_time_is_sent_once_wherever_the_wire_was_cut(
    conn: psycopg.Connection, marker: bytes, cuts: list[Cut]
) -> None:
    task = periodic(conn)
    due = due_since(conn, task, 1)
    address = connection.settings_dict
    before = address["HOST"], address["PORT"]
    wire, link, scheduler = Proxy(conn.info.host, conn.info.port, marker), Link("test"), Scheduler()
    address["HOST"], address["PORT"] = "127.0.0.1", wire.port
    wire.cuts = list(cuts)
    try:
        while tick(conn, task)["next_in"] < 0:
            try:
                scheduler.tick(link.connection())
            except LOST:
                link.lost()
        # Whether that was heard or not, it is committed: this one finds nothing.
        scheduler.tick(conn)
    finally:
        link.close()
        wire.close()
        address["HOST"], address["PORT"] = before
    assert [each["created"] >= due for each in messages(conn, task)] == [True]
    assert (tick(conn, task)["total_run_count"], tick(conn, task)["last_run_at"]) == (1, due)
    assert wire.cuts != cuts
