"""Sentences of Django's documentation about tasks, their definition, their enqueue and their results.

Where Django's own backends promise the same, they are asked the same, to show that the sentence was read right.
"""

import asyncio
import dataclasses
import logging
import pickle
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core import checks as django_checks
from django.core.management import call_command
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from djtasks import AsyncResult
from djtasks.ids import new_task_id
from djtasks.registry import tasks as registered
from tests.tasks_app import tasks
from tests.tasks_app.framework import (
    LOGGER,
    TASKS,
    InvalidTask,
    InvalidTaskBackend,
    TaskResultStatus,
    base,
    exceptions,
    framework,
    signals,
    task,
    task_backends,
)

OURS, DUMMY, IMMEDIATE = "default", "dummy", "immediate"
ALL = pytest.mark.parametrize("alias", [OURS, DUMMY, IMMEDIATE])
#: Those that keep what is enqueued.
KEEPING = pytest.mark.parametrize("alias", [OURS, DUMMY])
READY = TaskResultStatus.READY

pytestmark = pytest.mark.django_db


def at(alias: str, given: Any = tasks.add) -> Any:
    """The task, for that backend."""
    return given.using(backend=alias)


class Listener:
    """Receives one of the signals."""

    def __init__(self, signal: Any) -> None:
        self.signal = signal
        self.heard: list[tuple[Any, Any]] = []
        signal.connect(self)

    def __call__(self, sender: Any, task_result: Any, **kwargs: Any) -> None:
        self.heard.append((sender, task_result))

    def close(self) -> None:
        """Listen no more."""
        self.signal.disconnect(self)


# -- backends ------------------------------------------------------------------------------------------------------


def test_a_backend_is_retrieved_by_its_alias_and_the_default_one_by_its_name() -> None:
    assert type(task_backends["default"]).__name__ == "PostgresBackend"
    assert framework.default_task_backend.alias == "default"
    assert task_backends["any queue"].alias == "any queue"
    assert task_backends["default"].queues == {"default", "emails"}
    with pytest.raises(InvalidTaskBackend):
        task_backends["unknown"]


def test_the_backend_supports_all_that_can_be_supported() -> None:
    backend = task_backends[OURS]
    for feature in ("defer", "async_task", "get_result", "priority"):
        assert getattr(backend, f"supports_{feature}") is True


def test_each_method_of_the_backend_has_an_asynchronous_variant() -> None:
    backend = task_backends[OURS]
    for name in ("enqueue", "get_result", "enqueue_all"):
        assert asyncio.iscoroutinefunction(getattr(backend, f"a{name}"))


# -- defining ------------------------------------------------------------------------------------------------------


def test_the_decorator_makes_a_task_that_knows_its_function() -> None:
    assert isinstance(tasks.answer, base.Task)
    assert tasks.answer.func() == 42
    assert (tasks.answer.name, tasks.answer.module_path) == ("answer", "tests.tasks_app.tasks.answer")


def test_without_arguments_a_task_has_the_defaults() -> None:
    for each in (tasks.answer, tasks.nothing):
        assert (each.priority, each.queue_name, each.backend, each.run_after) == (0, "default", "default", None)
        assert each.takes_context is False


def test_the_arguments_of_the_decorator_are_the_attributes_of_the_task() -> None:
    assert (tasks.send.priority, tasks.send.queue_name) == (2, "emails")
    assert tasks.with_context.takes_context is True
    assert tasks.anywhere.backend == "any queue"


def test_a_task_is_called_as_its_function_is() -> None:
    assert tasks.add.call(1, right=2) == 3
    assert asyncio.run(tasks.add.acall(1, 2)) == 3


def test_a_task_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        tasks.answer.priority = 1


@ALL
def test_using_makes_another_task_and_leaves_the_first_as_it_is(alias: str) -> None:
    first = at(alias)
    second = first.using(priority=10)
    assert (second.priority, first.priority, type(second)) == (10, 0, type(first))
    assert second.using() == second
    assert second.using(priority=0) == first
    assert len({first, second, at(alias)}) == 2


def test_using_changes_priority_queue_time_and_backend() -> None:
    when = timezone.now()
    other = tasks.add.using(priority=-5, queue_name="emails", run_after=when, backend="any queue")
    assert (other.priority, other.queue_name, other.run_after, other.backend) == (-5, "emails", when, "any queue")
    assert (tasks.add.priority, tasks.add.queue_name, tasks.add.run_after) == (0, "default", None)
    # 0 is something else than nothing.
    assert other.using(priority=0).priority == 0


