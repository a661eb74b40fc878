"""The outbox: when a message is there, in each mode and each kind of transaction, and when workers hear of it."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest
from django.db import DataError, InterfaceError, OperationalError, connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django.test import TestCase, override_settings
from django.test.utils import CaptureQueriesContext

from djtasks import delivery, outbox
from djtasks.db.notify import worker_channel
from djtasks.exceptions import ImproperlyConfigured
from djtasks.messages import Message
from testproject.census.models import Scan
from tests.storage.rows import Table, hire, message

Connect = Callable[..., psycopg.Connection]

# Only the tables of these apps are emptied after a test: that is quicker by far.
APPS = ["djtasks", "testproject.census"]
pytestmark = pytest.mark.django_db(transaction=True, available_apps=APPS)
two_databases = pytest.mark.django_db(transaction=True, databases=["default", "other"], available_apps=APPS)

MODES = outbox.MODES


class Undone(Exception):
    """Raised to roll a transaction back."""


@contextmanager
def undone(using: str | None = None) -> Iterator[None]:
    """A transaction, or a savepoint within one, that is rolled back at its end."""
    with suppress(Undone), transaction.atomic(using=using):
        yield
        raise Undone


def call(mode: str | None = None, **options: Any) -> str:
    """Enqueue a message; return its id."""
    fields = options.pop("fields", {})
    made = message(**fields)
    outbox.enqueue(made, mode=mode, **options)
    return made.id


def seen_by_caller() -> int:
    """How many messages the caller's own connection sees."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM djtasks_message")
        return int(cursor.fetchone()[0])


# -- the three modes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_outside_of_a_transaction_every_mode_writes_at_once(table: Table, mode: str) -> None:
    task_id = call(mode)
    assert table.waiting() == [task_id]


@pytest.mark.parametrize(
    ("mode", "own", "others"), [("on_commit", 0, 0), ("in_transaction", 1, 0), ("immediately", 1, 1)]
)
def test_inside_a_transaction_the_mode_says_who_sees_the_message_before_the_commit(
    table: Table, mode: str, own: int, others: int
) -> None:
    with transaction.atomic():
        task_id = call(mode)
        assert (seen_by_caller(), table.messages()) == (own, others)
    assert table.waiting() == [task_id]


@pytest.mark.parametrize("mode", MODES)
def test_after_a_rollback_only_what_was_written_immediately_is_there(table: Table, mode: str) -> None:
    with undone():
        call(mode)
    assert table.messages() == (mode == "immediately")


@pytest.mark.parametrize("mode", ["on_commit", "in_transaction"])
def test_nested_blocks_wait_for_the_commit_of_the_outermost(table: Table, mode: str) -> None:
    with transaction.atomic():
        with transaction.atomic():
            with transaction.atomic():
                first = call(mode)
            second = call(mode)
        third = call(mode)
        assert table.messages() == 0
    assert table.waiting() == [first, second, third]


@pytest.mark.parametrize("mode", MODES)
def test_a_rolled_back_savepoint_drops_exactly_its_own(table: Table, mode: str) -> None:
    with transaction.atomic():
        before = call(mode)
        with undone():
            lost = call(mode)
            with transaction.atomic():
                lost_too = call(mode)
        with transaction.atomic():
            kept = call(mode)
        after = call(mode)
    survivors = [lost, lost_too] if mode == "immediately" else []
    assert table.waiting() == [before, *survivors, kept, after]


@pytest.mark.parametrize("mode", MODES)
def test_a_block_that_is_marked_for_rollback_enqueues_nothing_in_both_transactional_modes(
    table: Table, mode: str
) -> None:
    with transaction.atomic():
        call(mode)
        transaction.set_rollback(True)
    assert table.messages() == (mode == "immediately")


def test_a_savepoint_rolled_back_by_hand_drops_what_was_written_in_it(table: Table) -> None:
    with transaction.atomic():
        kept = call("in_transaction")
        savepoint = transaction.savepoint()
        call("in_transaction")
        transaction.savepoint_rollback(savepoint)
    assert table.waiting() == [kept]


@pytest.mark.parametrize("mode", MODES)
def test_data_and_task_of_a_transaction_agree(table: Table, mode: str) -> None:
    with transaction.atomic():
        Scan.objects.create(folder="kept")
        kept = call(mode)
    with undone():
        Scan.objects.create(folder="lost")
        lost = call(mode)
    assert [scan.folder for scan in Scan.objects.all()] == ["kept"]
    assert table.waiting() == ([kept, lost] if mode == "immediately" else [kept])


