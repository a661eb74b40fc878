"""The outbox: when a message is there, in each mode and each kind of transaction."""

import os
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from django.db import InterfaceError, OperationalError, connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django.test import override_settings

from djtasks.exceptions import ImproperlyConfigured
from testproject.census.models import Scan
from tests.storage.calls import MODES, call, committed, seen_by_caller, two_databases, undone
from tests.storage.rows import Table

pytestmark = committed


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
