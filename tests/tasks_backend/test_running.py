"""Sentences of Django's documentation about tasks that run: a real worker, and Django's own backend beside it."""

from datetime import timedelta
from typing import Any

import psutil
import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.utils import timezone

from djtasks import AsyncResult, chain, chord, group, signature_of
from tests.tasks_app import tasks
from tests.tasks_app.framework import TaskResultStatus, task_backends
from tests.tasks_backend.conftest import Heard
from tests.waits import wait_until
from tests.worker.running import Gate, RunningWorker, query

READY, RUNNING = TaskResultStatus.READY, TaskResultStatus.RUNNING
SUCCESSFUL, FAILED = TaskResultStatus.SUCCESSFUL, TaskResultStatus.FAILED

pytestmark = pytest.mark.usefixtures("worker")


def finished(result: Any) -> Any:
    """Wait for the end of a call; returns its result."""

    def look() -> bool:
        result.refresh()
        return bool(result.is_finished)

    wait_until(look, f"{result.task.module_path} {result.id} has finished")
    return result


def run(task: Any, *args: Any, **kwargs: Any) -> Any:
    """The result of a call that has finished."""
    return finished(task.enqueue(*args, **kwargs))


def begun(result: Any) -> Any:
    """Wait until a call runs; returns its result."""

    def look() -> bool:
        result.refresh()
        return bool(result.status == RUNNING)

    wait_until(look, f"{result.id} runs")
    return result


def immediately(task: Any, *args: Any, **kwargs: Any) -> Any:
    """The same with the backend that is Django's own."""
    return task.using(backend="immediate").enqueue(*args, **kwargs)


BOTH = pytest.mark.parametrize("call", [run, immediately])


# -- return values, arguments -------------------------------------------------------------------------------------


@BOTH
def test_a_task_that_is_enqueued_is_run_and_its_return_value_is_there(call: Any) -> None:
    before = timezone.now()
    result = call(tasks.answer)
    assert (result.status, result.return_value, result.is_finished) == (SUCCESSFUL, 42, True)
    assert (result.attempts, len(result.worker_ids), result.errors) == (1, 1, [])
    assert result.started_at == result.last_attempted_at
    slack = timedelta(seconds=1)
    assert before - slack <= result.enqueued_at <= result.started_at <= result.finished_at + slack
    assert all(isinstance(each, str) for each in result.worker_ids)


@BOTH
def test_a_task_that_returns_nothing_has_none_as_its_return_value(call: Any) -> None:
    assert call(tasks.nothing).return_value is None


@BOTH
def test_arguments_are_passed_to_the_function_as_they_are(call: Any) -> None:
    result = call(tasks.echo, 1, "two", [3.5, None], four={"five": True})
    assert result.return_value == [[1, "two", [3.5, None]], {"four": {"five": True}}]
    assert (result.args, result.kwargs) == ([1, "two", [3.5, None]], {"four": {"five": True}})


@BOTH
def test_arguments_come_as_json_brings_them_back(call: Any) -> None:
    result = call(tasks.kinds, (1, 2), b"bytes", 1.5, key=("a",))
    assert result.return_value == [["list", "str", "float"], {"key": "list"}]
    assert (result.args, result.kwargs) == ([[1, 2], "bytes", 1.5], {"key": ["a"]})


@BOTH
def test_a_tuple_that_became_a_list_is_no_key_of_a_dictionary(call: Any) -> None:
    result = call(tasks.double_dictionary, (1, 2, 3))
    assert result.status == FAILED
    assert result.errors[0].exception_class is TypeError
    assert "unhashable type: 'list'" in result.errors[0].traceback


@BOTH
def test_return_values_come_as_json_brings_them_back(call: Any) -> None:
    assert call(tasks.tuples).return_value == {"a": [1, 2, [3]], "b": "bytes"}


