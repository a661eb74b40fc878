"""The settings of a project that used Celery: each of them is read or explained, and Django's settings are searched."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import override_settings

from djtasks import checks, conf
from djtasks.conf import layers
from djtasks.conf import settings as read_settings
from djtasks.conf.foreign import REASONS
from djtasks.conf.options import FIELDS, KINDS
from djtasks.exceptions import ImproperlyConfigured
from djtasks.registry import tasks
from testproject.postgres.shared import CHECKOUT
from tests.rules.celerys_settings import SETTINGS

PAGE = (CHECKOUT / "docs" / "reference" / "settings.md").read_text()


@pytest.fixture(autouse=True)
def _nothing_else(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings of the project's own, and no tasks of other tests."""
    settings.DJTASKS = {}
    for name in list(tasks):
        monkeypatch.delitem(tasks, name)
    was = layers.state()
    yield
    layers.restore(was)
    conf.reread()


def messages() -> dict[str, str]:
    return {f"{each.id}": f"{each.msg} {each.hint}" for each in checks.check_settings() if each.id != "djtasks.E003"}


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_each_setting_of_celerys_acts_or_has_a_reason_why_it_does_not(name: str) -> None:
    ours = name.upper()
    assert (ours in KINDS) != (ours in REASONS)
    assert f"`{ours}`" in PAGE
    if ours in KINDS:
        assert len(FIELDS[ours].metadata["help"]) > 10
    else:
        [problem] = conf.problems({ours: "x"})
        assert problem.level == "info"
        assert REASONS[ours] in problem.text
        assert REASONS[ours] in PAGE


@pytest.mark.parametrize(("name", "old"), [(name, old) for name, names in SETTINGS.items() for old in names])
def test_each_old_name_is_understood(name: str, old: str) -> None:
    ours = name.upper()
    assert layers.name_of(old) == (ours if ours in KINDS else None)
    assert ours in KINDS or layers.foreign_name(old) == ours
    assert layers.name_of(f"CELERY_{ours}", "CELERY") == (ours if ours in KINDS else None)


def test_celerys_settings_of_django_are_read_without_an_app() -> None:
    with override_settings(
        CELERY_TASK_TIME_LIMIT=30,
        CELERYD_CONCURRENCY=3,
        CELERYBEAT_SCHEDULE={"nightly": {"task": "shop.tidy", "schedule": 60}},
        CELERY_TASK_RESULT_EXPIRES=60,
        CELERY_ROUTES={"shop.*": {"queue": "shop"}},
    ):
        assert read_settings.TASK_TIME_LIMIT == 30
        assert read_settings.WORKER_CONCURRENCY == 3
        assert list(read_settings.BEAT_SCHEDULE) == ["nightly"]
        assert timedelta(seconds=60) == read_settings.RESULT_EXPIRES
        assert read_settings.TASK_ROUTES == {"shop.*": {"queue": "shop"}}
    assert read_settings.TASK_TIME_LIMIT is None


def test_djtasks_stands_over_them_and_can_leave_them_to_celery(settings: LazySettings) -> None:
    settings.CELERY_TASK_TIME_LIMIT, settings.CELERY_WORKER_CONCURRENCY = "of celery only", 3
    settings.DJTASKS = {"TASK_TIME_LIMIT": 5}
    assert (read_settings.TASK_TIME_LIMIT, read_settings.WORKER_CONCURRENCY) == (5, 3)
    settings.CELERY_BROKER_URL = "redis://"
    settings.DJTASKS = {"READ_CELERY_SETTINGS": False}
    assert (read_settings.TASK_TIME_LIMIT, read_settings.WORKER_CONCURRENCY) == (None, None)
    assert messages() == {}


def test_an_app_that_reads_the_same_ones_changes_nothing(settings: LazySettings) -> None:
    settings.CELERY_TASK_TIME_LIMIT = 30
    layers.beneath(lambda: layers.known({"CELERY_TASK_TIME_LIMIT": 30, "CELERY_TASK_SOFT_TIME_LIMIT": 20}, "CELERY"))
    layers.beneath(lambda: {"TASK_TIME_LIMIT": 60, "WORKER_CONCURRENCY": 2}, default=True)
    conf.reread()
    found = (read_settings.TASK_TIME_LIMIT, read_settings.TASK_SOFT_TIME_LIMIT, read_settings.WORKER_CONCURRENCY)
    assert found == (30, 20, 2)
    assert messages() == {}


