"""The names of pools: ours, Celery's other names for them, and dotted paths to pools of a project's own."""

import difflib
import re
from typing import Any

from djtasks.conf.kinds import Kind, Unfit
from djtasks.exceptions import safe_repr

POOLS = ("prefork", "threads", "solo", "gevent", "eventlet", "asyncio")
#: By these paths Celery's documents, and its extensions, call what is a pool of this name here.
_CELERYS = {
    "celery.concurrency.prefork": "prefork",
    "celery.concurrency.processes": "prefork",
    "celery.concurrency.thread": "threads",
    "celery.concurrency.solo": "solo",
    "celery.concurrency.gevent": "gevent",
    "celery.concurrency.eventlet": "eventlet",
    "celery_aio_pool": "asyncio",
    "celery_aio_pool.pool": "asyncio",
}
#: `custom` is the path that this variable of the environment holds, as in Celery.
CUSTOM = "CELERY_CUSTOM_WORKER_POOL"
_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*[.:][^\W\d]\w*")


def canonical(name: str) -> str:
    """One name for each pool: `processes`, say, is prefork, and so is Celery's own path to it."""
    module, _, _ = name.replace(":", ".").rpartition(".")
    return "prefork" if name == "processes" else _CELERYS.get(module, name)


def is_path(name: str) -> bool:
    """Whether this can be a dotted path to a class: `package.module:Class`, or with a dot."""
    return _PATH.fullmatch(name) is not None


def unknown(name: str) -> str:
    """What to say of a name that no pool has."""
    near = difflib.get_close_matches(name, POOLS, n=1)
    choice = f"choose {', '.join(POOLS[:-1])} or {POOLS[-1]}, or give the path of a class: package.module:Class"
    return f"there is no pool {name!r}; " + (f"did you mean {near[0]!r}?" if near else choice)


def _read(value: Any) -> str:
    if not isinstance(value, str):
        raise Unfit(f"must be {_WANTS}, not {safe_repr(value, 200)}")
    name = canonical(value)
    if name not in POOLS and name != "custom" and not is_path(name):
        near = difflib.get_close_matches(name, POOLS, n=1)
        raise Unfit(f"must be {_WANTS}, not {safe_repr(value, 200)}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return name


_WANTS = f"one of {', '.join(POOLS)}, or the path of a class (package.module:Class)"
POOL = Kind(_WANTS, _read)
