"""For the tests of projects that use djtasks: run tasks inside a test's transaction, and look at what was enqueued.

    from djtasks.testing import assert_enqueued, drain

The names are imported when they are first asked for, so that the pytest plugin needs no Django settings to be loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from djtasks.testing.asserts import assert_enqueued as assert_enqueued
    from djtasks.testing.asserts import assert_no_tasks as assert_no_tasks
    from djtasks.testing.calls import Call as Call
    from djtasks.testing.calls import captured as captured
    from djtasks.testing.calls import enqueued as enqueued
    from djtasks.testing.inline import eager as eager
    from djtasks.testing.running import Drained as Drained
    from djtasks.testing.running import Ran as Ran
    from djtasks.testing.running import drain as drain
    from djtasks.testing.running import run_pending as run_pending
    from djtasks.testing.worker import start_worker as start_worker

_HOMES = {
    "Call": "calls",
    "Drained": "running",
    "Ran": "running",
    "assert_enqueued": "asserts",
    "assert_no_tasks": "asserts",
    "captured": "calls",
    "drain": "running",
    "eager": "inline",
    "enqueued": "calls",
    "run_pending": "running",
    "start_worker": "worker",
}

__all__ = [
    "Call",
    "Drained",
    "Ran",
    "assert_enqueued",
    "assert_no_tasks",
    "captured",
    "drain",
    "eager",
    "enqueued",
    "run_pending",
    "start_worker",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