def test_what_does_nothing_is_said_once_with_its_reasons(settings: LazySettings) -> None:
    settings.BROKER_URL = settings.CELERY_RESULT_BACKEND = settings.CELERY_BROKER_TRANSPORT_OPTIONS = "redis://"
    settings.CELERYD_STATE_DB = settings.CELERY_RESULT_DBURI = "x"
    settings.DJTASKS = {"REDIS_HOST": "x"}
    [(found, text)] = messages().items()
    assert found == "djtasks.I001"
    assert "CELERY_BROKER_TRANSPORT_OPTIONS, BROKER_URL (messages are rows" in text
    assert "REDIS_HOST, CELERY_RESULT_BACKEND (results are rows" in text
    assert "CELERYD_STATE_DB (revocations are rows" in text
    assert text.count("CELERY_RESULT_DBURI") == text.count("BROKER_URL") == 1


def test_a_value_that_does_not_fit_is_named_as_it_stands_there(settings: LazySettings) -> None:
    settings.CELERYD_TASK_TIME_LIMIT = "long"
    [(found, text)] = messages().items()
    assert found == "djtasks.E001"
    assert text.startswith("The setting CELERYD_TASK_TIME_LIMIT, read as TASK_TIME_LIMIT, of Django's settings must be")
    assert "'READ_CELERY_SETTINGS' to False" in text
    with pytest.raises(ImproperlyConfigured, match="CELERYD_TASK_TIME_LIMIT"):
        _ = read_settings.TASK_TIME_LIMIT


def test_two_names_of_one_setting_are_an_error_unless_they_agree(settings: LazySettings) -> None:
    settings.CELERYD_TASK_TIME_LIMIT = settings.CELERY_TASK_TIME_LIMIT = 5
    assert messages() == {}
    assert read_settings.TASK_TIME_LIMIT == 5
    settings.CELERY_TASK_TIME_LIMIT = 6
    assert "CELERYD_TASK_TIME_LIMIT and CELERY_TASK_TIME_LIMIT, which are one setting" in messages()["djtasks.E001"]
    with pytest.raises(ImproperlyConfigured, match="are one setting"):
        _ = read_settings.TASK_TIME_LIMIT
    settings.DJTASKS = {"TASK_TIME_LIMIT": 7}
    assert messages() == {}


def test_what_looks_like_a_setting_of_celerys_is_asked_for(settings: LazySettings) -> None:
    settings.CELERY_TASK_TIME_LIMT = settings.CELERY_FLOWER_DASHBOARD = 5
    [(found, text)] = messages().items()
    assert (found, "CELERY_FLOWER_DASHBOARD" in text) == ("djtasks.W001", False)
    assert "Did you mean 'CELERY_TASK_TIME_LIMIT'?" in text


PROJECT = {
    "proj/__init__.py": "from .celery import app as celery_app\n\n__all__ = ('celery_app',)\n",
    "proj/celery.py": """
import os
from djtasks import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
app = Celery("proj")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.task(bind=True, ignore_result=True)
def debug_task(self):
    print(f"Request: {self.request!r}")
""",
    "proj/settings.py": """
SECRET_KEY = "x"
INSTALLED_APPS = ["djtasks", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "x", "HOST": "127.0.0.1", "PORT": 1}}
CELERY_BROKER_URL = "redis://localhost:6379/0"
CELERY_RESULT_BACKEND = "redis://localhost:6379/1"
CELERY_TASK_TIME_LIMIT = 1800
CELERY_TASK_DEFAULT_QUEUE = "shop"
CELERY_BEAT_SCHEDULE = {"nightly": {"task": "shop.tasks.tidy", "schedule": 3600.0}}
""",
    "shop/__init__.py": "",
    "shop/tasks.py": "from djtasks import shared_task\n\n\n@shared_task\ndef tidy():\n    return 1\n",
    "manage.py": """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
""",
}
ASK = """
import json
from proj import celery_app
from djtasks.conf import settings
print(json.dumps([settings.TASK_TIME_LIMIT, settings.TASK_DEFAULT_QUEUE, list(settings.BEAT_SCHEDULE),
    celery_app.conf.task_time_limit, celery_app.conf.broker_url,
    sorted(name for name in celery_app.tasks if name.startswith(("shop", "proj")))]))
"""


def test_a_project_of_celerys_works_with_only_its_imports_changed(tmp_path: Any) -> None:
    for name, text in PROJECT.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def manage(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(CHECKOUT), "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    assert (
        manage("shell", "-v", "0", "-c", ASK).strip().splitlines()[-1]
        == '[1800.0, "shop", ["nightly"], 1800.0, null, ["proj.celery.debug_task", "shop.tasks.tidy"]]'
    )
    told = manage("check")
    assert told.count("CELERY_BROKER_URL") == told.count("CELERY_RESULT_BACKEND") == 1
    assert "W070" not in told
    written = manage("djtasks", "upgrade", "settings")
    assert '"TASK_TIME_LIMIT": 1800' in written
    assert "# Not needed any more: CELERY_BROKER_URL, CELERY_RESULT_BACKEND" in written
