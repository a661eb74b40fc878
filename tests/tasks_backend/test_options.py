"""OPTIONS of the backend, bulk enqueues, system checks, and what is not right in TASKS."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core import checks
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from djtasks import shared_task, signature_of
from djtasks.backends import PostgresBackend
from djtasks.backends.runner import Runner
from djtasks.registry import tasks as registered
from djtasks.routing import known_queues
from djtasks.testing import drain
from djtasks.views import task_info
from djtasks.worker.options import consumed_queues
from testproject.postgres.shared import CHECKOUT
from tests.tasks_app import tasks
from tests.tasks_app.framework import (
    PACKAGE,
    TASKS,
    InvalidTask,
    InvalidTaskBackend,
    TaskResultStatus,
    exceptions,
    signals,
    task,
    task_backends,
)

pytestmark = pytest.mark.django_db


def with_options(**options: Any) -> Any:
    """TASKS whose default backend has these options."""
    return override_settings(TASKS={**TASKS, "default": {**TASKS["default"], "OPTIONS": options}})


@contextmanager
def redefined(name: str = "answer") -> Iterator[Any]:
    """What djtasks knows of a task when it is defined under the present settings."""
    path = f"tests.tasks_app.tasks.{name}"
    before = registered.pop(path)
    try:
        getattr(tasks, name).using()
        yield registered[path]
    finally:
        registered[path] = before


# -- what tasks take from them -------------------------------------------------------------------------------------


def test_options_of_the_backend_are_those_of_its_tasks() -> None:
    given = {
        "MAX_RETRIES": 7,
        "AUTORETRY_FOR": ["OSError", "tests.tasks_app.tasks.OutOfOrder", ValueError],
        "DONT_AUTORETRY_FOR": ["FileNotFoundError"],
        "RETRY_BACKOFF": 2,
        "RETRY_BACKOFF_MAX": 60,
        "RETRY_JITTER": False,
        "TIME_LIMIT": 30,
        "SOFT_TIME_LIMIT": 20,
        "ACKS_LATE": True,
        "RATE_LIMIT": "10/m",
        "EXPIRES": 3600,
        "ENQUEUE": "in_transaction",
    }
    with with_options(**given), redefined() as known:
        assert isinstance(known, Runner)
        assert known.max_retries == 7
        assert known.autoretry_for == (OSError, tasks.OutOfOrder, ValueError)
        assert known.dont_autoretry_for == (FileNotFoundError,)
        assert (known.retry_backoff, known.retry_backoff_max, known.retry_jitter) == (2, 60, False)
        assert (known.time_limit, known.soft_time_limit, known.acks_late) == (30, 20, True)
        assert (known.rate_limit, known.enqueue) == ("10/m", "in_transaction")


def test_without_options_a_task_is_as_the_settings_of_djtasks_say() -> None:
    with redefined() as known:
        assert (known.autoretry_for, known.time_limit, known.acks_late, known.enqueue) == ((), None, None, None)


def test_who_says_how_often_to_retry_wants_it_after_every_error() -> None:
    with with_options(MAX_RETRIES=1), redefined() as known:
        assert known.autoretry_for == (Exception,)
    with with_options(MAX_RETRIES=0), redefined() as known:
        assert known.autoretry_for == ()
    with with_options(MAX_RETRIES=None), redefined() as known:
        assert (known.max_retries, known.autoretry_for) == (None, (Exception,))


def optional() -> None:
    """A function that is a task for a moment."""


def test_options_of_a_task_beat_those_of_its_backend() -> None:
    # What @task(options=…) does from Django 6.1 on.
    made = replace(tasks.flaky_with_a_gate, func=optional, options={"MAX_RETRIES": 5})
    known = registered.pop(made.module_path)
    assert (known.default_retry_delay, known.max_retries) == (3600, 5)
    assert made.using(priority=1).options == {"MAX_RETRIES": 5}


def test_an_enqueue_mode_of_the_backend_holds_for_its_calls() -> None:
    result = tasks.in_transaction.enqueue(1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM djtasks_message WHERE id = %s", [result.id])
        assert cursor.fetchone() == (1,)


@pytest.mark.parametrize("made", ["", 5, None, "i" * 65, "\ud800"])
def test_an_id_function_that_makes_no_id_is_told_so(made: Any) -> None:
    with with_options(ID_FUNCTION=lambda: made), pytest.raises(ValueError, match="must"):
        tasks.answer.enqueue()


def test_an_id_function_may_make_uuids() -> None:
    known = uuid.uuid4()
    with with_options(ID_FUNCTION=lambda: known):
        assert tasks.answer.enqueue().id == str(known)
        assert tasks.answer.get_result(str(known)).status == "READY"


# -- what is wrong is said at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ENQUEU": "on_commit"}, r"TASKS\['default'\]\['OPTIONS'\] has no 'ENQUEU'; did you mean 'ENQUEUE'\?"),
        ({"max_retries": 3}, r"has no 'max_retries'; did you mean 'MAX_RETRIES'\?"),
        ({"nonsense": 3}, r"has no 'nonsense'; there are ACKS_LATE,"),
        ({"RESULT_EXPIRES": 3}, "has no 'RESULT_EXPIRES'; results of all tasks are kept equally long: set RESULT_EXPI"),
        ({"ignore_result": True}, "results are always stored"),
        ({3: 3}, "has no 3; there are"),
        ({"ENQUEUE": "later"}, r"\['ENQUEUE'\] must be 'on_commit' or 'in_transaction' or 'immediately', not 'later'"),
        ({"MAX_RETRIES": -1}, r"\['MAX_RETRIES'\] must be a whole number"),
        ({"AUTORETRY_FOR": "no.such.Error"}, "must be exception classes, or their dotted names"),
        ({"AUTORETRY_FOR": ["os.getcwd"]}, "must be exception classes, or their dotted names"),
        ({"RETRY_BACKOFF": "soon"}, r"\['RETRY_BACKOFF'\] must be a number of seconds"),
        ({"TIME_LIMIT": -5}, r"\['TIME_LIMIT'\] must be a number of seconds"),
        ({"TIME_LIMIT": 5, "SOFT_TIME_LIMIT": 6}, r"SOFT_TIME_LIMIT \(6\) would never be reached before TIME_LIMIT"),
        ({"RATE_LIMIT": "often"}, r"\['RATE_LIMIT'\] must be a rate"),
        ({"ID_FUNCTION": "no.such.function"}, "must be a function without arguments, or its dotted name"),
        ({"ID_FUNCTION": 5}, "must be a function without arguments, or its dotted name, not 5"),
        ({"ATOMIC": 5}, r"\['ATOMIC'\] must be"),
    ],
)
def test_an_option_that_is_wrong_is_named_with_its_cure(options: dict[str, Any], text: str) -> None:
    others = {**TASKS, "default": {**TASKS["default"], "OPTIONS": options}}
    with override_settings(TASKS=others), pytest.raises(InvalidTaskBackend, match=text):
        task_backends["default"].check()


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"OPTIONS": ["ENQUEUE"]}, r"TASKS\['default'\]\['OPTIONS'\] must be a dict, not \['ENQUEUE'\]"),
        ({"QUEUES": "default"}, r"TASKS\['default'\]\['QUEUES'\] must be a list of names, not 'default'"),
        ({"QUEUES": ["a", 5]}, r"TASKS\['default'\]\['QUEUES'\]: each must be the name of a queue"),
        ({"QUEUES": None}, r"TASKS\['default'\]\['QUEUES'\] must be a list of names, not None"),
    ],
)
def test_an_entry_of_another_form_is_named_with_its_cure(entry: dict[str, Any], text: str) -> None:
    others = {**TASKS, "default": {**TASKS["default"], **entry}}
    with override_settings(TASKS=others), pytest.raises(InvalidTaskBackend, match=text):
        task_backends["default"].check()


def undefined() -> None:
    """A function that never becomes a task."""


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"TIME_LIMITS": 5}, r"options of .*undefined has no 'TIME_LIMITS'; did you mean 'TIME_LIMIT'\?"),
        ({"ID_FUNCTION": "uuid.uuid4"}, "has no 'ID_FUNCTION'; it is an option of the backend"),
        ({"queue": "other"}, "has no 'queue'; say queue_name= to @task"),
        ("TIME_LIMIT", "must be a dict, not 'TIME_LIMIT'"),
    ],
)
def test_an_option_of_a_task_that_is_wrong_is_named_with_its_cure(options: Any, text: str) -> None:
    with pytest.raises(InvalidTask, match=text):
        replace(tasks.answer, func=undefined, options=options)
    assert "tests.tasks_backend.test_options.undefined" not in registered


@shared_task(name="tests.tasks_backend.test_options.taken")
def of_djtasks() -> None:
    """Has the name that the next one wants."""


def taken() -> None:
    """Has a name that is taken."""


def test_two_kinds_of_task_do_not_share_a_name() -> None:
    with pytest.raises(InvalidTask, match="is the name of another task already"):
        task(taken)


# -- bulk ----------------------------------------------------------------------------------------------------------


def test_many_calls_are_written_in_one_statement() -> None:
    backend: PostgresBackend = task_backends["atomic"]
    calls = [(tasks.in_transaction.using(priority=number % 3), (number,), {}) for number in range(2500)]
    with CaptureQueriesContext(connection) as queries:
        results = backend.enqueue_all(calls)
    inserts = [each for each in queries.captured_queries if "INSERT INTO djtasks_message" in each["sql"]]
    assert len(inserts) == 1
    assert [result.args for result in results] == [[number] for number in range(2500)]
    assert len({result.id for result in results}) == 2500
    last = task_backends["atomic"].get_result(results[-1].id)
    assert (last.args, last.task.priority, last.status) == ([2499], 2499 % 3, "READY")


def test_many_calls_are_written_whole_or_not_at_all() -> None:
    backend: PostgresBackend = task_backends["atomic"]
    for bad, error in (
        ((tasks.add, (object(),), {}), TypeError),
        ((tasks.add.using(backend="any queue", queue_name="others"), (), {}), InvalidTask),
        ((tasks.add, 5, {}), TypeError),
        ((tasks.add,), TypeError),
        (("tests.tasks_app.tasks.add", (), {}), TypeError),
    ):
        with pytest.raises(error):
            backend.enqueue_all([(tasks.in_transaction, (1,), {}), bad])
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM djtasks_message")
        assert cursor.fetchone() == (0,)


def test_a_call_that_is_none_is_named_by_its_number() -> None:
    with pytest.raises(TypeError, match=r"^call 1 must be \(task, args, kwargs\), not 5$"):
        task_backends["default"].enqueue_all([(tasks.answer, (), {}), 5])


def test_no_calls_are_no_statement() -> None:
    with CaptureQueriesContext(connection) as queries:
        assert task_backends["default"].enqueue_all(()) == []
    assert len(queries) == 0


@pytest.mark.django_db(transaction=True)
def test_many_calls_wait_for_the_commit_and_are_told_of_after_it() -> None:
    heard: list[str] = []

    def receiver(sender: Any, task_result: Any, **kwargs: Any) -> None:
        heard.append(task_result.id)

    signals.task_enqueued.connect(receiver)
    with transaction.atomic():
        made = async_to_sync(task_backends["default"].aenqueue_all)([(tasks.add, (each, each), {}) for each in (1, 2)])
        assert heard == []
        assert [tasks.add.get_result(each.id).args for each in made] == [[1, 1], [2, 2]]
    assert heard == [each.id for each in made]
    signals.task_enqueued.disconnect(receiver)


# -- without a worker: eagerly, and inside of a test ----------------------------------------------------------------


@override_settings(DJTASKS={"TASK_ALWAYS_EAGER": True})
def test_eagerly_a_task_is_run_where_it_is_enqueued() -> None:
    good, bad, flaky = tasks.add.enqueue(1, 2), tasks.fail.enqueue("now"), tasks.flaky.enqueue(1)
    assert (good.status, good.return_value, good.attempts) == ("SUCCESSFUL", 3, 1)
    assert (bad.status, bad.errors[0].exception_class) == ("FAILED", tasks.OutOfOrder)
    assert flaky.status == "SUCCESSFUL"
    assert good.enqueued_at <= good.started_at <= good.finished_at
    assert [each.return_value for each in task_backends["default"].enqueue_all([(tasks.add, (1, 1), {})])] == [2]


def test_a_test_runs_what_it_has_enqueued() -> None:
    result, failing = tasks.add.enqueue(2, 2), tasks.fail.enqueue()
    drain()
    result.refresh()
    failing.refresh()
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, 4)
    assert failing.status == TaskResultStatus.FAILED


def test_a_row_that_names_what_was_never_a_task_runs_nothing() -> None:
    result = tasks.in_transaction.enqueue(1)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE djtasks_message SET name = 'os.getcwd' WHERE id = %s", [result.id])
    assert drain() == []
    with pytest.raises(exceptions.TaskResultDoesNotExist, match=r"os\.getcwd"):
        task_backends["atomic"].get_result(result.id)


SPOILT = (
    "null",
    "[]",
    '{"headers": 5}',
    '{"headers": {"django_task": 5}}',
    '{"headers": {"django_task": {"backend": "gone", "run_after": "x", "first": "y"}}}',
    '{"headers": {"django_task": {"backend": 5, "workers": [5], "errors": [5, ["x"]]}}}',
)


@pytest.mark.parametrize("headers", SPOILT)
def test_headers_that_somebody_has_spoilt_do_no_harm(headers: str) -> None:
    result = tasks.in_transaction.enqueue(1)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE djtasks_message SET headers = %s WHERE id = %s", [headers, result.id])
    found = task_backends["atomic"].get_result(result.id)
    assert (found.status, found.task.run_after, found.worker_ids, found.errors) == ("READY", None, [], [])


def test_arguments_that_cannot_be_read_are_none() -> None:
    result = tasks.in_transaction.enqueue(1)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE djtasks_message SET body = 'nonsense' WHERE id = %s", [result.id])
    assert task_backends["atomic"].get_result(result.id).args == []
    drain()
    found = task_backends["atomic"].get_result(result.id)
    assert (found.status, found.errors[0].exception_class_path) == ("FAILED", "djtasks.exceptions.DecodeError")


# -- queues and checks ---------------------------------------------------------------------------------------------


def test_a_worker_takes_from_the_queues_of_the_backends() -> None:
    assert known_queues() == ("celery", "emails")
    assert consumed_queues(None, []) == ("celery", "emails")
    with override_settings(DJTASKS={"TASK_DEFAULT_QUEUE": "main"}):
        assert consumed_queues(None, []) == ("main", "emails")
        assert signature_of(tasks.answer).options["queue"] == "main"
    with override_settings(DJTASKS={"TASK_QUEUES": ["default", "others"]}):
        assert consumed_queues(None, []) == ("default", "others")
        # A queue of that very name is meant.
        assert signature_of(tasks.answer).options["queue"] == "default"


@pytest.mark.parametrize(
    ("settings", "tasks_settings", "wanted"),
    [
        ({}, {}, []),
        ({"TASK_QUEUES": ["celery"]}, {}, ["djtasks.W081"]),
        ({"TASK_QUEUES": ["celery", "emails"]}, {}, []),
        ({"TASK_QUEUES": ["celery"], "TASK_CREATE_MISSING_QUEUES": False}, {}, ["djtasks.E082"]),
        ({}, {"QUEUES": ["default", "celery"]}, ["djtasks.W082"]),
        ({"DATABASE": "other"}, {"OPTIONS": {"ENQUEUE": "in_transaction"}}, ["djtasks.E081"]),
    ],
)
def test_system_checks_say_what_is_wrong_around_a_backend(
    settings: dict[str, Any], tasks_settings: dict[str, Any], wanted: list[str]
) -> None:
    entry = {**TASKS["default"], **tasks_settings}
    with override_settings(DJTASKS=settings, TASKS={**TASKS, "default": entry}):
        found = [each for each in task_backends["default"].check() if each.id != "djtasks.W080"]
    assert [each.id for each in found] == wanted
    assert all(each.hint for each in found)


@override_settings(DJTASKS={"TASK_QUEUES": ["celery"], "TASK_CREATE_MISSING_QUEUES": False})
def test_a_queue_that_djtasks_does_not_allow_makes_a_task_invalid() -> None:
    assert tasks.answer.enqueue().status == "READY"
    with pytest.raises(InvalidTask, match="queue 'emails' is not in TASK_QUEUES"):
        tasks.send.enqueue()
    with pytest.raises(InvalidTask, match="queue 'emails' is not in TASK_QUEUES"):
        task_backends["default"].enqueue_all([(tasks.answer, (), {}), (tasks.send, (), {})])


def test_the_views_about_tasks_answer_for_both_kinds() -> None:
    result = tasks.add.enqueue(2, 2)
    assert task_info(result.id)["status"] == "PENDING"
    drain()
    assert task_info(result.id) == {"id": result.id, "status": "SUCCESS", "result": 4}
    assert {"tests.tasks_app.tasks.add", "tests.tasks_app.tasks.double"} <= set(registered)


def test_a_project_without_djtasks_among_its_apps_is_told_so() -> None:
    with override_settings(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"]):
        found = task_backends["default"].check()
    assert "djtasks.E080" in [each.id for each in found]
    assert [each.level for each in found if each.id == "djtasks.E080"] == [checks.ERROR]


# -- who does not use it -------------------------------------------------------------------------------------------


def python(code: str, **environment: str) -> str:
    """What a fresh interpreter says to this."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "testproject.settings", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_who_does_not_use_the_backend_does_not_import_the_framework() -> None:
    code = "import django, sys; django.setup(); import djtasks.worker.worker, djtasks.admin\n"
    code += "print([name for name in sys.modules if name.startswith(('djtasks.backends', 'django_tasks'))])"
    assert python(code).strip() == "[]"


def test_who_lacks_the_framework_is_told_what_to_install() -> None:
    code = "import sys, django; django.VERSION = (5, 2, 0, 'final', 0); sys.modules['django_tasks'] = None\n"
    code += "import djtasks.backends"
    assert "install it with: pip install 'djtasks[tasks]'" in python(code).splitlines()[-1]


def test_a_task_that_djtasks_does_not_run_is_no_part_of_a_workflow() -> None:
    with pytest.raises(TypeError, match=r"signature_of\(\) takes a task of django\.tasks, not 5"):
        signature_of(5)
    path = "tests.tasks_app.tasks.elsewhere"
    known = registered.pop(path, None)
    try:
        with pytest.raises(TypeError, match=r"is run by the backend 'immediate', and not by djtasks: take \.using"):
            signature_of(tasks.elsewhere)
    finally:
        if known is not None:
            registered[path] = known
    assert signature_of(tasks.elsewhere.using(backend="default"), 1).task == path
    with pytest.raises(TypeError, match="Unsupported type"):
        signature_of(tasks.add, object())


def test_the_settings_name_the_package_of_this_django() -> None:
    assert task_backends["immediate"].__module__ == f"{PACKAGE}.backends.immediate"
