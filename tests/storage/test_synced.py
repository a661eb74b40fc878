"""What code says of periodic tasks becomes rows, and edits of them are kept."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from djtasks import codeschedules, crontab
from djtasks.beat.scheduler import Scheduler
from djtasks.beat.sync import sync
from djtasks.codeschedules import CLEANUP, Fault
from djtasks.periodic import Entry, entry_of_code
from tests.storage.periodic import due_since, periodic, tick

Say = Callable[..., None]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Say:
    """Let the code say this and nothing else."""

    def say_this(**definitions: Any) -> None:
        entries = {name: entry_of_code(name, said, "settings") for name, said in definitions.items()}
        monkeypatch.setattr(codeschedules, "said", lambda: entries)

    monkeypatch.setattr(codeschedules, "faults", list)
    say_this()
    return say_this


@pytest.fixture
def rows(conn: psycopg.Connection) -> Callable[[], dict[str, dict[str, Any]]]:
    """The periodic tasks, by name."""

    def read() -> dict[str, dict[str, Any]]:
        with conn.cursor(row_factory=dict_row) as cursor:
            found = cursor.execute("SELECT * FROM djtasks_periodic_task").fetchall()
        return {each["name"]: each for each in found}

    return read


def definition(**more: Any) -> dict[str, Any]:
    """An entry as BEAT_SCHEDULE has it."""
    return {"task": "tests.add", "schedule": 30.0, "args": (1, 2), **more}


def test_what_the_code_says_becomes_a_row(conn: psycopg.Connection, say: Say, rows: Any) -> None:
    say(add=definition(options={"queue": "q", "expires": 60}), nightly=definition(schedule=crontab("5", "4")))
    assert sync(conn)
    found = rows()
    assert found.keys() == {"add", "nightly"}
    add, nightly = found["add"], found["nightly"]
    assert (add["kind"], add["every"], add["period"], add["queue"]) == ("interval", 30, "seconds", "q")
    assert (add["args"], add["expire_seconds"], add["source"]) == ([1, 2], 60, "settings")
    assert (nightly["minute"], nightly["hour"], nightly["overridden"], nightly["vanished"]) == ("5", "4", False, False)
    assert Scheduler().tick(conn) == 0.0
    assert tick(conn, add["id"])["next_in"] == pytest.approx(30, abs=3)


def test_a_second_start_changes_nothing(conn: psycopg.Connection, say: Say, rows: Any) -> None:
    say(add=definition(kwargs={"z": 1.5}), clocked=definition(schedule=timedelta(hours=1)))
    sync(conn)
    before = rows()
    due = due_since(conn, before["add"]["id"], 1)
    conn.execute("SET TimeZone TO 'Asia/Kathmandu'")
    sync(conn)
    assert rows() == before
    assert tick(conn, before["add"]["id"])["next_run_at"] == due


def test_a_change_of_the_code_changes_the_row(conn: psycopg.Connection, say: Say, rows: Any) -> None:
    say(add=definition())
    sync(conn)
    say(add=definition(args=(3, 4), schedule=60))
    sync(conn)
    assert (rows()["add"]["args"], rows()["add"]["every"], rows()["add"]["overridden"]) == ([3, 4], 1, False)
    assert rows()["add"]["period"] == "minutes"


def test_an_edit_is_kept_and_marked_whatever_the_code_says_later(conn: psycopg.Connection, say: Say, rows: Any) -> None:
    say(add=definition())
    sync(conn)
    conn.execute("UPDATE djtasks_periodic_task SET every = 45")
    sync(conn)
    assert (rows()["add"]["every"], rows()["add"]["overridden"]) == (45, True)
    say(add=definition(schedule=20))
    sync(conn)
    assert (rows()["add"]["every"], rows()["add"]["overridden"]) == (45, True)
    assert rows()["add"]["said"]["every"] == 20
    conn.execute("UPDATE djtasks_periodic_task SET every = 20")
    sync(conn)
    assert rows()["add"]["overridden"] is False


def test_one_that_somebody_has_switched_off_stays_so(conn: psycopg.Connection, say: Say, rows: Any) -> None:
    say(add=definition())
    sync(conn)
    conn.execute("UPDATE djtasks_periodic_task SET enabled = false")
    sync(conn)
    assert (rows()["add"]["enabled"], rows()["add"]["overridden"]) == (False, True)


def test_one_that_vanishes_is_switched_off_and_one_that_comes_back_is_switched_on(
    conn: psycopg.Connection, say: Say, rows: Any
) -> None:
    say(stays=definition(), goes=definition())
    sync(conn)
    say(stays=definition())
    sync(conn)
    sync(conn)
    found = rows()
    assert (found["goes"]["enabled"], found["goes"]["vanished"]) == (False, True)
    assert (found["stays"]["enabled"], found["stays"]["vanished"]) == (True, False)
    say(stays=definition(), goes=definition(args=(7, 7)))
    sync(conn)
    found = rows()
    assert (found["goes"]["enabled"], found["goes"]["vanished"], found["goes"]["args"]) == (True, False, [7, 7])


def test_one_that_was_off_before_it_vanished_comes_back_off(conn: psycopg.Connection, say: Say, rows: Any) -> None:
    say(add=definition())
    sync(conn)
    conn.execute("UPDATE djtasks_periodic_task SET enabled = false")
    say()
    sync(conn)
    say(add=definition())
    sync(conn)
    assert (rows()["add"]["enabled"], rows()["add"]["vanished"]) == (False, False)


def test_rows_of_people_never_vanish_and_never_change(
    conn: psycopg.Connection, say: Say, rows: Any, caplog: pytest.LogCaptureFixture
) -> None:
    periodic(conn, name="by hand")
    periodic(conn, name="other")
    before = rows()
    say(**{"by hand": definition()})
    with caplog.at_level(logging.WARNING, "djtasks.beat"):
        sync(conn)
    assert rows() == before
    assert "was made in the database" in caplog.text


def test_one_that_has_run_its_one_time_does_not_come_back(conn: psycopg.Connection, say: Say, rows: Any) -> None:
    say(add=definition(one_off=True))
    sync(conn)
    due_since(conn, rows()["add"]["id"], 1)
    while Scheduler().tick(conn) == 0.0:
        pass
    sync(conn)
    assert (rows()["add"]["enabled"], rows()["add"]["overridden"]) == (False, False)


def test_an_entry_that_cannot_be_is_told_and_the_others_are_written(
    conn: psycopg.Connection, say: Say, rows: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    say(good=definition(), faulty=definition())
    sync(conn)
    entries = {
        "bad": Entry("bad", "tests.add", "interval", every=-1, period="seconds", source="code"),
        "nul": Entry("nul", "tests.add", "interval", every=1, period="seconds", args=["\0"], source="code"),
        **{name: each for name, each in codeschedules.said().items() if name == "good"},
        "new": entry_of_code("new", definition(), "code"),
    }
    monkeypatch.setattr(codeschedules, "said", lambda: entries)
    monkeypatch.setattr(codeschedules, "faults", lambda: [Fault("faulty", "settings", "It is wrong.")])
    with caplog.at_level(logging.ERROR, "djtasks.beat"):
        sync(conn)
    found = rows()
    assert found.keys() == {"good", "faulty", "new"}
    # What is wrong is not gone.
    assert found["faulty"]["enabled"]
    for text in ("It is wrong.", "'bad'", "'nul'"):
        assert text in caplog.text


def test_a_row_that_somebody_writes_is_left_for_the_next_time(
    conn: psycopg.Connection, connect: Any, say: Say, rows: Any
) -> None:
    say(add=definition())
    sync(conn)
    editor = connect()
    with editor.transaction():
        editor.execute("UPDATE djtasks_periodic_task SET description = 'new'")
        say(add=definition(args=(5, 5)), new=definition())
        assert not sync(conn)
        assert rows()["new"]["args"] == [1, 2]
    assert sync(conn)
    assert rows()["add"]["overridden"]


def test_the_clean_up_of_results_is_a_row_at_four_in_the_morning(conn: psycopg.Connection, rows: Any) -> None:
    sync(conn)
    found = rows()[CLEANUP]
    assert (found["task"], found["source"], found["hour"], found["minute"]) == (CLEANUP, "builtin", "4", "0")
    assert found["expire_seconds"] == 12 * 3600
