"""`drain()`: what waits runs here and now, in whatever transaction is open."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase

from djtasks import app, shared_task
from djtasks.db import claims
from djtasks.db.connections import open_private
from djtasks.exceptions import TaskRevokedError
from djtasks.testing import assert_no_tasks, captured, drain, enqueued, run_pending
from tests.kit import shop


@pytest.fixture(autouse=True)
def _nothing_is_done() -> None:
    shop.done.clear()


def workers_left() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM djtasks_worker")
        return int(cursor.fetchone()[0])


class Draining:
    """What holds in every kind of test."""

    def test_it_runs_what_waits_and_keeps_the_results(self) -> None:
        result = shop.greet.delay("ada", loud=True)
        ran = drain()
        assert [(run.name, run.id, run.state, run.queue) for run in ran] == [
            ("shop.greet", result.id, "SUCCESS", "celery")
        ]
        assert result.get(timeout=5) == "ADA"
        assert (result.state, shop.done) == ("SUCCESS", ["ada"])
        assert_no_tasks()
        assert workers_left() == 0

    def test_tasks_see_what_the_test_has_written(self) -> None:
        User.objects.create(username="ada")
        results = shop.count.delay(), shop.acount.delay()
        drain()
        assert [result.get(timeout=5) for result in results] == [1, 1]

    def test_what_a_task_enqueues_runs_too(self) -> None:
        shop.cascade.delay(3)
        assert drain().names == ["shop.cascade"] * 4
        assert shop.done == [3, 2, 1, 0]

    def test_higher_priorities_first_then_older_ones(self) -> None:
        for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5)):
            shop.greet.apply_async((name,), priority=priority, queue=f"queue {name}")
        drain()
        assert shop.done == ["b", "d", "a", "c"]

    def test_only_these_queues(self) -> None:
        shop.greet.apply_async(("a",), queue="quick")
        shop.greet.apply_async(("b",), queue="slow")
        assert len(drain(queues=["quick"])) == 1
        assert shop.done == ["a"]
        assert [call.args for call in enqueued()] == [["b"]]

    def test_retries_do_not_wait(self) -> None:
        result = shop.flaky.delay(2)
        ran = drain()
        assert [(run.state, run.retries) for run in ran] == [("RETRY", 0), ("RETRY", 1), ("SUCCESS", 2)]
        assert result.get(timeout=5) == 2
        assert ran.states == {"RETRY": 2, "SUCCESS": 1}

    def test_retries_can_be_left_waiting(self) -> None:
        result = shop.flaky.delay(2)
        assert [run.state for run in drain(retries=False)] == ["RETRY"]
        assert result.state == "RETRY"
        (call,) = enqueued()
        assert (call.retries, call.args) == (1, [2])

    def test_what_is_to_run_later_waits_until_then(self) -> None:
        shop.greet.apply_async(("b",), countdown=7200)
        shop.greet.apply_async(("a",), countdown=60)
        shop.greet.apply_async(("c",), eta=datetime.now(UTC) + timedelta(days=9))
        assert drain() == []
        drain(until=61)
        assert shop.done == ["a"]
        drain(until=datetime.now(UTC) + timedelta(hours=3))
        assert shop.done == ["a", "b"]
        drain(until=math.inf)
        assert shop.done == ["a", "b", "c"]

    def test_its_eta_is_still_the_one_that_was_asked_for(self) -> None:
        etas = []

        @shared_task(name="shop.when", bind=True)
        def when(self: Any) -> None:
            etas.append(self.request.eta)

        eta = datetime(2099, 1, 1, tzinfo=UTC)
        when.apply_async(eta=eta)
        drain(until=math.inf)
        assert etas == [eta.isoformat()]

    def test_a_task_that_enqueues_itself_for_ever_is_found_out(self) -> None:
        shop.forever.delay()
        with pytest.raises(AssertionError, match=r"more than 7 runs.*shop\.forever \(8\)"):
            drain(limit=7)
        assert workers_left() == 0

    def test_failures_are_results(self) -> None:
        result = shop.fail.delay("no")
        ran = drain()
        assert result.state == "FAILURE"
        assert repr(result.result) == "ValueError('no')"
        assert [run.name for run in ran.failed] == ["shop.fail"]
        assert "ValueError: no" in (ran[0].traceback or "")

    def test_failures_can_be_raised(self) -> None:
        result = shop.fail.delay("no")
        with pytest.raises(ValueError, match="no") as caught:
            drain(propagate=True)
        assert "in fail" in caught.value.__notes__[0]
        assert result.state == "FAILURE"

    def test_a_task_that_breaks_its_transaction_breaks_no_other(self) -> None:
        first, second = shop.clash.delay(), shop.count.delay()
        drain()
        assert type(first.result).__name__ == "IntegrityError"
        assert second.state == "SUCCESS"

    def test_an_atomic_task_is_all_or_nothing(self) -> None:
        failed = shop.atomic.delay(fails=True)
        drain()
        assert (failed.state, User.objects.count()) == ("FAILURE", 0)
        result = shop.atomic.delay()
        drain()
        assert (result.state, User.objects.count()) == ("SUCCESS", 1)

    def test_what_a_task_does_after_its_commit_is_done(self) -> None:
        shop.committed.delay()
        drain()
        assert shop.done == ["working", "committed"]

    def test_ignored_and_rejected_tasks_leave_no_message(self) -> None:
        shop.shy.delay("ignore")
        rejected = shop.shy.delay("reject")
        assert [run.state for run in drain()] == ["IGNORED", "FAILURE"]
        assert rejected.state == "FAILURE"
        assert_no_tasks()

    def test_states_of_a_tasks_own_are_stored(self) -> None:
        result = shop.progress.delay()
        drain()
        assert result.get(timeout=5) == {"done": 1}

    def test_expired_tasks_are_revoked(self) -> None:
        result = shop.greet.apply_async(("late",), expires=datetime(2020, 1, 1, tzinfo=UTC))
        assert [run.state for run in drain()] == ["REVOKED"]
        assert isinstance(result.result, TaskRevokedError)
        assert shop.done == []

    def test_revoked_tasks_do_not_run(self) -> None:
        first, second = shop.greet.delay("first"), shop.greet.delay("second")
        first.revoke()
        drain()
        assert (first.state, second.state) == ("REVOKED", "SUCCESS")
        assert shop.done == ["second"]

    def test_stamped_tasks_can_be_revoked_before_they_are_enqueued(self) -> None:
        app.control.revoke_by_stamped_headers({"order": 7})
        stamps = {"stamped_headers": ["order"], "order": 7}
        result = shop.greet.apply_async(("never",), **stamps)  # type: ignore[arg-type]
        drain()
        assert (result.state, shop.done) == ("REVOKED", [])

    def test_what_no_task_is_known_for_stays(self) -> None:
        result = shop.unknown()
        assert drain() == []
        assert result.state == "PENDING"
        assert [call.name for call in enqueued()] == ["shop.nobody"]

    def test_limited_tasks_run_one_after_the_other(self) -> None:
        results = [shop.one_at_a_time.delay(number) for number in range(3)]
        drain()
        assert [result.get(timeout=5) for result in results] == [0, 1, 2]

    def test_nothing_waits_for_a_rate(self) -> None:
        for number in range(3):
            shop.rare.delay(number)
        drain()
        assert shop.done == [0, 1, 2]

    def test_a_unique_task_runs_once(self) -> None:
        results = [shop.once.delay(1), shop.once.delay(1), shop.once.delay(2)]
        drain()
        assert shop.done == [1, 2]
        assert [result.get(timeout=5) for result in results] == [1, 1, 2]

    def test_a_link_follows_its_task(self) -> None:
        shop.greet.apply_async(("ada",), {"loud": True}, link=shop.greet.s())
        drain()
        assert shop.done == ["ada", "ADA"]

    def test_pending_ones_run_once_and_what_they_enqueue_stays(self) -> None:
        shop.cascade.delay(3)
        shop.flaky.delay(1)
        assert [run.state for run in run_pending()] == ["SUCCESS", "RETRY"]
        assert shop.done == [3, 0]
        assert [call.name for call in enqueued()] == ["shop.flaky", "shop.cascade"]

    def test_so_many_pending_ones_run(self) -> None:
        for number in range(3):
            shop.greet.delay(str(number))
        assert len(run_pending(2)) == 2
        assert shop.done == ["0", "1"]

    def test_a_rolled_back_call_does_not_run(self) -> None:
        class Undo(Exception):
            pass

        def undone() -> None:
            with transaction.atomic():
                shop.greet.delay("never")
                raise Undo

        with pytest.raises(Undo):
            undone()
        assert drain() == []

    def test_what_a_view_has_enqueued_runs(self) -> None:
        with captured() as calls:
            shop.register("ada")
        drain(on_commit=True)
        assert shop.done == ["ada"]
        assert calls[0].args == ["ada"]
        assert [call.countdown for call in enqueued()] == [60]


class TestInATestCase(Draining, TestCase):
    def test_django_s_other_callbacks_wait_for_a_commit_that_does_not_come(self) -> None:
        called: list[int] = []
        transaction.on_commit(lambda: called.append(1))
        shop.greet.delay("ada")
        drain()
        assert (called, shop.done) == ([], ["ada"])
        drain(on_commit=True)
        assert called == [1]

    def test_nothing_of_it_is_seen_outside_of_the_transaction(self) -> None:
        result = shop.greet.delay("ada")
        drain()
        with open_private("test onlooker") as conn:
            found = conn.execute("SELECT id FROM djtasks_result WHERE id = %s", [result.id]).fetchall()
        assert found == []

    def test_with_captured_callbacks_nothing_runs_twice(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            shop.greet.delay("ada")
            drain()
        drain()
        assert shop.done == ["ada"]

    @classmethod
    def setUpTestData(cls) -> None:
        cls.early = shop.greet.delay("early").id  # type: ignore[attr-defined]
        shop.done.clear()
        drain()

    def setUp(self) -> None:
        shop.done.clear()


class TestInATransactionTestCase(Draining, TransactionTestCase):
    def setUp(self) -> None:
        shop.done.clear()

    def test_messages_of_others_are_left_to_them(self) -> None:
        shop.greet.delay("theirs")
        with open_private("test worker") as conn:
            taken = claims.claim_waiting(conn, 42, 1, ["celery"])
        assert len(taken) == 1
        assert drain() == []


@pytest.mark.django_db
class TestInPytest(Draining):
    pass


@pytest.mark.django_db(transaction=True)
class TestInPytestWithTransactions(Draining):
    pass


@pytest.mark.django_db
def test_inside_of_a_transaction_of_its_own_it_works_as_well() -> None:
    shop.done.clear()
    with transaction.atomic():
        result = shop.greet.delay("ada")
        drain()
        assert result.get() == "ada"
    assert result.state == "SUCCESS"