def test_the_mode_of_the_settings_holds_unless_the_call_says_otherwise(table: Table) -> None:
    with override_settings(DJTASKS={"ENQUEUE": "immediately"}), undone():
        task_id = call()
        call("in_transaction")
    assert table.waiting() == [task_id]


def test_an_unknown_mode_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(ImproperlyConfigured, match="on_commit, in_transaction, immediately"):
        call("later")


# -- another database, autocommit off -----------------------------------------------------------------------------


@two_databases
def test_on_commit_may_wait_for_the_commit_of_another_database(table: Table) -> None:
    with transaction.atomic(using="other"):
        task_id = call("on_commit", using="other")
        at_once = call("on_commit")
        assert table.waiting() == [at_once]
    assert table.waiting() == [at_once, task_id]


@two_databases
def test_a_rollback_of_the_other_database_enqueues_nothing(table: Table) -> None:
    with undone("other"):
        call("on_commit", using="other")
    assert table.messages() == 0


@two_databases
def test_a_rolled_back_savepoint_of_the_other_database_drops_exactly_its_own(table: Table) -> None:
    with transaction.atomic(using="other"):
        kept = call("on_commit", using="other")
        with undone("other"):
            call("on_commit", using="other")
    assert table.waiting() == [kept]


@two_databases
def test_immediately_means_at_once_whatever_database_is_in_a_transaction(table: Table) -> None:
    with undone("other"), undone():
        task_id = call("immediately", using="other")
        assert table.waiting() == [task_id]
    assert table.waiting() == [task_id]


@two_databases
def test_in_transaction_cannot_be_tied_to_another_database() -> None:
    with pytest.raises(ImproperlyConfigured, match="'other'"):
        call("in_transaction", using="other")


@two_databases
def test_tasks_may_be_kept_in_another_database_than_the_caller_s(table: Table) -> None:
    with override_settings(DJTASKS={"DATABASE": "other"}):
        with transaction.atomic():
            task_id = call("on_commit")
            with connections["other"].cursor() as cursor:
                cursor.execute("SELECT count(*) FROM djtasks_message")
                assert cursor.fetchone() == (0,)
        with connections["other"].cursor() as cursor:
            cursor.execute("SELECT id::text FROM djtasks_message")
            assert cursor.fetchall() == [(task_id,)]
            cursor.execute("DELETE FROM djtasks_message")
    assert table.messages() == 0


@pytest.fixture
def _autocommit_off() -> Iterator[None]:
    transaction.set_autocommit(False)
    yield
    transaction.rollback()
    transaction.set_autocommit(True)


@pytest.mark.usefixtures("_autocommit_off")
def test_with_autocommit_off_in_transaction_waits_for_the_caller_s_commit(table: Table) -> None:
    call("in_transaction")
    assert (seen_by_caller(), table.messages()) == (1, 0)
    transaction.rollback()
    task_id = call("in_transaction")
    transaction.commit()
    assert table.waiting() == [task_id]


@pytest.mark.usefixtures("_autocommit_off")
def test_with_autocommit_off_immediately_survives_a_rollback(table: Table) -> None:
    task_id = call("immediately")
    assert table.waiting() == [task_id]
    transaction.rollback()
    assert table.waiting() == [task_id]


@pytest.mark.usefixtures("_autocommit_off")
def test_with_autocommit_off_on_commit_is_refused_with_what_to_do_instead(table: Table) -> None:
    with pytest.raises(TransactionManagementError, match="in_transaction"):
        call("on_commit")
    transaction.commit()
    assert table.messages() == 0


@pytest.mark.usefixtures("_autocommit_off")
def test_with_autocommit_off_a_lost_connection_is_never_papered_over(conn: psycopg.Connection, table: Table) -> None:
    Scan.objects.create(folder="lost with its transaction")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    conn.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    with pytest.raises((OperationalError, InterfaceError)):
        call("in_transaction")
    assert table.messages() == 0
    connection.close()


@pytest.mark.usefixtures("_autocommit_off")
def test_with_autocommit_off_a_ring_comes_with_the_commit(bell: "Bell") -> None:
    call("in_transaction")
    assert bell.rings() == 0
    transaction.commit()
    assert bell.rings() == 1


# -- one statement for all ----------------------------------------------------------------------------------------


def inserts(queries: CaptureQueriesContext) -> list[str]:
    """The statements that wrote messages."""
    return [query["sql"] for query in queries.captured_queries if "INSERT INTO djtasks_message" in query["sql"]]