def test_a_task_is_known_to_workers_by_the_path_of_its_function() -> None:
    assert "tests.tasks_app.tasks.answer" in registered.names()


def test_a_task_is_pickled_by_its_path() -> None:
    assert pickle.loads(pickle.dumps(tasks.add.using(priority=3))) == tasks.add.using(priority=3)


# -- what is no valid task -----------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("priority", [-101, 101, 0.5, 10**9])
def test_a_priority_is_a_whole_number_between_minus_a_hundred_and_a_hundred(alias: str, priority: Any) -> None:
    with pytest.raises(InvalidTask, match=r"^priority must be a whole number between -100 and 100\.$"):
        at(alias).using(priority=priority)


@ALL
def test_the_least_and_the_highest_priority_are_valid(alias: str) -> None:
    assert [at(alias).using(priority=each).priority for each in (-100, 100)] == [-100, 100]


@ALL
def test_a_queue_that_the_backend_does_not_have_is_refused(alias: str) -> None:
    with pytest.raises(InvalidTask, match=r"^Queue 'unknown' is not valid for backend\.$"):
        at(alias).using(queue_name="unknown")


def test_without_queues_in_the_settings_any_name_is_valid() -> None:
    assert tasks.anywhere.using(queue_name="whatever").queue_name == "whatever"


@KEEPING
def test_the_time_to_run_after_has_a_zone(alias: str) -> None:
    with pytest.raises(InvalidTask, match=r"^run_after must be an aware datetime\.$"):
        at(alias).using(run_after=datetime(2030, 1, 1))  # noqa: DTZ001 -- that is the point


def test_without_use_tz_the_time_to_run_after_is_that_of_the_settings() -> None:
    with override_settings(USE_TZ=False, TIME_ZONE="Europe/Paris"):
        when = datetime(2030, 7, 1, 12)  # noqa: DTZ001 -- that is the point
        result = tasks.in_transaction.using(run_after=when).enqueue(1)
        result.refresh()
        assert tasks.in_transaction.get_result(result.id).task.run_after == when
        assert timezone.is_naive(result.enqueued_at)
    assert tasks.in_transaction.get_result(result.id).task.run_after == datetime(2030, 7, 1, 10, tzinfo=UTC)


@ALL
def test_a_function_has_to_be_defined_at_the_level_of_its_module(alias: str) -> None:
    def inner() -> None:
        """Inside of another one."""

    for function in (inner, lambda: None, print, InvalidTask):
        with pytest.raises(InvalidTask, match=r"^Task function must be defined at a module level\.$"):
            task(backend=alias)(function)
    assert not [name for name in registered if "<locals>" in name]


def lacks_context(other: Any) -> None:
    """Does not take what it is said to take."""


def takes_nothing() -> None:
    """Neither does this."""


@ALL
def test_what_takes_the_context_has_it_as_its_first_argument(alias: str) -> None:
    text = r"^Task takes context but does not have a first argument of 'context'\.$"
    for function in (lacks_context, takes_nothing):
        with pytest.raises(InvalidTask, match=text):
            task(backend=alias, takes_context=True)(function)
    assert "tests.tasks_backend.test_conformance.lacks_context" not in registered


@ALL
def test_the_time_to_run_after_is_nothing_for_the_decorator(alias: str) -> None:
    with pytest.raises(TypeError):
        task(backend=alias, run_after=timezone.now())(takes_nothing)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"priority": "high"}, "priority must be a whole number between -100 and 100"),
        ({"priority": float("nan")}, "priority must be a whole number between -100 and 100"),
        ({"run_after": "tomorrow"}, "run_after must be a datetime, not 'tomorrow'"),
        ({"run_after": 5}, "run_after must be a datetime, not 5"),
        ({"queue_name": ["default"]}, "queue_name must be the name of a queue"),
        ({"queue_name": "a\0b", "backend": "any queue"}, "queue_name must be the name of a queue"),
        ({"queue_name": "q" * 201, "backend": "any queue"}, "queue_name must be the name of a queue"),
        ({"queue_name": "\ud800", "backend": "any queue"}, "queue_name must be the name of a queue"),
    ],
)
def test_what_is_of_no_use_at_all_is_refused_with_a_sentence(changes: Any, text: str) -> None:
    with pytest.raises(InvalidTask, match=text):
        tasks.add.using(**changes)


# -- enqueueing ----------------------------------------------------------------------------------------------------


