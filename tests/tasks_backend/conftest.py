"""What the tests of the backend share: TASKS of their own, while they run, and one worker for each module."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.test import override_settings

from tests.tasks_app.framework import TASKS
from tests.worker.conftest import clean, migrated  # noqa: F401 -- a fixture
from tests.worker.running import Gate, RunningWorker, Workers, django_at

with override_settings(TASKS=TASKS):
    # They are made for the backends of these settings, when their module is imported.
    import tests.tasks_app.tasks  # noqa: F401

#: On 5.2 the framework is an app of its own.
APPS = "tests.tasks_app" if django.VERSION >= (6, 0) else "django_tasks,tests.tasks_app"


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    """TASKS are set."""
    with override_settings(TASKS=TASKS):
        yield


@pytest.fixture(scope="module")
def database(migrated: str, django_db_blocker: Any) -> Iterator[str]:  # noqa: F811 -- the fixture
    """The database of this module's workers and calls, whose rows are committed; its address."""
    with django_db_blocker.unblock(), django_at(migrated):
        clean()
        yield migrated


class Heard:
    """What the receivers of Django's signals have heard, in the worker and here."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def of(self, result: Any, signal: str = "") -> list[str]:
        """What was said of a call, in order: signal, status, attempts, sender, number of errors."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        split = [line.split() for line in lines]
        return [" ".join([each[0], *each[2:]]) for each in split if each[1] == result.id and signal in each[0]]


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Heard]:
    """Who listens to Django's signals writes here."""
    path = tmp_path_factory.mktemp("heard") / "signals"
    os.environ["HEARD"] = str(path)
    yield Heard(path)
    del os.environ["HEARD"]


@pytest.fixture(scope="module")
def worker(database: str, heard: Heard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorker]:
    """One worker, with all that a worker does, for all tests of the module."""
    found = Workers(tmp_path_factory.mktemp("workers"), database)
    given = {"TASKS": json.dumps(TASKS), "HEARD": str(heard.path)}
    yield found.launch("-l", "INFO", "-c", "2", apps=APPS, environment=given).ready()
    found.close()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate for tasks to wait at; open when the test ends, however it ends."""
    found = Gate(tmp_path)
    yield found
    found.open()
