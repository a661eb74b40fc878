"""The table of events, who writes into it, and who reads it."""

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from djtasks import app, shared_task
from djtasks.db import events as table
from djtasks.db.connections import open_private
from djtasks.events import Dispatcher, Receiver, reader
from djtasks.events.snapshot import Polaroid
from tests.events.conftest import Listener
from tests.waits import wait_until
from tests.worker.running import query

Listen = Callable[..., Listener]
pytestmark = pytest.mark.usefixtures("no_events")


@shared_task(name="tests.events.test_receiver.nothing")
def nothing() -> None: ...


def count() -> int:
    return int(query("SELECT count(*) FROM djtasks_event")[0][0])


def test_the_table_is_not_logged() -> None:
    assert query("SELECT relpersistence FROM pg_class WHERE relname = 'djtasks_event'") == [("u",)]


def test_the_table_keeps_no_more_than_it_may(database: str) -> None:
    with open_private("test") as conn:
        table.write(conn, [table.Event("task-custom", None, "here", "{}")] * 50)
        query(
            "UPDATE djtasks_event SET at = now() - interval '2 hours' WHERE id <= (SELECT min(id) FROM djtasks_event)"
        )
        assert table.prune(conn, 100, 3600.0) == 1
        assert table.prune(conn, 20, 3600.0, batch=10) == 10
        # One session at a time does it, the others go on with what they have to do.
        with psycopg.connect(database) as other:
            other.execute("SELECT pg_advisory_xact_lock(%s)", [table.PRUNE_KEY])
            assert table.prune(conn, 20, 3600.0) == 0
        assert table.prune(conn, 20, 3600.0) == 19
        assert count() == 20


def test_a_receiver_is_woken_by_a_ring(listen: Listen) -> None:
    listener = listen(replay=False)
    dispatcher = Dispatcher(hostname="here")
    # Until it listens.
    wait_until(lambda: dispatcher.send("custom-first") or listener.events, "it hears")
    sent = time.monotonic()
    dispatcher.send("custom-second")
    listener.one("custom-second")
    assert time.monotonic() - sent < reader.LOOK_EVERY / 2


