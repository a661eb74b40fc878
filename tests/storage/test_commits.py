"""What waits for a commit: one statement for all of a transaction, and nothing of what was undone."""

import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from django.db import DataError, connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from djtasks import outbox, rings
from djtasks.messages import Message
from testproject.census.models import Scan
from tests.storage.calls import Undone, call, committed, seen_by_caller, two_databases, undone
from tests.storage.rows import Table, message

pytestmark = committed


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
        for _ in range(8):
            seen.append(table.messages())
            yield message(body=b"x" * 600)

    outbox.enqueue_many(stream(), chunk=1000)
    # While a part is made, the last one is being written, and those before it are there.
    assert min(seen[4:6]) >= 2
    assert min(seen[6:8]) >= 4
    assert table.messages() == 8


def test_transactions_that_are_rolled_back_leave_nothing_behind_in_the_process(table: Table) -> None:
    for _ in range(50):
        with undone():
            call("on_commit")
            call("in_transaction")
    assert len(outbox._box_of(connections["default"]).waiting) <= 1
    assert len(rings._rings.get(connections["default"], [])) <= 1
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
    # While a chunk is made, the one before it may still be on its way.
    assert seen[0] == 0
    assert seen[1] in (0, 10)
    assert seen[2] in (10, 20)
    assert table.messages() == 25


def test_an_error_among_many_leaves_the_chunks_before_it(table: Table) -> None:
    def stream() -> Iterator[Message]:
        for _ in range(25):
            yield message()
        raise Undone

    with pytest.raises(Undone):
        outbox.enqueue_many(stream(), chunk=10)
    assert table.messages() == 20


def test_an_error_in_the_second_chunk_leaves_the_first(table: Table) -> None:
    def stream() -> Iterator[Message]:
        for _ in range(15):
            yield message()
        raise Undone

    with pytest.raises(Undone):
        outbox.enqueue_many(stream(), chunk=10)
    assert table.messages() == 10


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
