"""Atomic tasks: what they do in the database and their end are there together, or neither is."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction

from djtasks import Task, atomic, checks, shared_task, signals, telling, tracer
from djtasks.db import claims, messages, workers
from djtasks.db.connections import open_private
from djtasks.exceptions import Ignore, ImproperlyConfigured, Reject
from djtasks.messages import Claimed, Outcome
from djtasks.result import AsyncResult
from tests.calling.conftest import Configure, connected, message_of, waiting

pytestmark = pytest.mark.django_db(transaction=True)
NODE = "celery@here"
#: The incarnation of a worker.
OWNER = 4711


def effects() -> int:
    """How many rows the tasks have written, and committed."""
    with open_private("test onlooker") as conn:
        found = conn.execute("SELECT count(*) FROM effect").fetchone()
    assert found is not None
    return int(found[0])


def write() -> None:
    """Work in the database."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO effect (number) VALUES (1)")


@pytest.fixture(autouse=True)
def effect_table(db: None) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE effect (number integer UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    yield
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE effect")
        cursor.execute("TRUNCATE djtasks_message, djtasks_result, djtasks_worker")


class Work:
    """Claims a call as a worker does, runs it, and says how it ended."""

    def __init__(self) -> None:
        self.conn = open_private("test worker")

    def claim(self, task: Task[..., Any], *args: Any, **options: Any) -> Claimed:
        """A call of the task in the worker's hands."""
        messages.enqueue(self.conn, [message_of(task, *args, **options)])
        with self.conn.transaction():
            (found,) = claims.claim_waiting(self.conn, OWNER, 1, ["celery"])
        return found

    def __call__(self, task: Task[..., Any], *args: Any, **options: Any) -> Outcome:
        return self.run(self.claim(task, *args, **options))

    def run(self, message: Claimed) -> Outcome:
        """How the message's run ended."""
        return tracer.trace(message, hostname=NODE, owner=OWNER)

    def message(self, outcome: Outcome) -> Any:
        """Whether the message is still there."""
        return self.conn.execute("SELECT 1 FROM djtasks_message WHERE id = %s", [outcome.id]).fetchone()


@pytest.fixture
def work() -> Iterator[Work]:
    found = Work()
    yield found
    found.conn.close()


def test_a_success_is_committed_with_its_end(work: Work) -> None:
    @shared_task(atomic=True)
    def good() -> str:
        write()
        return "done"

    outcome = work(good)
    assert (outcome.state, outcome.finished) == ("SUCCESS", True)
    assert work.message(outcome) is None
    result = AsyncResult[str](outcome.id)
    assert (result.state, result.result, result.worker) == ("SUCCESS", "done", NODE)
    assert effects() == 1


def test_a_failure_undoes_what_the_task_did_and_is_left_to_the_worker(work: Work) -> None:
    @shared_task(atomic=True)
    def bad() -> None:
        write()
        raise ValueError("no")

    outcome = work(bad)
    assert (outcome.state, outcome.finished) == ("FAILURE", False)
    assert work.message(outcome) is not None
    assert effects() == 0


@pytest.mark.parametrize("throw", [True, False])
def test_a_retry_undoes_what_the_task_did(throw: bool, work: Work) -> None:
    @shared_task(atomic=True, bind=True)
    def again(self: Task[..., Any]) -> None:
        write()
        self.retry(countdown=1, throw=throw)

    outcome = work(again)
    assert (outcome.state, outcome.finished, outcome.again is None) == ("RETRY", False, False)
    assert effects() == 0


def test_a_rejection_undoes_what_the_task_did(work: Work) -> None:
    @shared_task(atomic=True)
    def refuse() -> None:
        write()
        raise Reject("no")

    assert work(refuse).dead == "rejected"
    assert effects() == 0


def test_ignore_keeps_what_the_task_did_and_stores_nothing(work: Work) -> None:
    @shared_task(atomic=True)
    def ignored() -> None:
        write()
        raise Ignore

    outcome = work(ignored)
    assert (outcome.state, outcome.finished) == ("IGNORED", True)
    assert work.message(outcome) is None
    assert not AsyncResult[None](outcome.id).exists()
    assert effects() == 1


def test_a_result_that_cannot_be_stored_undoes_what_the_task_did(work: Work) -> None:
    @shared_task(atomic=True)
    def odd() -> object:
        write()
        return object()

    assert work(odd).state == "FAILURE"
    assert effects() == 0


def test_a_constraint_that_is_checked_at_the_commit_is_the_tasks_failure(work: Work) -> None:
    @shared_task(atomic=True)
    def twice() -> None:
        write()
        write()

    outcome = work(twice)
    assert (outcome.state, outcome.finished) == ("FAILURE", False)
    assert "IntegrityError" in (outcome.traceback or "")
    assert work.message(outcome) is not None
    assert effects() == 0


def test_an_error_of_the_database_that_a_task_swallows_is_its_failure(work: Work) -> None:
    @shared_task(atomic=True)
    def swallows() -> None:
        write()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1/0")
        except DatabaseError:
            pass

    assert work(swallows).state == "FAILURE"
    assert effects() == 0


def test_a_message_that_has_become_anothers_undoes_what_the_task_did(work: Work) -> None:
    @shared_task(atomic=True)
    def late() -> None:
        write()

    message = work.claim(late)
    work.conn.execute("UPDATE djtasks_message SET owner = 1, claim = 99")
    outcome = work.run(message)
    assert (outcome.state, outcome.finished, outcome.store) == ("REJECTED", False, False)
    assert effects() == 0


def test_the_end_is_no_place_for_a_soft_limit(work: Work) -> None:
    inside: list[bool] = []

    def watch(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if "djtasks_message" in sql:
            inside.append(telling.soft_limit_window.inside)
        return execute(sql, *rest)

    @shared_task(atomic=True)
    def watched() -> None:
        assert telling.soft_limit_window.inside
        connection.execute_wrappers.append(watch)

    try:
        work(watched)
    finally:
        connection.execute_wrappers.clear()
    assert inside == [False]


# -- what is sent -------------------------------------------------------------------------------------------------


@shared_task(name="tests.sent")
def sent(*args: Any) -> None: ...


@pytest.mark.parametrize("fails", [True, False])
def test_what_an_atomic_task_enqueues_is_there_with_its_end_or_not_at_all(fails: bool, work: Work) -> None:
    @shared_task(atomic=True)
    def sends() -> None:
        sent.delay()
        sent.delay_on_commit()
        assert waiting("tests.sent") == []
        if fails:
            raise ValueError

    work(sends)
    assert len(waiting("tests.sent")) == (0 if fails else 2)


def test_what_is_enqueued_immediately_stays(work: Work) -> None:
    @shared_task(atomic=True)
    def sends() -> None:
        sent.apply_async(enqueue="immediately")
        raise ValueError

    work(sends)
    assert len(waiting("tests.sent")) == 1


def test_links_are_committed_with_the_end(work: Work) -> None:
    @shared_task(atomic=True)
    def good() -> int:
        return 5

    outcome = work(good, link=sent.s())
    assert outcome.successors == ()
    (row,) = waiting("tests.sent")
    assert json.loads(row["headers"])["parent_id"] == outcome.id


# -- who hears of it ----------------------------------------------------------------------------------------------


def test_handlers_and_signals_hear_of_a_success_after_its_commit(work: Work) -> None:
    heard: list[tuple[str, int]] = []

    class Told(Task[..., Any]):
        def on_success(self, *args: Any) -> None:
            heard.append(("on_success", effects()))

    @shared_task(atomic=True, base=Told)
    def good() -> None:
        write()
        heard.append(("run", effects()))

    with connected(signals.task_success, lambda **_: heard.append(("signal", effects())), good):
        work(good)
    assert heard == [("run", 0), ("on_success", 1), ("signal", 1)]


def test_a_callback_of_the_tasks_that_raises_after_the_commit_changes_nothing(
    work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    @shared_task(atomic=True)
    def good() -> None:
        write()
        transaction.on_commit(lambda: 1 // 0)

    outcome = work(good)
    assert (outcome.state, outcome.finished) == ("SUCCESS", True)
    assert effects() == 1
    assert "the task has ended" in caplog.text


# -- a commit whose answer is lost --------------------------------------------------------------------------------


@pytest.mark.parametrize("ignored", [True, False])
@pytest.mark.parametrize("happens", [True, False])
def test_a_lost_commit_is_looked_up(happens: bool, ignored: bool, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = connection._connections[connection._alias]  # type: ignore[attr-defined]

    def lose() -> None:
        monkeypatch.undo()
        if happens:
            wrapper.connection.commit()
        wrapper.connection.close()
        raise OperationalError("the connection is lost") from psycopg.OperationalError("lost")

    @shared_task(atomic=True, ignore_result=ignored)
    def good() -> None:
        write()
        monkeypatch.setattr(wrapper, "commit", lose)

    outcome = work(good)
    if happens:
        assert (outcome.state, outcome.finished, effects()) == ("SUCCESS", True, 1)
    else:
        assert (outcome.state, outcome.finished, effects()) == ("REJECTED", False, 0)
        assert outcome.again is not None
        assert work.message(outcome) is not None


def test_a_session_that_the_server_ends_before_the_commit_has_done_nothing(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = connection._connections[connection._alias]  # type: ignore[attr-defined]

    def ended() -> None:
        monkeypatch.undo()
        work.conn.execute("SELECT pg_terminate_backend(%s, 5000)", [wrapper.connection.info.backend_pid])
        wrapper.commit()

    @shared_task(atomic=True)
    def good() -> None:
        write()
        monkeypatch.setattr(wrapper, "commit", ended)

    outcome = work(good)
    assert (outcome.state, outcome.again is not None, effects()) == ("REJECTED", True, 0)
    assert work.message(outcome) is not None


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (psycopg.errors.SerializationFailure("conflict"), "REJECTED"),
        (psycopg.errors.DeadlockDetected("conflict"), "REJECTED"),
        (psycopg.errors.OutOfMemory("full"), "FAILURE"),
    ],
)
def test_a_commit_that_the_server_refuses_is_no_doubt_and_a_conflict_is_tried_again(
    error: psycopg.Error, state: str, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = connection._connections[connection._alias]  # type: ignore[attr-defined]

    def refuse() -> None:
        monkeypatch.undo()
        raise OperationalError("refused") from error

    @shared_task(atomic=True)
    def good() -> None:
        write()
        monkeypatch.setattr(wrapper, "commit", refuse)

    outcome = work(good)
    assert (outcome.state, outcome.again is not None, effects()) == (state, state == "REJECTED", 0)
    assert work.message(outcome) is not None


# -- where it cannot hold -----------------------------------------------------------------------------------------


def test_another_database_is_refused_where_it_runs_and_by_a_check(work: Work) -> None:
    @shared_task(atomic="other")
    def torn() -> None:
        write()

    outcome = work(torn)
    assert outcome.state == "FAILURE"
    assert "ImproperlyConfigured" in (outcome.traceback or "")
    assert effects() == 0
    assert [message.id for message in checks.check_settings()] == ["djtasks.E050"]


def test_an_asynchronous_task_cannot_be_atomic() -> None:
    @shared_task(atomic=True)
    async def waits() -> None: ...

    assert "`async def`" in (atomic.problem(waits) or "")
    with pytest.raises(ImproperlyConfigured, match="async def"):
        atomic.check([waits])


# -- where it is called -------------------------------------------------------------------------------------------


def test_an_eager_run_is_one_transaction() -> None:
    @shared_task(atomic=True)
    def eager(fails: bool) -> None:
        write()
        if fails:
            raise IntegrityError("no")

    assert eager.apply((True,)).state == "FAILURE"
    assert effects() == 0
    assert eager.apply((False,)).state == "SUCCESS"
    assert effects() == 1


def test_the_eager_run_of_a_call_inside_a_transaction_undoes_only_itself(configure: Configure) -> None:
    configure(TASK_ALWAYS_EAGER=True)

    @shared_task(atomic=True)
    def bad() -> None:
        write()
        raise ValueError

    with transaction.atomic():
        write()
        assert bad.delay().state == "FAILURE"
    assert effects() == 1


def test_a_run_that_no_worker_holds_is_one_transaction(work: Work) -> None:
    @shared_task(atomic=True)
    def bad() -> None:
        write()
        raise ValueError

    outcome = tracer.trace(work.claim(bad), hostname=NODE)
    assert (outcome.state, outcome.finished) == ("FAILURE", False)
    assert effects() == 0
    assert workers.peers(work.conn) == []
