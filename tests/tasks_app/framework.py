"""Django's framework of tasks, as a project imports it: from Django, or on 5.2 from the package."""

import importlib
from typing import Any

from djtasks.backends.compat import PACKAGE

framework: Any = importlib.import_module(PACKAGE)
base: Any = importlib.import_module(f"{PACKAGE}.base")
exceptions: Any = importlib.import_module(f"{PACKAGE}.exceptions")
signals: Any = importlib.import_module(f"{PACKAGE}.signals")
task, TaskContext, TaskResultStatus = framework.task, framework.TaskContext, framework.TaskResultStatus
task_backends = framework.task_backends
InvalidTask = getattr(exceptions, "InvalidTask", None) or exceptions.InvalidTaskError
InvalidTaskBackend = getattr(exceptions, "InvalidTaskBackend", None) or exceptions.InvalidTaskBackendError
#: The name of its logger.
LOGGER = PACKAGE

#: What the tests of this framework configure.
TASKS: dict[str, Any] = {
    "default": {"BACKEND": "djtasks.backends.PostgresBackend", "QUEUES": ["default", "emails"]},
    "any queue": {"BACKEND": "djtasks.backends.PostgresBackend", "QUEUES": []},
    "retrying": {
        "BACKEND": "djtasks.backends.PostgresBackend",
        "OPTIONS": {"MAX_RETRIES": 2, "DEFAULT_RETRY_DELAY": 0, "RETRY_JITTER": False},
    },
    "atomic": {"BACKEND": "djtasks.backends.PostgresBackend", "OPTIONS": {"ENQUEUE": "in_transaction"}},
    "hourly": {
        "BACKEND": "djtasks.backends.PostgresBackend",
        "OPTIONS": {"MAX_RETRIES": 2, "DEFAULT_RETRY_DELAY": 3600},
    },
    "short": {"BACKEND": "djtasks.backends.PostgresBackend", "OPTIONS": {"TIME_LIMIT": 0.3}},
    "exactly once": {"BACKEND": "djtasks.backends.PostgresBackend", "OPTIONS": {"ATOMIC": True}},
    "own ids": {"BACKEND": "djtasks.backends.PostgresBackend", "OPTIONS": {"ID_FUNCTION": "tests.tasks_app.ids.own"}},
    "immediate": {"BACKEND": f"{PACKAGE}.backends.immediate.ImmediateBackend"},
    "dummy": {"BACKEND": f"{PACKAGE}.backends.dummy.DummyBackend"},
}