@BOTH
def test_what_json_cannot_carry_back_fails_the_task(call: Any) -> None:
    result = call(tasks.unstorable)
    assert (result.status, result.errors[0].exception_class) == (FAILED, TypeError)
    assert "Unsupported type" in result.errors[0].traceback


@BOTH
def test_arguments_that_do_not_fit_the_function_fail_the_task(call: Any) -> None:
    result = call(tasks.answer, 1, 2)
    assert (result.status, result.errors[0].exception_class) == (FAILED, TypeError)
    assert "answer() takes 0 positional arguments but 2 were given" in result.errors[0].traceback


@BOTH
def test_a_coroutine_is_run(call: Any) -> None:
    assert call(tasks.coroutine, 7).return_value[0] == 7
    assert call(tasks.coroutine_with_context, 7).return_value == [1, 7]
    assert call(tasks.coroutine_that_fails).errors[0].exception_class is tasks.OutOfOrder


# -- errors -------------------------------------------------------------------------------------------------------


@BOTH
def test_an_error_is_kept_as_its_class_and_its_traceback(call: Any) -> None:
    result = call(tasks.fail, "this time")
    assert (result.status, result.is_finished, result.attempts) == (FAILED, True, 1)
    (error,) = result.errors
    assert error.exception_class_path == "tests.tasks_app.tasks.OutOfOrder"
    assert error.exception_class is tasks.OutOfOrder
    assert error.traceback.startswith("Traceback (most recent call last):\n")
    assert error.traceback.rstrip().endswith("OutOfOrder: this time")
    assert "in fail\n" in error.traceback
    with pytest.raises(ValueError, match=r"^Task failed$"):
        _ = result.return_value


@BOTH
def test_the_traceback_of_an_error_has_that_of_its_cause(call: Any) -> None:
    (error,) = call(tasks.fail_deeply).errors
    assert error.exception_class is ValueError
    assert "KeyError: 'the cause'" in error.traceback


@BOTH
def test_a_task_that_wants_to_leave_the_process_has_failed(call: Any) -> None:
    result = call(tasks.leave)
    assert (result.status, result.errors[0].exception_class) == (FAILED, SystemExit)


def test_a_task_whose_process_dies_has_failed() -> None:
    result = run(tasks.die)
    assert (result.status, result.attempts) == (FAILED, 1)
    assert result.errors[0].exception_class_path == "djtasks.exceptions.WorkerLostError"


def test_a_task_over_its_own_time_limit_has_failed(heard: Heard) -> None:
    result = run(tasks.endless)
    assert result.status == FAILED
    assert result.errors[0].exception_class_path == "djtasks.exceptions.TimeLimitExceeded"
    # Nobody is left in its process to tell of it: the worker does.
    wait_until(lambda: heard.of(result, "finished"), "the receivers have heard of it")


# -- the context --------------------------------------------------------------------------------------------------


@BOTH
def test_a_task_that_takes_its_context_knows_its_attempt_and_its_result(call: Any) -> None:
    result = call(tasks.with_context, "word")
    context = result.return_value
    assert {key: context[key] for key in ("word", "type", "attempt", "id", "status", "args", "kwargs", "task")} == {
        "word": "word",
        "type": "TaskContext",
        "attempt": 1,
        "id": result.id,
        "status": "RUNNING",
        "args": ["word"],
        "kwargs": {},
        "task": "tests.tasks_app.tasks.with_context",
    }
    assert (context["is_finished"], context["errors"], context["started"], context["enqueued"]) == (
        False,
        0,
        True,
        True,
    )
    assert context["worker_ids"] == result.worker_ids


def test_the_context_has_the_task_as_it_was_enqueued() -> None:
    when = timezone.now() - timedelta(minutes=1)
    result = run(tasks.with_context.using(priority=7, queue_name="emails", run_after=when), "word")
    context = result.return_value
    assert (context["priority"], context["queue_name"], context["backend"]) == (7, "emails", "default")
    assert context["run_after"] == when.isoformat()
    assert (result.task.priority, result.task.queue_name, result.task.run_after) == (7, "emails", when)
    assert result.task == tasks.with_context.using(priority=7, queue_name="emails", run_after=when)