def test_all_tasks_of_a_transaction_go_in_with_one_statement_in_the_order_of_their_calls(table: Table) -> None:
    with CaptureQueriesContext(connection) as queries:
        with transaction.atomic():
            ids = [call("on_commit") for _ in range(3)]
            with transaction.atomic():
                ids += [call("on_commit") for _ in range(3)]
            made = [message() for _ in range(250)]
            outbox.enqueue_many(made, mode="on_commit", chunk=100)
            ids += [each.id for each in made]
            ids.append(call("on_commit"))
        assert len(inserts(queries)) == 1
    assert table.waiting() == ids


def test_own_ids_and_ignored_results_take_a_statement_of_their_own_each(table: Table) -> None:
    with CaptureQueriesContext(connection) as queries:
        with transaction.atomic():
            for _ in range(2):
                call("on_commit")
                call("on_commit", own_id=True)
                call("on_commit", ignore_result=True)
        assert len(inserts(queries)) == 3
    assert table.messages() == 6


def test_messages_that_are_too_large_together_go_in_parts_and_keep_their_order(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "STATEMENT_BYTES", 1000)
    made = [message(body=b"x" * 600) for _ in range(5)]
    with CaptureQueriesContext(connection) as queries:
        with transaction.atomic():
            for each in made:
                outbox.enqueue(each, mode="on_commit")
        assert len(inserts(queries)) == 3
    assert table.waiting() == [each.id for each in made]


def test_large_messages_of_a_stream_are_not_kept_until_a_chunk_is_full(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "STATEMENT_BYTES", 1000)
    seen = []

    def stream() -> Iterator[Message]:
        for _ in range(6):
            seen.append(table.messages())
            yield message(body=b"x" * 600)

    outbox.enqueue_many(stream(), chunk=1000)
    assert seen == [0, 0, 2, 2, 4, 4]
    assert table.messages() == 6


def test_transactions_that_are_rolled_back_leave_nothing_behind_in_the_process(table: Table) -> None:
    for _ in range(50):
        with undone():
            call("on_commit")
            call("in_transaction")
    assert len(outbox._box_of(connections["default"]).waiting) <= 1
    assert len(delivery._rings.get(connections["default"], [])) <= 1
    assert table.messages() == 0


def test_nothing_is_asked_of_the_database_before_the_commit() -> None:
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        call("on_commit")
        assert len(queries) == 0


def test_one_call_outside_of_a_transaction_is_one_insert_and_one_look_for_sleepers() -> None:
    with CaptureQueriesContext(connection) as queries:
        call()
        assert len(queries) == 2


def create_and_call(mode: str) -> None:
    """A transaction with data, and with a message that no table takes."""
    with transaction.atomic():
        Scan.objects.create(folder="data")
        call(mode, fields={"name": "a\0b"})


def test_a_message_that_cannot_be_written_raises_in_the_caller_after_its_data_is_committed(table: Table) -> None:
    with pytest.raises(DataError):
        create_and_call("on_commit")
    assert Scan.objects.count() == 1
    assert table.messages() == 0
    # What has failed is not tried again by the next transaction.
    with transaction.atomic():
        task_id = call("on_commit")
    assert table.waiting() == [task_id]


def test_a_message_that_cannot_be_written_rolls_the_transaction_back_when_it_is_part_of_it(table: Table) -> None:
    with pytest.raises(DataError):
        create_and_call("in_transaction")
    assert Scan.objects.count() == table.messages() == 0


def test_a_hook_that_runs_before_ours_may_enqueue_in_a_transaction_of_its_own(table: Table) -> None:
    made = {}

    def hook() -> None:
        with transaction.atomic():
            made["hook"] = call("on_commit")
        with undone():
            call("on_commit")
        made["plain"] = call("on_commit")

    with transaction.atomic():
        transaction.on_commit(hook)
        made["outer"] = call("on_commit")
    assert sorted(table.waiting()) == sorted(made.values())


def test_a_hook_that_fails_before_ours_loses_what_waited_for_the_commit(table: Table) -> None:
    # Django's own rule for on_commit; `in_transaction` is there for who cannot bear it.
    made = {}

    def hook() -> None:
        raise Undone

    def work() -> None:
        with transaction.atomic():
            transaction.on_commit(hook)
            made["on_commit"] = call("on_commit")
            made["in_transaction"] = call("in_transaction")

    with pytest.raises(Undone):
        work()
    assert table.waiting() == [made["in_transaction"]]
    assert not outbox.is_pending(made["on_commit"])
    with transaction.atomic():
        later = call("on_commit")
    assert table.waiting() == [made["in_transaction"], later]


def test_a_broken_transaction_takes_no_message(table: Table) -> None:
    with transaction.atomic():
        with suppress(Undone), transaction.atomic(savepoint=False):
            raise Undone
        with pytest.raises(TransactionManagementError):
            call("in_transaction")
    assert table.messages() == 0


