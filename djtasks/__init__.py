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
    from djtasks.canvas.chain import chain as chain
    from djtasks.canvas.chord import chord as chord
    from djtasks.canvas.foreign import signature_of as signature_of
    from djtasks.canvas.group import group as group
    from djtasks.canvas.maps import chunks as chunks
    from djtasks.canvas.maps import xmap as xmap
    from djtasks.canvas.maps import xstarmap as xstarmap
    from djtasks.canvas.signature import Signature as Signature
    from djtasks.canvas.signature import maybe_signature as maybe_signature
    from djtasks.canvas.signature import signature as signature
    from djtasks.canvas.signature import subtask as subtask
    from djtasks.canvas.signature import uuid as uuid
    from djtasks.canvas.stamping import StampingVisitor as StampingVisitor
    from djtasks.current import current_task as current_task
    from djtasks.decorators import shared_task as shared_task
    from djtasks.decorators import task as task
    from djtasks.eager import EagerResult as EagerResult
    from djtasks.group_result import GroupResult as GroupResult
    from djtasks.group_result import result_from_tuple as result_from_tuple
    from djtasks.result import AsyncResult as AsyncResult
    from djtasks.result_set import ResultSet as ResultSet
    from djtasks.routing import Broadcast as Broadcast
    from djtasks.routing import Exchange as Exchange
    from djtasks.routing import Queue as Queue
    from djtasks.routing import worker_direct as worker_direct
    from djtasks.schedules import clocked as clocked
    from djtasks.schedules import crontab as crontab
    from djtasks.schedules import schedule as schedule
    from djtasks.schedules import solar as solar
    from djtasks.task import Task as Task

__version__ = "0.1.0"

_HOMES = {
    "AsyncResult": "result",
    "Broadcast": "routing",
    "Celery": "app",
    "EagerResult": "eager",
    "Exchange": "routing",
    "GroupResult": "group_result",
    "Queue": "routing",
    "ResultSet": "result_set",
    "Task": "task",
    "allow_join_result": "awaiting",
    "app": "app",
    "clocked": "schedules",
    "crontab": "schedules",
    "Signature": "canvas.signature",
    "StampingVisitor": "canvas.stamping",
    "chain": "canvas.chain",
    "chord": "canvas.chord",
    "chunks": "canvas.maps",
    "group": "canvas.group",
    "uuid": "canvas.signature",
    "xmap": "canvas.maps",
    "xstarmap": "canvas.maps",
    "current_app": "appstate",
    "current_task": "current",
    "maybe_signature": "canvas.signature",
    "schedule": "schedules",
    "result_from_tuple": "group_result",
    "shared_task": "decorators",
    "signature": "canvas.signature",
    "signature_of": "canvas.foreign",
    "solar": "schedules",
    "subtask": "canvas.signature",
    "task": "decorators",
    "worker_direct": "routing",
}

__all__ = [
    "AsyncResult",
    "Broadcast",
    "Celery",
    "EagerResult",
    "Exchange",
    "GroupResult",
    "Queue",
    "ResultSet",
    "Signature",
    "StampingVisitor",
    "Task",
    "__version__",
    "allow_join_result",
    "app",
    "chain",
    "chord",
    "chunks",
    "clocked",
    "crontab",
    "current_app",
    "current_task",
    "group",
    "maybe_signature",
    "result_from_tuple",
    "schedule",
    "shared_task",
    "signature",
    "signature_of",
    "solar",
    "subtask",
    "task",
    "uuid",
    "worker_direct",
    "xmap",
    "xstarmap",
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
