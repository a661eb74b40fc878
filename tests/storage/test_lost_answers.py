"""An enqueue whose answer is lost: it is tried again, and never makes a task run twice or vanish unsaid."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, transaction
from django.test import override_settings

from djtasks import Task, outbox
from djtasks.db import finish
from djtasks.delivery import Part, Posting
from djtasks.exceptions import EnqueueUncertain
from djtasks.ids import as_task_id, new_task_id
from djtasks.messages import Chord, Message
from tests.storage.proxy import Cut, Proxy
from tests.storage.rows import NODE, Table, ended, hire, message, put, take
from tests.waits import wait_until

Connect = Callable[..., psycopg.Connection]

# Only our own tables are emptied after a test: that is quicker by far.
pytestmark = pytest.mark.django_db(transaction=True, available_apps=["djtasks"])

AT_ONCE = {"TASK_PUBLISH_RETRY_POLICY": {"max_retries": 3, "interval_start": 0, "interval_step": 0, "interval_max": 0}}


@pytest.fixture
def proxy(table: Table, conn: psycopg.Connection) -> Iterator[Proxy]:
    """Django's connection goes through this wire; those of the test do not."""
    connection.close()
    address = connection.settings_dict
    before = address["HOST"], address["PORT"]
    wire = Proxy(conn.info.host, conn.info.port)
    address["HOST"], address["PORT"] = "127.0.0.1", wire.port
    with override_settings(DJTASKS=AT_ONCE):
        yield wire
    connection.close()
    address["HOST"], address["PORT"] = before
    wire.close()


@pytest.fixture(params=["plain", "immediately in a transaction"])
def way(request: pytest.FixtureRequest, proxy: Proxy) -> Iterator[dict[str, Any]]:
    """The two ways on which nobody else's transaction answers for the message."""
    if request.param == "plain":
        yield {}
    else:
        with transaction.atomic():
            yield {"mode": "immediately"}


@pytest.fixture
def run_all(conn: psycopg.Connection) -> Callable[[], None]:
    """Be a worker that runs everything there is."""

    def run() -> None:
        owner = hire(conn)
        found = take(conn, owner)
        if found:
            finish.finish(conn, owner, [ended(each, result=b'"new"') for each in found], NODE)

    return run


CUTS: list[list[Cut]] = [["before"], ["after"], ["before", "before"], ["after", "after"], ["after", "before", "after"]]


@pytest.mark.parametrize("cuts", CUTS)
def test_a_message_is_there_exactly_once_wherever_the_wire_was_cut(
    way: dict[str, Any], proxy: Proxy, table: Table, cuts: list[Cut]
) -> None:
    proxy.cuts = list(cuts)
    sent = message()
    outbox.enqueue(sent, **way)
    assert proxy.cuts == []
    assert table.waiting() == [sent.id]


@pytest.mark.parametrize("cuts", [["after"], ["after", "before"], ["after", "after"]])
def test_a_task_that_has_already_ended_is_not_enqueued_again(
    way: dict[str, Any], proxy: Proxy, table: Table, run_all: Callable[[], None], cuts: list[Cut]
) -> None:
    proxy.cuts, proxy.meanwhile = list(cuts), run_all
    sent = message()
    outbox.enqueue(sent, **way)
    assert proxy.cuts == []
    assert table.messages() == 0
    row = table.result(sent.id)
    assert row is not None
    assert row["result"] == b'"new"'


def test_of_a_batch_only_what_has_not_ended_is_enqueued_again(
    proxy: Proxy, table: Table, conn: psycopg.Connection
) -> None:
    made = [message() for _ in range(6)]

    def run_some() -> None:
        owner = hire(conn)
        found = take(conn, owner, 4)
        finish.finish(conn, owner, [ended(each) for each in found[:2]], NODE)
        # These two ended without a trace; the caller was told that their results count, so nobody did this.
        conn.execute("DELETE FROM djtasks_message WHERE id = ANY (%s::uuid[])", [[each.id for each in found[2:]]])

    proxy.cuts, proxy.meanwhile = ["after"], run_some
    outbox.enqueue_many(made)
    assert sorted(table.waiting()) == sorted(each.id for each in made[2:])
    assert table.results() == 2


def test_a_task_without_a_result_that_may_have_run_makes_the_caller_decide(
    way: dict[str, Any], proxy: Proxy, table: Table, conn: psycopg.Connection
) -> None:
    def run() -> None:
        owner = hire(conn)
        finish.finish(conn, owner, [ended(each, store=False) for each in take(conn, owner)], NODE)

    proxy.cuts, proxy.meanwhile = ["after"], run
    sent = message()
    with pytest.raises(EnqueueUncertain, match=sent.id):
        outbox.enqueue(sent, ignore_result=True, **way)
    assert table.messages() == table.results() == 0