@pytest.mark.django_db(transaction=False)
def test_django_s_own_way_to_run_hooks_in_a_test_case_enqueues() -> None:
    with TestCase.captureOnCommitCallbacks(execute=True) as hooks:
        with transaction.atomic():
            call("on_commit")
            call("on_commit")
        assert seen_by_caller() == 0
    # The two calls, and the ring of what they wrote.
    assert len(hooks) == 3
    assert seen_by_caller() == 2


# -- many ---------------------------------------------------------------------------------------------------------


def test_many_messages_are_written_while_they_come(table: Table) -> None:
    seen = []

    def stream() -> Iterator[Message]:
        for number in range(25):
            if number % 10 == 0:
                seen.append(table.messages())
            yield message()

    outbox.enqueue_many(stream(), chunk=10)
    assert seen == [0, 10, 20]
    assert table.messages() == 25


def test_an_error_among_many_leaves_the_chunks_before_it(table: Table) -> None:
    def stream() -> Iterator[Message]:
        for _ in range(25):
            yield message()
        raise Undone

    with pytest.raises(Undone):
        outbox.enqueue_many(stream(), chunk=10)
    assert table.messages() == 20


@pytest.mark.parametrize("mode", ["on_commit", "in_transaction"])
def test_many_messages_of_a_transaction_are_all_there_or_none(table: Table, mode: str) -> None:
    with undone():
        outbox.enqueue_many((message() for _ in range(250)), mode=mode, chunk=100)
    assert table.messages() == 0
    with transaction.atomic():
        outbox.enqueue_many((message() for _ in range(250)), mode=mode, chunk=100)
        assert table.messages() == 0
    assert table.messages() == 250


def test_no_messages_are_no_statement() -> None:
    with CaptureQueriesContext(connection) as queries:
        outbox.enqueue_many(iter(()))
        assert len(queries) == 0


# -- pending ------------------------------------------------------------------------------------------------------


def test_a_task_is_pending_exactly_while_it_waits_for_the_commit_of_this_thread() -> None:
    answers: dict[str, bool] = {}
    with transaction.atomic():
        task_id = call("on_commit")
        other = call("in_transaction")
        with undone():
            dropped = call("on_commit")
            assert outbox.is_pending(dropped)
        asked = threading.Thread(target=lambda: answers.update(thread=outbox.is_pending(task_id)))
        asked.start()
        asked.join(20)
        answers |= {"own": outbox.is_pending(task_id), "written": outbox.is_pending(other)}
        answers["dropped"] = outbox.is_pending(dropped)
    answers["after"] = outbox.is_pending(task_id)
    assert answers == {"thread": False, "own": True, "written": False, "dropped": False, "after": False}


def test_a_task_whose_transaction_was_rolled_back_is_not_pending() -> None:
    with undone():
        task_id = call("on_commit")
    assert not outbox.is_pending(task_id)


@two_databases
def test_a_task_is_pending_while_it_waits_for_another_database() -> None:
    with transaction.atomic(using="other"):
        task_id = call("on_commit", using="other")
        assert outbox.is_pending(task_id)
    assert not outbox.is_pending(task_id)


# -- ringing ------------------------------------------------------------------------------------------------------


class Bell:
    """A worker that sleeps, and hears."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self.conn = conn
        self.channel = worker_channel(hire(conn, "celery", "b", idle=True))
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


# -- a process that dies ------------------------------------------------------------------------------------------

DIES_AT_ITS_COMMIT = """
import os, signal
import django
django.setup()
from testproject.census.models import Scan
from django.db import transaction
from djtasks import delivery, outbox
from tests.storage.rows import message
with transaction.atomic():
    transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
    Scan.objects.create(folder="committed")
    outbox.enqueue(message(name="tests.in_transaction"), mode="in_transaction")
    outbox.enqueue(message(name="tests.on_commit"), mode="on_commit")
"""


def test_a_process_killed_between_commit_and_hooks_loses_nothing_in_transaction(table: Table) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "testproject.settings"}
    ended = subprocess.run([sys.executable, "-c", DIES_AT_ITS_COMMIT], env=environment, capture_output=True, text=True)
    assert ended.returncode == -9, ended.stderr
    assert [row["folder"] for row in table.rows("SELECT folder FROM census_scan")] == ["committed"]
    # What waited for the hooks is gone with the process: this is what the two modes differ in.
    assert [row["name"] for row in table.rows("SELECT name FROM djtasks_message")] == ["tests.in_transaction"]
