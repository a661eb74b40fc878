"""What the tests of the testing kit share: the tasks of a shop, known to nobody else."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from djtasks import Task
from djtasks.registry import tasks
from tests.kit import shop


@pytest.fixture(autouse=True)
def registry() -> Iterator[dict[str, Any]]:
    """The shop's tasks are registered; what a test adds is forgotten."""
    before = dict(tasks)
    tasks.update({task.name: task for task in vars(shop).values() if isinstance(task, Task)})
    yield tasks
    tasks.clear()
    tasks.update(before)


SETTINGS = """
import os
import environ

SECRET_KEY = "x"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "djtasks", "shop"]
DATABASES = {"default": {**environ.Env.db_url_config(os.environ["SERVER_URL"]), "TEST": {"NAME": os.environ["NAME"]}}}
"""
TASKS = """
from django.contrib.auth.models import User
from djtasks import shared_task

@shared_task
def add(x, y):
    return x + y

@shared_task
async def users():
    return await User.objects.acount()
"""


@pytest.fixture
def project(pytester: pytest.Pytester, server_url: str, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with one app, whose tests are still to be written."""
    pytester.makepyfile(settings=SETTINGS)
    pytester.mkpydir("shop").joinpath("tasks.py").write_text(TASKS)
    pytester.makeini("[pytest]\nDJANGO_SETTINGS_MODULE = settings\npythonpath = .\ndjango_find_project = false")
    monkeypatch.setenv("SERVER_URL", server_url)
    monkeypatch.setenv("NAME", f"test_kit_{uuid.uuid4().hex}")
    for name in ("DJANGO_SETTINGS_MODULE", "NO_WORKER", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    return pytester