def test_a_task_without_a_result_that_still_waits_is_no_question(
    way: dict[str, Any], proxy: Proxy, table: Table
) -> None:
    proxy.cuts = ["after"]
    sent = message()
    outbox.enqueue(sent, ignore_result=True, **way)
    assert table.waiting() == [sent.id]


def test_a_task_without_a_result_that_never_arrived_is_not_enqueued_behind_the_caller_s_back(
    way: dict[str, Any], proxy: Proxy, table: Table
) -> None:
    proxy.cuts = ["before"]
    with pytest.raises(EnqueueUncertain):
        outbox.enqueue(message(), ignore_result=True, **way)
    assert table.messages() == 0


# -- ids of the caller's own --------------------------------------------------------------------------------------


@pytest.fixture
def nightly(conn: psycopg.Connection) -> str:
    """An id of the caller's own, under which a task has ended before."""
    task_id = as_task_id("nightly")
    put(conn, id=task_id)
    owner = hire(conn)
    finish.finish(conn, owner, [ended(each, "FAILURE", result=b'"old"') for each in take(conn, owner)], NODE)
    return task_id


@pytest.mark.parametrize("cuts", [[], *CUTS])
def test_an_own_id_is_enqueued_once_and_its_earlier_result_forgotten(
    nightly: str, way: dict[str, Any], proxy: Proxy, table: Table, cuts: list[Cut]
) -> None:
    proxy.cuts = list(cuts)
    outbox.enqueue(message(id=nightly), own_id=True, **way)
    assert proxy.cuts == []
    assert table.waiting() == [nightly]
    assert table.results() == 0


def test_an_own_id_that_has_run_meanwhile_is_not_enqueued_again(
    nightly: str, way: dict[str, Any], proxy: Proxy, table: Table, run_all: Callable[[], None], conn: psycopg.Connection
) -> None:
    # COMMIT is what is lost here, so that the message and what it forgets are in.
    proxy.marker, proxy.cuts, proxy.meanwhile = b"COMMIT", ["after"], run_all
    outbox.enqueue(message(id=nightly), own_id=True, **way)
    assert proxy.cuts == []
    assert table.messages() == 0
    row = table.result(nightly)
    assert row is not None
    assert row["result"] == b'"new"'


# -- when it is not tried again -----------------------------------------------------------------------------------


def test_a_server_that_cannot_be_reached_for_a_while_is_waited_for(proxy: Proxy, table: Table) -> None:
    proxy.refuse = 3
    sent = message()
    outbox.enqueue(sent)
    assert proxy.refuse == 0
    assert table.waiting() == [sent.id]


def test_a_task_that_ignores_its_result_is_no_question_while_no_connection_came_to_be(
    proxy: Proxy, table: Table
) -> None:
    proxy.refuse = 2
    sent = message()
    outbox.enqueue(sent, ignore_result=True)
    assert table.waiting() == [sent.id]


def test_django_s_error_is_raised_when_the_policy_is_at_its_end(way: dict[str, Any], proxy: Proxy) -> None:
    proxy.cuts = ["before"] * 10
    with pytest.raises(OperationalError):
        outbox.enqueue(message(), **way)
    assert len(proxy.cuts) == 6


def test_the_error_is_the_one_that_tasks_name(way: dict[str, Any], proxy: Proxy) -> None:
    proxy.cuts = ["before"] * 10
    with pytest.raises(Task.OperationalError) as caught:
        outbox.enqueue(message(), retry=False, **way)
    assert str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_call_may_have_a_policy_of_its_own(way: dict[str, Any], proxy: Proxy) -> None:
    proxy.cuts = ["before"] * 10
    with pytest.raises(OperationalError):
        outbox.enqueue(message(), policy={"max_retries": 1}, **way)
    assert len(proxy.cuts) == 8


def test_without_retry_the_first_loss_is_raised(way: dict[str, Any], proxy: Proxy) -> None:
    proxy.cuts = ["before"] * 10
    with pytest.raises(OperationalError):
        outbox.enqueue(message(), retry=False, **way)
    assert len(proxy.cuts) == 9


def test_inside_the_caller_s_transaction_nothing_is_tried_again(proxy: Proxy, table: Table) -> None:
    proxy.cuts = ["before"]

    def work() -> None:
        with transaction.atomic():
            outbox.enqueue(message(), mode="in_transaction")

    with pytest.raises(OperationalError):
        work()
    assert table.messages() == 0