def test_the_worker_is_known_by_its_name(worker: RunningWorker) -> None:
    assert run(tasks.answer).worker_ids == [f"{worker.name}@here"]


def test_a_task_runs_in_a_process_of_the_worker(worker: RunningWorker) -> None:
    pid = run(tasks.with_context, "word").return_value["pid"]
    assert pid in [each.pid for each in psutil.Process(worker.pid).children(recursive=True)]


# -- results ------------------------------------------------------------------------------------------------------


def test_a_result_does_not_change_until_it_is_refreshed(gate: Gate) -> None:
    result = tasks.hold.enqueue(str(gate))
    assert (result.status, result.is_finished) == (READY, False)
    later = begun(tasks.hold.get_result(result.id))
    assert (later.status, later.is_finished, later.attempts) == (RUNNING, False, 1)
    assert later.started_at is not None
    assert later.finished_at is None
    assert (result.status, result.started_at) == (READY, None)
    with pytest.raises(ValueError, match=r"^Task has not finished yet$"):
        _ = later.return_value
    gate.open()
    assert finished(later).return_value == "through"
    assert result.status == READY
    result.refresh()
    assert (result.status, result.return_value) == (SUCCESSFUL, "through")
    assert result == later


def test_a_result_is_refreshed_from_a_coroutine() -> None:
    result = tasks.answer.enqueue()
    finished(tasks.answer.get_result(result.id))
    assert result.status == READY
    async_to_sync(result.arefresh)()
    assert result.return_value == 42


def test_a_result_is_found_by_its_id_from_anywhere() -> None:
    result = run(tasks.add, 1, right=2)
    assert tasks.add.get_result(result.id) == result
    assert async_to_sync(tasks.add.aget_result)(result.id) == result
    # From a worker, too.
    assert run(tasks.backend_of, result.id).return_value == ["SUCCESSFUL", 3]


def test_a_task_enqueues_others() -> None:
    for each in (run(tasks.parent, 1), run(tasks.asynchronous_parent)):
        child = finished(tasks.answer.get_result(each.return_value))
        assert child.return_value == 42


# -- when, and in which order --------------------------------------------------------------------------------------


def test_a_task_does_not_run_before_the_time_it_is_to_run_after() -> None:
    when = timezone.now() + timedelta(seconds=1.2)
    early, late = tasks.answer.using(run_after=timezone.now() + timedelta(days=1)), tasks.answer.using(run_after=when)
    waiting, soon = early.enqueue(), late.enqueue()
    assert finished(soon).started_at >= when
    waiting.refresh()
    assert (waiting.status, waiting.attempts, waiting.started_at) == (READY, 0, None)
    AsyncResult[Any](waiting.id).revoke()


def test_a_higher_priority_runs_sooner(worker: RunningWorker, gate: Gate) -> None:
    held = [begun(tasks.hold.enqueue(str(gate))) for _ in range(2)]
    with transaction.atomic():
        given = {number: tasks.add.using(priority=number).enqueue(number, 0) for number in (-100, 0, 100, 5)}
    gate.open()
    for each in held:
        finished(each)
    for each in given.values():
        finished(each)
    claimed = query("SELECT id::text FROM djtasks_result WHERE name LIKE '%%.add' ORDER BY claim DESC LIMIT 4")
    assert [given[number].id for number in (-100, 0, 5, 100)] == [found for (found,) in claimed]


def test_every_queue_of_the_settings_is_served_and_default_is_that_of_the_worker() -> None:
    assert run(tasks.send, ["a", "b"], "subject", message="text").return_value == 2
    result = run(tasks.answer)
    assert (result.task.queue_name, AsyncResult[Any](result.id).queue) == ("default", "celery")


# -- attempts ------------------------------------------------------------------------------------------------------


