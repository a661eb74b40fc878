"""Background tasks for Django, with PostgreSQL as the only server.

The public names. They are imported when they are first asked for, so that `import djtasks` costs nothing and works
before Django is set up.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from djtasks.app import Celery as Celery
    from djtasks.app import app as app
    from djtasks.current import current_task as current_task
    from djtasks.decorators import shared_task as shared_task
    from djtasks.decorators import task as task
    from djtasks.eager import EagerResult as EagerResult
    from djtasks.result import AsyncResult as AsyncResult
    from djtasks.result import allow_join_result as allow_join_result
    from djtasks.task import Task as Task

__version__ = "0.1.0"

_HOMES = {
    "AsyncResult": "result",
    "Celery": "app",
    "EagerResult": "eager",
    "Task": "task",
    "allow_join_result": "result",
    "app": "app",
    "current_task": "current",
    "shared_task": "decorators",
    "task": "decorators",
}

__all__ = [
    "AsyncResult",
    "Celery",
    "EagerResult",
    "Task",
    "__version__",
    "allow_join_result",
    "app",
    "current_task",
    "shared_task",
    "task",
]


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        # `task` and `app` are modules too, and the import system would put those over the public names.
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = _Package
