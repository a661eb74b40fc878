"""How a worker's events get into their table: what is too much is dropped, what was not written is written later."""

import time

import psycopg
import pytest

from djtasks.db.connections import open_private
from djtasks.messages import Claimed, Outcome
from djtasks.worker import events as told
from djtasks.worker.event_writer import EventWriter
from djtasks.worker.events import Events, Told
from djtasks.worker.pools.base import Begun
from tests.worker.running import query

pytestmark = pytest.mark.usefixtures("no_events")
ID = "01a2008e-5beb-7c25-bbc1-56e5a232a8ac"


def message(claim: int) -> Claimed:
    return Claimed(
        claim, ID, "shop.pay", "q", 0, 0, 0, False, b"[[], {}]", "application/json", "", None, None, None, 0.0
    )


def writer_of(events: Events, held: dict[int, Claimed], running: dict[int, Begun]) -> EventWriter:
    return EventWriter(events, "here", begun=lambda: running, held=held, processed=lambda: 0)


def written() -> list[str]:
    return [row[0] for row in query("SELECT type FROM djtasks_event ORDER BY id")]


def test_more_than_can_be_written_is_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(told, "MOST", 10)
    events = Events()
    events.on = True
    for _ in range(8):
        events.put(Told("task-custom", time.time(), {}))
    events.received([message(number) for number in range(1, 6)], "here")
    events.ended([Outcome(1, ID, "SUCCESS")], {1: message(1)}, {ID})
    assert (len(events.waiting), events.dropped) == (10, 4)
    writer = writer_of(events, {}, {})
    with open_private("test") as conn:
        writer.flush(conn)
    assert written() == ["task-custom"] * 8 + ["task-received"] * 2
    assert "4 events were dropped" in caplog.text
    assert writer.counts() == {("task-custom", ""): 8, ("task-received", "shop.pay"): 2}


def test_what_was_on_its_way_when_the_connection_was_lost_is_written_later() -> None:
    events = Events()
    events.put(Told("task-custom", time.time(), {}))
    writer = writer_of(events, {}, {})
    lost = open_private("test")
    lost.close()
    with pytest.raises(psycopg.OperationalError):
        writer.flush(lost)
    assert writer.pending
    with open_private("test") as conn:
        writer.flush(conn)
    assert written() == ["task-custom"]
    assert not writer.pending


def test_a_run_begins_once_whether_it_was_seen_running_or_not() -> None:
    events, held, running = Events(), {1: message(1), 2: message(2)}, {}
    events.switch(True)
    writer = writer_of(events, held, running)
    with open_private("test") as conn:
        running[1] = Begun(time.monotonic() - 60, 7)
        for _ in range(3):
            writer.flush(conn)
        running.clear()
        now = time.time()
        for claim in (1, 2):
            events.ended([Outcome(claim, ID, "SUCCESS", started=now, runtime=0.5)], held, {ID})
        # One that was refused has become another worker's.
        events.ended([Outcome(2, ID, "SUCCESS", started=now, runtime=0.5)], held, set())
        writer.flush(conn)
        writer.close(conn)
    assert written() == [
        *("worker-online", "task-started", "task-succeeded", "task-started", "task-succeeded", "worker-offline"),
    ]
    began = query("SELECT (body -> 'timestamp')::float8 FROM djtasks_event WHERE type = 'task-started' ORDER BY id")
    assert began[0][0] == pytest.approx(now - 60, abs=20)
    assert began[1][0] == pytest.approx(now, abs=0.001)
