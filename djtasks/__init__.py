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
    from djtasks.appstate import current_app as current_app
    from djtasks.awaiting import allow_join_result as allow_join_result
    from djtasks.canvas.signature import Signature as Signature
    from djtasks.canvas.signature import maybe_signature as maybe_signature
    from djtasks.canvas.signature import signature as signature
    from djtasks.canvas.signature import subtask as subtask
    from djtasks.current import current_task as current_task
    from djtasks.decorators import shared_task as shared_task
    from djtasks.decorators import task as task
    from djtasks.eager import EagerResult as EagerResult
    from djtasks.result import AsyncResult as AsyncResult
    from djtasks.routing import Exchange as Exchange
    from djtasks.routing import Queue as Queue
    from djtasks.task import Task as Task

__version__ = "0.1.0"

_HOMES = {
    "AsyncResult": "result",
    "Celery": "app",
    "EagerResult": "eager",
    "Exchange": "routing",
    "Queue": "routing",
    "Task": "task",
    "allow_join_result": "awaiting",
    "app": "app",
    "Signature": "canvas.signature",
    "current_app": "appstate",
    "current_task": "current",
    "maybe_signature": "canvas.signature",
    "shared_task": "decorators",
    "signature": "canvas.signature",
    "subtask": "canvas.signature",
    "task": "decorators",
}

__all__ = [
    "AsyncResult",
    "Celery",
    "EagerResult",
    "Exchange",
    "Queue",
    "Signature",
    "Task",
    "__version__",
    "allow_join_result",
    "app",
    "current_app",
    "current_task",
    "maybe_signature",
    "shared_task",
    "signature",
    "subtask",
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