def test_a_task_that_is_retried_keeps_the_errors_and_the_workers_of_all_its_attempts(worker: RunningWorker) -> None:
    result = run(tasks.flaky, 2)
    assert (result.status, result.attempts) == (SUCCESSFUL, 3)
    assert result.return_value == [3, 2]
    assert result.worker_ids == [f"{worker.name}@here"] * 3
    assert [error.traceback.rstrip().rpartition(": ")[2] for error in result.errors] == ["attempt 1", "attempt 2"]
    assert {error.exception_class for error in result.errors} == {tasks.OutOfOrder}
    assert result.started_at < result.last_attempted_at <= result.finished_at
    assert result.args == [2]


def test_a_task_that_is_retried_in_vain_has_failed_with_all_its_errors(heard: Heard) -> None:
    result = run(tasks.flaky, 10)
    assert (result.status, result.attempts, len(result.errors)) == (FAILED, 3, 3)
    assert result.errors[2].traceback.rstrip().endswith("attempt 3")
    wait_until(lambda: heard.of(result, "finished"), "the receivers have heard of it")
    assert heard.of(result, "enqueued") == ["task_enqueued READY 0 PostgresBackend 0"]
    # The worker may have been quicker than the caller.
    assert [each for each in heard.of(result) if "enqueued" not in each] == [
        "task_started RUNNING 1 PostgresBackend 0",
        "task_started RUNNING 2 PostgresBackend 1",
        "task_started RUNNING 3 PostgresBackend 2",
        "task_finished FAILED 3 PostgresBackend 3",
    ]


def test_between_two_attempts_a_task_is_ready_again(worker: RunningWorker, gate: Gate) -> None:
    result = tasks.flaky_with_a_gate.enqueue(str(gate))

    def attempted() -> bool:
        result.refresh()
        return bool(result.errors)

    wait_until(attempted, "an attempt has failed")
    assert (result.status, result.is_finished, result.attempts) == (READY, False, 1)
    assert result.worker_ids == [f"{worker.name}@here"]
    assert result.finished_at is None
    first = result.started_at
    assert first == result.last_attempted_at
    gate.open()
    # Its next attempt is an hour away.
    assert AsyncResult[Any](result.id).requeue() == "hurried"
    finished(result)
    assert (result.status, result.attempts, len(result.errors)) == (SUCCESSFUL, 2, 1)
    # Two ways to round the same moment.
    assert abs(result.started_at - first) <= timedelta(microseconds=1)
    assert first < result.last_attempted_at


# -- signals and the log -------------------------------------------------------------------------------------------


def test_the_signals_of_a_call_are_sent_in_order_by_the_class_of_the_backend(heard: Heard) -> None:
    good, bad = run(tasks.answer), run(tasks.fail)
    for result, status, errors in ((good, "SUCCESSFUL", 0), (bad, "FAILED", 1)):
        wait_until(lambda result=result: heard.of(result, "finished"), "the receivers have heard of it")  # type: ignore[misc]
        assert heard.of(result, "enqueued") == ["task_enqueued READY 0 PostgresBackend 0"]
        assert [each for each in heard.of(result) if "enqueued" not in each] == [
            "task_started RUNNING 1 PostgresBackend 0",
            f"task_finished {status} 1 PostgresBackend {errors}",
        ]


def test_a_task_that_was_revoked_has_failed_and_was_not_attempted() -> None:
    result = tasks.answer.using(run_after=timezone.now() + timedelta(days=1)).enqueue()
    AsyncResult[Any](result.id).revoke()
    finished(result)
    assert (result.status, result.attempts, result.worker_ids) == (FAILED, 0, [])
    assert (result.started_at, result.last_attempted_at) == (None, None)
    assert result.errors[0].exception_class_path == "djtasks.exceptions.TaskRevokedError"