def test_a_receiver_asks_where_nothing_rings(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    # As behind a transaction-pooling proxy.
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
    listener = listen()
    Dispatcher(hostname="here").send("custom-thing")
    listener.one("custom-thing")
    assert query("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN %%djtasks_event%%'") == [(0,)]


def test_an_event_that_is_committed_late_is_read_all_the_same(listen: Listen) -> None:
    listener = listen()
    with open_private("test") as slow:
        slow.execute("BEGIN")
        table.write(slow, [table.Event("custom-late", None, "here", "{}")])
        with Dispatcher(hostname="here") as dispatcher:
            dispatcher.send("custom-early")
        early = listener.one("custom-early")
        slow.execute("COMMIT")
    late = listener.one("custom-late")
    assert late["clock"] < early["clock"]
    assert [event["type"] for event in listener.events] == ["custom-early", "custom-late"]


def test_a_receiver_begins_anew_when_the_numbers_do(listen: Listen) -> None:
    listener = listen()
    dispatcher = Dispatcher(hostname="here")
    for _ in range(3):
        dispatcher.send("custom-before")
    listener.one("custom-before")
    # As after a crash of the server.
    query("TRUNCATE djtasks_event RESTART IDENTITY")
    dispatcher.send("custom-after")
    assert listener.one("custom-after")["clock"] == 1


def test_handlers_are_called_by_type_and_capture_has_a_limit_and_a_timeout() -> None:
    dispatcher, own, others = Dispatcher(hostname="here"), [], []
    for type_ in ("task-custom", "task-custom", "other-thing", "worker-custom"):
        dispatcher.send(type_, number=1)
    with app.connection() as conn:
        receiver = app.events.Receiver(conn, handlers={"task-custom": own.append, "*": others.append}, replay=True)
        receiver.capture(limit=4, timeout=10, wakeup=False)
        assert [event["type"] for event in own] == ["task-custom", "task-custom"]
        assert [event["type"] for event in others] == ["other-thing", "worker-custom"]
        assert others[0]["hostname"] == "here"
        assert others[0]["number"] == 1
        with pytest.raises(TimeoutError, match=r"no event came for 0\.1 seconds"):
            app.events.Receiver(conn).capture(limit=None, timeout=0.1, wakeup=True)
        some = app.events.Receiver(conn, routing_key="task.#", replay=True)
        assert [event["type"] for event in some.itercapture(limit=2, wakeup=False)] == ["task-custom"] * 2


def test_a_dispatcher_sends_what_json_can_say(database: str) -> None:
    given = str(uuid.uuid4())
    with app.events.default_dispatcher(hostname="me") as dispatcher:
        dispatcher.send("task-custom", uuid=given, text="a\0b\ud800", odd=object, inside={1: (2, float("inf"))})
        dispatcher.send("task-named", uuid="no uuid at all")
        with pytest.raises(TypeError, match="the type of an event must be a text"):
            dispatcher.send("")
    first, second = list(Receiver(replay=True).itercapture(limit=2, wakeup=False))
    assert first["uuid"] == given
    assert first["text"] == "a\N{REPLACEMENT CHARACTER}b?"
    assert first["odd"] == "<class 'object'>"
    assert first["inside"] == {"1": [2, "inf"]}
    assert second["uuid"] == "no uuid at all"


def test_a_dispatcher_is_switched_off_and_has_groups() -> None:
    off = Dispatcher(enabled=False)
    off.send("task-custom")
    some = Dispatcher(groups=["worker"])
    some.send("task-custom")
    assert count() == 0
    some.send("worker-custom")
    off.enable()
    off.send("task-custom")
    assert count() == 2
    buffered = Dispatcher(buffer_group=["task"], buffer_limit=3)
    for _ in range(4):
        buffered.send("task-custom")
    assert count() == 5
    buffered.flush()
    assert count() == 6


def test_an_event_does_not_wait_for_the_callers_transaction() -> None:
    with transaction.atomic():
        nothing.send_event("task-inside")
        transaction.set_rollback(True)
    assert [event["type"] for event in Receiver(replay=True).itercapture(limit=1, wakeup=False)] == ["task-inside"]


def test_a_call_that_is_rolled_back_was_not_sent(settings: Any) -> None:
    settings.DJTASKS = {"TASK_SEND_SENT_EVENT": True}
    for mode in ("on_commit", "in_transaction"):
        with transaction.atomic():
            nothing.apply_async(enqueue=mode)
            transaction.set_rollback(True)
        assert count() == 0
        with transaction.atomic():
            nothing.apply_async(enqueue=mode)
        assert count() == 1
        query("DELETE FROM djtasks_event")


def test_that_an_event_cannot_be_told_is_not_the_callers_problem(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DJTASKS = {"TASK_SEND_SENT_EVENT": True}
    query("ALTER TABLE djtasks_event RENAME TO djtasks_event_away")
    try:
        result = nothing.delay()
    finally:
        query("ALTER TABLE djtasks_event_away RENAME TO djtasks_event")
    assert "task-sent could not be told" in caplog.text
    assert query("SELECT count(*) FROM djtasks_message WHERE id = %s", result.id) == [(1,)]


def test_a_camera_takes_snapshots_while_events_come(listen: Listen) -> None:
    taken = []

    class Camera(Polaroid):
        clear_after = True

        def on_shutter(self, state: Any) -> None:
            taken.append((state.event_count, [task.uuid for _, task in state.tasks_by_time()]))

    state = app.events.State()
    receiver = Receiver(handlers={"*": state.event}, replay=True)
    thread = threading.Thread(target=receiver.capture, kwargs={"wakeup": False}, daemon=True)
    with Camera(state, freq=0.02):
        thread.start()
        Dispatcher(hostname="here").send("task-received", uuid="one", name="shop.add", args="()", kwargs="{}")
        wait_until(lambda: any(count for count, _ in taken), "a snapshot shows it")
    assert (1, ["one"]) in taken
    # What has not ended is kept, and the count begins anew.
    assert taken[-1] == (0, ["one"])
    receiver.should_stop = True
    Dispatcher(hostname="here").send("custom-end")
    thread.join(10)
    connection.close()

    seldom, before = Camera(state, maxrate="1/h"), len(taken)
    seldom.capture()
    seldom.capture()
    assert len(taken) == before + 1
    with pytest.raises(ValueError, match="a snapshot is taken every so many seconds"):
        Polaroid(state, freq=0)
