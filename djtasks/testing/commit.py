"""A commit that does not come: tests run in transactions which are rolled back, and nothing is done when they end."""

import logging
from collections.abc import Callable, Collection
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger("djtasks.testing")

#: What Django keeps of a callback: the savepoints, the function, and whether its errors are only logged.
Entry = tuple[set[str], Callable[[], Any], bool]


def as_if_committed(*, every: bool = False, but: Collection[Entry] = ()) -> None:
    """Call what waits for the commits of this thread's transactions: djtasks' own callbacks, or `every` one.

    Those of `but` stay, and so does, of course, whatever a rolled-back savepoint has dropped.
    """
    kept = {id(entry) for entry in but}
    for conn in connections.all(initialized_only=True):
        while chosen := [each for each in _entries(conn) if id(each) not in kept and (every or _is_ours(each[1]))]:
            taken = {id(entry) for entry in chosen}
            left: list[Any] = [entry for entry in _entries(conn) if id(entry) not in taken]
            conn.run_on_commit = left
            for _, function, robust in chosen:
                _call(function, robust)


def waiting_callbacks() -> list[Entry]:
    """What waits for a commit now, on all connections of this thread."""
    return [entry for conn in connections.all(initialized_only=True) for entry in _entries(conn)]


def _entries(conn: BaseDatabaseWrapper) -> list[Entry]:
    entries: list[Any] = conn.run_on_commit
    return entries


def _is_ours(function: Callable[[], Any]) -> bool:
    module = getattr(function, "__module__", None) or type(function).__module__
    return str(module).partition(".")[0] == "djtasks"


def _call(function: Callable[[], Any], robust: bool) -> None:
    try:
        function()
    except Exception:
        if not robust:
            raise
        logger.exception("%r failed, which was to be called after the commit", function)