def test_a_task_that_has_expired_has_failed_and_finished(heard: Heard) -> None:
    result = tasks.answer.using(run_after=timezone.now() + timedelta(days=1)).enqueue()
    query("UPDATE djtasks_message SET expires = statement_timestamp() WHERE id = %s", result.id)
    finished(result)
    assert (result.status, result.attempts, len(result.errors)) == (FAILED, 0, 1)
    wait_until(lambda: heard.of(result, "finished"), "the receivers have heard of it")
    assert heard.of(result)[1:] == ["task_finished FAILED 0 PostgresBackend 1"]


# -- beside the tasks of djtasks ----------------------------------------------------------------------------------


def value(result: Any) -> Any:
    """What came of a workflow."""
    return result.get(timeout=20)


def test_both_kinds_of_task_are_links_of_one_chain() -> None:
    assert value(chain(tasks.add.s(1, 2), tasks.double.s(), tasks.add.s(10), tasks.double.si(4)).delay()) == 8
    assert value((tasks.double.s(2) | tasks.add.s(1) | tasks.double.s()).delay()) == 10


def test_both_kinds_of_task_are_members_of_one_group_and_bodies_of_a_chord() -> None:
    members = [tasks.add.s(1, 1), tasks.double.s(2), signature_of(tasks.add, 3, right=3)]
    assert value(group(members).delay()) == [2, 4, 6]
    assert value(chord(members, tasks.total.s()).delay()) == 12
    assert value(chord(members, tasks.total_of.s()).delay()) == 12


def test_a_step_of_a_workflow_is_a_result_of_its_task() -> None:
    sent = (tasks.double.s(2) | signature_of(tasks.add.using(priority=9, queue_name="emails"), 1)).delay()
    assert value(sent) == 5
    result = tasks.add.get_result(sent.id)
    assert (result.status, result.return_value, result.args) == (SUCCESSFUL, 5, [4, 1])
    assert (result.task.priority, result.task.queue_name) == (9, "emails")


def test_a_failed_step_fails_the_workflow() -> None:
    sent = (tasks.fail.s() | tasks.double.s()).delay()
    with pytest.raises(tasks.OutOfOrder):
        value(sent)


# -- between backends ----------------------------------------------------------------------------------------------


def test_a_task_of_another_backend_runs_here_when_it_is_enqueued_here() -> None:
    assert tasks.elsewhere.enqueue(1).return_value == 2
    result = run(tasks.elsewhere.using(backend="default"), 1)
    assert (result.return_value, result.backend, result.task.backend) == (2, "default", "default")
    assert result.worker_ids[0].endswith("@here")


def test_ids_may_be_ones_own() -> None:
    result = run(tasks.identified)
    assert result.id.startswith("call-")
    assert result.return_value == "known"
    assert task_backends["own ids"].get_result(result.id).id == result.id


def test_many_calls_are_enqueued_at_once_and_run() -> None:
    calls = [(tasks.add, (number,), {"right": 1}) for number in range(20)]
    made = task_backends["default"].enqueue_all([*calls, (tasks.answer.using(priority=3), (), {})])
    assert [finished(each).return_value for each in made] == [*range(1, 21), 42]


def test_the_work_of_an_atomic_task_and_its_end_are_one(heard: Heard) -> None:
    good, bad = run(tasks.exactly_once, False), run(tasks.exactly_once, True)
    assert (good.status, good.return_value, bad.status) == (SUCCESSFUL, 1, FAILED)
    made = query("SELECT username FROM auth_user WHERE username = ANY(%s)", [good.id, bad.id])
    assert made == [(good.id,)]
    wait_until(lambda: heard.of(bad, "finished"), "the receivers have heard of it")


def test_what_was_enqueued_in_the_callers_transaction_runs_after_its_commit() -> None:
    with transaction.atomic():
        result = tasks.in_transaction.enqueue(5)
        assert query("SELECT count(*) FROM djtasks_message WHERE id = %s", result.id) == [(1,)]
    assert finished(result).return_value == 5