@KEEPING
def test_what_is_enqueued_is_ready_and_has_everything_a_result_has(alias: str) -> None:
    before = timezone.now()
    result = at(alias).enqueue(1, right=2)
    assert (result.status, result.is_finished, result.attempts) == (READY, False, 0)
    assert (result.args, result.kwargs, result.backend, result.task) == ([1], {"right": 2}, alias, at(alias))
    assert (result.started_at, result.finished_at, result.last_attempted_at) == (None, None, None)
    assert (result.errors, result.worker_ids) == ([], [])
    assert before <= result.enqueued_at <= timezone.now()
    assert isinstance(result.id, str)
    assert 0 < len(result.id) <= 64
    with pytest.raises(ValueError, match=r"^Task has not finished yet$"):
        _ = result.return_value


@KEEPING
def test_results_have_ids_of_their_own(alias: str) -> None:
    assert len({at(alias).enqueue(1, 2).id for _ in range(10)}) == 10


@ALL
def test_arguments_that_json_cannot_carry_are_refused(alias: str) -> None:
    for bad in (datetime.now(tz=UTC), object(), {1, 2}, tasks.answer, 1j):
        with pytest.raises(TypeError, match="Unsupported type"):
            at(alias, tasks.echo).enqueue(bad)
        with pytest.raises(TypeError, match="Unsupported type"):
            at(alias, tasks.echo).enqueue(word={"deep": [bad]})
    with pytest.raises(ValueError, match="Unsupported value"):
        at(alias, tasks.echo).enqueue(b"\xff")


@KEEPING
def test_arguments_are_kept_as_json_brings_them_back(alias: str) -> None:
    given = [1, 2]
    result = at(alias, tasks.echo).enqueue((1, 2), given, key=b"text")
    given.append(3)
    assert (result.args, result.kwargs) == ([[1, 2], [1, 2]], {"key": "text"})
    result.refresh()
    again = task_backends[alias].get_result(result.id)
    assert (again.args, again.kwargs) == ([[1, 2], [1, 2]], {"key": "text"})


@pytest.mark.parametrize("value", ["\0", "\ud800", "𝄞" * 1000, 1.5e308, 2**70, {"__type__": "x", "__value__": 1}])
def test_odd_arguments_are_kept_all_the_same(value: Any) -> None:
    result = tasks.echo.enqueue(value)
    assert task_backends[OURS].get_result(result.id).args == [value]


@KEEPING
def test_a_coroutine_enqueues_with_the_same_arguments(alias: str) -> None:
    result = async_to_sync(at(alias).aenqueue)(1, right=2)
    assert (result.status, result.args, result.kwargs) == (READY, [1], {"right": 2})
    # What is asynchronous goes on in the transaction of this thread.
    assert task_backends[alias].get_result(result.id).id == result.id


def test_a_task_that_is_not_valid_any_more_is_not_enqueued() -> None:
    others = {**TASKS, "default": {**TASKS["default"], "QUEUES": ["others"]}}
    text = r"^Queue 'default' is not valid for backend\.$"
    with override_settings(TASKS=others), pytest.raises(InvalidTask, match=text):
        tasks.add.enqueue(1, 2)