@pytest.mark.parametrize("cut", ["before", "after"])
def test_what_waited_for_the_commit_is_tried_again_after_it(proxy: Proxy, table: Table, cut: Cut) -> None:
    proxy.cuts = [cut]
    with transaction.atomic():
        made = [message() for _ in range(3)]
        for each in made:
            outbox.enqueue(each, mode="on_commit")
    assert proxy.cuts == []
    assert table.waiting() == [each.id for each in made]


def test_a_session_that_ended_while_nobody_used_it_is_opened_again(conn: psycopg.Connection, table: Table) -> None:
    outbox.enqueue(message())
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    conn.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    outbox.enqueue(message())
    assert table.messages() == 2


def test_a_private_session_that_ended_while_nobody_used_it_is_opened_again(
    conn: psycopg.Connection, table: Table
) -> None:
    with transaction.atomic():
        outbox.enqueue(message(), mode="immediately")
        conn.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'djtasks enqueue'"
        )
        outbox.enqueue(message(), mode="immediately")
    assert table.messages() == 2


# -- races of own ids ---------------------------------------------------------------------------------------------


def test_an_enqueue_that_waits_for_the_end_of_an_earlier_task_of_its_id_forgets_that_one_s_result(
    conn: psycopg.Connection, connect: Connect, table: Table
) -> None:
    task_id = as_task_id("nightly")
    put(conn, id=task_id)
    owner, finisher = hire(conn), connect()
    [held] = take(conn, owner)

    def enqueue() -> None:
        try:
            outbox.enqueue(message(id=task_id, body=b"second"), own_id=True)
        finally:
            connection.close()

    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%INSERT%message%'"
    with ThreadPoolExecutor(1) as pool:
        with finisher.transaction():
            finish.finish(finisher, owner, [ended(held, result=b'"old"')], NODE)
            enqueued = pool.submit(enqueue)
            wait_until(lambda: table.value(waits), "an enqueue that waits for the finish")
        enqueued.result(20)
    row = table.message(task_id)
    assert row is not None
    assert row["body"] == b"second"
    # Else the second run's result would be refused, and the first one's be taken for it.
    assert table.results() == 0


# -- chords -------------------------------------------------------------------------------------------------------


def chord_of(header: list[Message]) -> Chord:
    return Chord(header[0].chord or "", len(header), '{"task":"t","args":[],"kwargs":{},"options":{}}')


def header_of(size: int) -> list[Message]:
    chord = new_task_id()
    return [message(chord=chord, part=part) for part in range(size)]


@pytest.mark.parametrize("marker", [b"INSERT INTO djtasks_message", b"COMMIT"])
@pytest.mark.parametrize("cuts", CUTS)
def test_a_chord_is_there_once_with_all_of_its_header_wherever_the_wire_was_cut(
    proxy: Proxy, table: Table, cuts: list[Cut], marker: bytes
) -> None:
    proxy.marker, proxy.cuts = marker, list(cuts)
    header = header_of(3)
    outbox.enqueue_parts([Part(header, (chord_of(header),))], posting=Posting())
    assert table.waiting() == [each.id for each in header]
    assert [row["size"] for row in table.rows("SELECT size FROM djtasks_chord")] == [3]


@pytest.mark.parametrize("ignored", [False, True])
def test_a_chord_whose_parts_have_ended_meanwhile_is_not_enqueued_again(
    proxy: Proxy, table: Table, conn: psycopg.Connection, ignored: bool
) -> None:
    def run_some() -> None:
        owner = hire(conn)
        found = take(conn, owner, 2)
        finish.finish_parts(conn, owner, [ended(each, store=not ignored) for each in found], NODE)

    proxy.marker, proxy.cuts, proxy.meanwhile = b"COMMIT", ["after"], run_some
    header = header_of(3)
    outbox.enqueue_parts([Part(header, (chord_of(header),))], posting=Posting(ignore_result=ignored))
    assert table.waiting() == [header[2].id]
    assert [row["ended"] for row in table.rows("SELECT ended FROM djtasks_chord")] == [2]


def test_a_chord_that_has_been_closed_meanwhile_is_not_opened_again(
    proxy: Proxy, table: Table, run_all: Callable[[], None], conn: psycopg.Connection
) -> None:
    def run_and_close() -> None:
        run_all()
        conn.execute("DELETE FROM djtasks_chord")

    proxy.marker, proxy.cuts, proxy.meanwhile = b"COMMIT", ["after"], run_and_close
    header = header_of(3)
    outbox.enqueue_parts([Part(header, (chord_of(header),))], posting=Posting())
    assert (table.messages(), table.rows("SELECT * FROM djtasks_chord")) == (0, [])
