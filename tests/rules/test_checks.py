"""System checks."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.conf import LazySettings
from django.core.checks import registry, run_checks
from django.db.utils import ConnectionHandler

from djtasks import checks, shared_task
from djtasks.checks import check_deployment, check_settings
from djtasks.registry import TaskRegistry, tasks
from djtasks.serializers.optional import library
from djtasks.task import Task
from testproject.postgres.shared import CHECKOUT

POSTGRES: dict[str, Any] = {"ENGINE": "django.db.backends.postgresql", "NAME": "x"}


@pytest.fixture(autouse=True)
def databases(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give Django other databases to look at, none of which is connected to."""

    def give(**aliases: dict[str, Any]) -> None:
        monkeypatch.setattr(checks, "connections", ConnectionHandler(copy.deepcopy(aliases)))

    give(default=POSTGRES)
    return give


@pytest.fixture(autouse=True)
def _no_tasks_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the settings are looked at, and what a test registers itself."""
    for name in list(tasks):
        monkeypatch.delitem(tasks, name)


def ids(settings: LazySettings, **values: Any) -> list[str | None]:
    settings.DJTASKS = values
    return [message.id for message in check_settings()]


def test_the_default_settings_are_right(settings: LazySettings) -> None:
    assert ids(settings) == []
    assert check_deployment() == []


def test_the_checks_are_registered_with_django(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = registry.CheckRegistry()
    monkeypatch.setattr("django.core.checks.register", fresh.register)
    checks.register_checks()
    assert fresh.tags_available(deployment_checks=True) >= {"djtasks"}


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({}, []),
        ({"TASK_TIME_LIMT": 5}, ["djtasks.E001"]),
        ({"TASK_TIME_LIMIT": -1}, ["djtasks.E001"]),
        ({"TASK_TIME_LIMIT": 10**400}, ["djtasks.E001"]),
        ({"TASK_SOFT_TIME_LIMIT": 20, "TASK_TIME_LIMIT": 10}, ["djtasks.E001"]),
        ({"TASK_SERIALIZER": "jsn"}, ["djtasks.E007"]),
    ],
)
def test_django_finds_what_is_wrong_by_our_tag(
    settings: LazySettings, values: dict[str, Any], found: list[str]
) -> None:
    settings.DJTASKS = values
    assert [message.id for message in run_checks(tags=["djtasks"])] == found


def manage_check(**environment: str) -> tuple[int, str]:
    """The exit code of `manage.py check`, and what it says."""
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=CHECKOUT,
        env={**os.environ, "EXTRA_APPS": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_manage_py_check_says_it_in_words() -> None:
    code, said = manage_check(DJTASKS='{"TASK_TIME_LIMT": 5}')
    assert code == 1
    assert "?: (djtasks.E001) DJTASKS['TASK_TIME_LIMT'] is not a setting." in said
    assert "HINT: Did you mean 'TASK_TIME_LIMIT'?" in said
    assert "Traceback" not in said


def test_manage_py_check_refuses_a_database_that_is_not_postgresql() -> None:
    code, said = manage_check(DATABASE_URL="sqlite:///:memory:")
    assert code == 1
    assert "?: (djtasks.E003) The tasks' database, 'default', is sqlite, not PostgreSQL." in said
    assert "Traceback" not in said


def test_a_misspelt_setting_is_an_error_with_a_guess(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_TIME_LIMT": 5}
    [message] = check_settings()
    assert (message.id, message.hint) == ("djtasks.E001", "Did you mean 'TASK_TIME_LIMIT'?")
    assert check_deployment() == []


def test_settings_of_other_servers_are_one_piece_of_information(settings: LazySettings) -> None:
    settings.DJTASKS = {"BROKER_URL": "amqp://", "REDIS_HOST": "x"}
    [message] = check_settings()
    assert message.id == "djtasks.I001"
    assert str(message.msg).startswith("Settings without a meaning here: BROKER_URL (messages are rows of PostgreSQL")
    assert "; REDIS_HOST (results are rows" in str(message.msg)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"DATABASE": "nowhere"}, ["djtasks.E002"]),
        ({"TASK_SERIALIZER": "jsn"}, ["djtasks.E007"]),
        ({"TASK_SERIALIZER": "yaml"}, ["djtasks.E008"]),
        ({"TASK_SERIALIZER": "yaml", "ACCEPT_CONTENT": ["json", "application/x-yaml"]}, []),
        ({"RESULT_SERIALIZER": "yaml", "ACCEPT_CONTENT": ["json", "yaml"]}, []),
        ({"RESULT_SERIALIZER": "yaml", "RESULT_ACCEPT_CONTENT": ["json"]}, ["djtasks.E008"]),
        ({"ACCEPT_CONTENT": ["json", "jsn"]}, ["djtasks.E009"]),
        ({"TASK_COMPRESSION": "gzp"}, ["djtasks.E010"]),
        ({"TASK_COMPRESSION": "zlib", "RESULT_COMPRESSION": "xz"}, []),
        ({"TASK_ROUTES": "no.such.Router"}, ["djtasks.E011"]),
        ({"TASK_ROUTES": {"a": {"queue": "x", "routing-key": "x"}}}, ["djtasks.W003"]),
        ({"WORKER_POOL": "solo", "TASK_TIME_LIMIT": 5}, ["djtasks.W004"]),
        ({"WORKER_POOL": "prefork", "TASK_TIME_LIMIT": 5}, []),
        ({"WORKER_POOL": "solo", "WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS": True}, ["djtasks.W005"]),
    ],
)
def test_what_is_wrong_is_found(settings: LazySettings, values: dict[str, Any], found: list[str]) -> None:
    assert ids(settings, **values) == found


def test_a_database_that_is_not_postgresql_is_an_error(settings: LazySettings, databases: Callable[..., None]) -> None:
    databases(default={"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"})
    assert ids(settings) == ["djtasks.E003"]


def test_a_django_that_uses_psycopg2_is_an_error(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psycopg, "__version__", "2.9.10 (dt dec pq3 ext lo64)")
    assert ids(settings) == ["djtasks.E004"]


def test_the_tasks_may_be_in_a_database_of_their_own(settings: LazySettings, databases: Callable[..., None]) -> None:
    databases(default={"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}, tasks=POSTGRES)
    assert ids(settings, DATABASE="tasks") == []


def test_tasks_in_another_database_cannot_be_part_of_the_transaction(
    settings: LazySettings, databases: Callable[..., None]
) -> None:
    databases(default=POSTGRES, tasks=POSTGRES)
    assert ids(settings, DATABASE="tasks", ENQUEUE="in_transaction") == ["djtasks.E005"]
    assert ids(settings, DATABASE="default", ENQUEUE="in_transaction") == []


def test_a_database_without_autocommit_is_an_error(settings: LazySettings, databases: Callable[..., None]) -> None:
    databases(default={**POSTGRES, "AUTOCOMMIT": False})
    assert ids(settings) == ["djtasks.E006"]


def test_enqueueing_at_once_inside_atomic_requests_is_a_warning(
    settings: LazySettings, databases: Callable[..., None]
) -> None:
    databases(default={**POSTGRES, "ATOMIC_REQUESTS": True})
    assert ids(settings, ENQUEUE="immediately") == ["djtasks.W002"]
    assert ids(settings, ENQUEUE="on_commit") == []


def test_a_missing_library_is_an_error_that_says_how_to_install_it(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.cache_clear()
    monkeypatch.setitem(sys.modules, "msgpack", None)
    settings.DJTASKS = {"TASK_SERIALIZER": "msgpack", "ACCEPT_CONTENT": ["json", "msgpack"]}
    [message] = check_settings()
    assert (message.id, "pip install 'djtasks[msgpack]'" in str(message.msg)) == ("djtasks.E007", True)
    settings.DJTASKS = {"ACCEPT_CONTENT": ["json", "application/x-msgpack"]}
    [message] = check_settings()
    assert (message.id, "pip install 'djtasks[msgpack]'" in str(message.msg)) == ("djtasks.E009", True)
    settings.DJTASKS = {"TASK_SERIALIZER": "msgpack", "ACCEPT_CONTENT": ["msgpack", "jsn"], "RESULT_SERIALIZER": "json"}
    assert [message.id for message in check_settings()] == ["djtasks.E007", "djtasks.E008", "djtasks.E009"]


@pytest.mark.parametrize(
    ("values", "found"),
    [({"TASK_ALWAYS_EAGER": True}, ["djtasks.W010"]), ({"ACCEPT_CONTENT": ["json", "pickle"]}, ["djtasks.W011"])],
)
def test_what_is_wrong_in_production_only_is_found_there(
    settings: LazySettings, values: dict[str, Any], found: list[str]
) -> None:
    settings.DJTASKS = values
    assert check_settings() == []
    assert [message.id for message in check_deployment()] == found


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"rate_limit": "5/d"}, "takes s, m or h"),
        ({"max_concurrency": -1}, "max_concurrency"),
        ({"on_conflict": "explode"}, "on_conflict"),
        ({"global_rate_limit": "5/s", "global_rate_key": "k", "concurrency_key": "c"}, "that of their key"),
    ],
)
def test_a_task_whose_rates_and_limits_do_not_fit_is_an_error(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], error: str
) -> None:
    settings.DJTASKS = {}
    task = type("Said", (Task,), {"name": "shop.said", **options})()
    monkeypatch.setattr(checks, "tasks", TaskRegistry({"shop.said": task}))
    [message] = check_settings()
    assert message.id == "djtasks.E060"
    assert "shop.said" in message.msg
    assert error in message.msg
    assert message.hint


def test_a_default_rate_that_is_none_is_an_error(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_DEFAULT_RATE_LIMIT": "5/d"}
    [message] = check_settings()
    assert message.id == "djtasks.E001"
    assert "takes s, m or h" in message.msg


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ({"schedule": 10}, "task is a task or its name"),
        ({"task": "shop.add"}, "It needs a schedule"),
        ({"task": "shop.add", "schedule": "0 4 * * *"}, "A schedule is a number of seconds"),
        ({"task": "shop.add", "schedule": 10, "args": [1, 2, 3]}, "too many positional arguments"),
        ({"task": "shop.add", "schedule": 10, "args": [1], "options": {"prority": 3}}, "did you mean 'priority'"),
        ({"task": "shop.add", "schedule": 10, "args": [1], "catch_up": "some"}, "It is one of one, all, none"),
    ],
)
def test_a_periodic_task_of_the_code_that_cannot_be_is_a_warning_that_says_why(
    settings: LazySettings, entry: dict[str, Any], error: str
) -> None:
    task = type("Add", (Task,), {"name": "shop.add", "run": lambda self, x, y=0: x + y})()
    tasks["shop.add"] = task
    try:
        settings.DJTASKS = {"BEAT_SCHEDULE": {"mine": entry}}
        [message] = check_settings()
    finally:
        del tasks["shop.add"]
    assert message.id == "djtasks.W071"
    assert "'mine' (BEAT_SCHEDULE)" in message.msg
    assert error.lower() in message.msg.lower()
    assert message.hint


def test_a_periodic_task_whose_task_is_not_here_is_a_warning(settings: LazySettings) -> None:
    settings.DJTASKS = {"BEAT_SCHEDULE": {"mine": {"task": "shop.elsewhere", "schedule": 10}}}
    [message] = check_settings()
    assert message.id == "djtasks.W070"
    assert "There is no task 'shop.elsewhere' here." in message.msg
    assert message.hint


def test_a_schedule_that_is_no_dict_of_dicts_is_an_error(settings: LazySettings) -> None:
    assert ids(settings, BEAT_SCHEDULE=["mine"]) == ["djtasks.E001"]
    assert ids(settings, BEAT_SCHEDULE={"mine": "shop.add"}) == ["djtasks.E001"]
    assert ids(settings, BEAT_SCHEDULE={5: {}}) == ["djtasks.E001"]


def test_tasks_without_a_time_limit_are_named_before_a_deployment(settings: LazySettings) -> None:
    settings.DJTASKS = {}
    shared_task(name="shop.limited", time_limit=5)(lambda: None)
    assert check_deployment() == []
    shared_task(name="shop.endless")(lambda: None)
    [message] = check_deployment()
    assert (message.id, message.msg) == ("djtasks.W012", "Nothing ends these tasks when they hang: shop.endless.")
    settings.DJTASKS = {"TASK_TIME_LIMIT": 300}
    assert check_deployment() == []


def test_every_error_and_warning_says_what_to_do(settings: LazySettings, databases: Callable[..., None]) -> None:
    databases(default={**POSTGRES, "AUTOCOMMIT": False, "ATOMIC_REQUESTS": True}, tasks=POSTGRES)
    settings.DJTASKS = {"ENQUEUE": "immediately", "ACCEPT_CONTENT": ["yaml", "jsn"], "TASK_ROUTES": {"a": {"x": 1}}}
    messages = [*check_settings(), *check_deployment()]
    assert len(messages) == 6
    assert all(message.hint for message in messages)