@KEEPING
def test_a_result_cannot_be_changed(alias: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        at(alias).enqueue(1, 2).status = TaskResultStatus.FAILED


# -- results by their ids ------------------------------------------------------------------------------------------


@KEEPING
def test_a_result_is_retrieved_by_its_id_from_its_task_and_from_the_backend(alias: str) -> None:
    asked = at(alias, tasks.echo).using(priority=9)
    result = asked.enqueue(["a"], "b", message="c")
    for found in (asked.get_result(result.id), task_backends[alias].get_result(result.id)):
        assert (found.id, found.task, found.status, found.args) == (result.id, asked, READY, [["a"], "b"])
        assert (found.kwargs, found.backend) == ({"message": "c"}, alias)


@KEEPING
def test_a_coroutine_retrieves_results(alias: str) -> None:
    result = at(alias).enqueue(1, 2)

    async def look() -> tuple[Any, Any]:
        await result.arefresh()
        return await at(alias).aget_result(result.id), await task_backends[alias].aget_result(result.id)

    assert [each.id for each in async_to_sync(look)()] == [result.id] * 2


@KEEPING
@pytest.mark.parametrize(
    "result_id", ["unknown", "", None, 5, "a\0b", "\ud800", "6" * 5000, [], pytest.param(new_task_id(), id="uuid")]
)
def test_an_id_that_nobody_knows_has_no_result(alias: str, result_id: Any) -> None:
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        task_backends[alias].get_result(result_id)
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        at(alias).get_result(result_id)


@KEEPING
def test_a_result_of_another_task_does_not_match(alias: str) -> None:
    result = at(alias, tasks.answer).enqueue()
    text = r"^Task does not match \(received 'tests\.tasks_app\.tasks\.answer'\)$"
    with pytest.raises(exceptions.TaskResultMismatch, match=text):
        at(alias).get_result(result.id)
    with pytest.raises(exceptions.TaskResultMismatch, match=text):
        async_to_sync(at(alias).aget_result)(result.id)


@KEEPING
def test_the_result_of_a_variant_is_one_of_the_task(alias: str) -> None:
    result = at(alias).using(priority=5).enqueue(1, 2)
    assert at(alias).get_result(result.id).task.priority == 5


def test_a_task_of_djtasks_own_is_no_result_of_the_framework() -> None:
    sent = tasks.double.apply_async((1,), enqueue="in_transaction")
    with pytest.raises(exceptions.TaskResultDoesNotExist, match=r"tests\.tasks_app\.tasks\.double"):
        task_backends[OURS].get_result(sent.id)


def test_a_task_that_is_not_imported_here_is_not_imported_for_its_result() -> None:
    result = tasks.in_transaction.enqueue(1)
    known = registered.pop("tests.tasks_app.tasks.in_transaction")
    try:
        with pytest.raises(exceptions.TaskResultDoesNotExist, match="imported here"):
            task_backends[OURS].get_result(result.id)
    finally:
        registered["tests.tasks_app.tasks.in_transaction"] = known


def test_the_result_of_the_framework_and_that_of_djtasks_are_of_one_task() -> None:
    result = tasks.in_transaction.enqueue(1)
    sent: AsyncResult[Any] = AsyncResult(result.id)
    assert (sent.name, sent.args, sent.state) == ("tests.tasks_app.tasks.in_transaction", [1], "PENDING")


# -- transactions --------------------------------------------------------------------------------------------------


def test_what_is_enqueued_in_a_transaction_is_there_for_who_has_opened_it() -> None:
    result = tasks.add.enqueue(1, 2)
    result.refresh()
    assert (result.status, result.args) == (READY, [1, 2])


@pytest.mark.django_db(transaction=True)
def test_what_is_enqueued_in_a_transaction_that_is_rolled_back_is_not_there() -> None:
    enqueued = Listener(signals.task_enqueued)
    with transaction.atomic():
        results = [tasks.add.enqueue(1, 2), tasks.in_transaction.enqueue(3)]
        transaction.set_rollback(True)
    for result in results:
        with pytest.raises(exceptions.TaskResultDoesNotExist):
            result.refresh()
    # Of the one that was written at once it was said at once.
    assert [result.id for _, result in enqueued.heard] == [results[1].id]
    enqueued.close()


@pytest.mark.django_db(transaction=True)
def test_the_way_of_the_documentation_to_wait_for_a_commit_works_as_well() -> None:
    enqueued = Listener(signals.task_enqueued)
    with transaction.atomic():
        transaction.on_commit(partial(tasks.add.enqueue, left=1, right=2))
        assert enqueued.heard == []
    ((_, result),) = enqueued.heard
    result.refresh()
    assert result.kwargs == {"left": 1, "right": 2}
    enqueued.close()


# -- signals and the log -------------------------------------------------------------------------------------------


@KEEPING
@pytest.mark.django_db(transaction=True)
def test_the_signal_of_an_enqueue_comes_from_the_class_of_the_backend_with_the_result(alias: str) -> None:
    enqueued = Listener(signals.task_enqueued)
    with transaction.atomic():
        result = at(alias).enqueue(1, 2)
    ((sender, heard),) = enqueued.heard
    assert sender is type(task_backends[alias])
    assert (heard.id, heard.status) == (result.id, READY)
    enqueued.close()


@KEEPING
@pytest.mark.django_db(transaction=True)
def test_an_enqueue_is_logged(alias: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, LOGGER):
        result = at(alias).enqueue(1, 2)
    line = f"Task id={result.id} path=tests.tasks_app.tasks.add enqueued backend={alias}"
    assert [each.getMessage() for each in caplog.records if each.name == LOGGER] == [line]


# -- checks --------------------------------------------------------------------------------------------------------


def test_the_backend_is_checked_with_the_others() -> None:
    assert [each for each in task_backends[OURS].check() if each.level >= django_checks.ERROR] == []
    call_command("check")
