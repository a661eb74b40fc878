"""Hygiene: around a task, Django's connections are treated as around a request.

Django does it by signals that walk over all connections there could be, which costs as much as a small task. A thread
that has never opened one has nothing to clean.
"""

import contextlib
import threading
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created


class _Used(threading.local):
    """Whether this thread has ever opened a connection."""

    ever = False


_used = _Used()


def _note(**_: Any) -> None:
    _used.ever = True


connection_created.connect(_note, dispatch_uid="djtasks.hygiene")


def clean_connections() -> None:
    """Forget logged queries; close connections that are broken or past CONN_MAX_AGE."""
    if _used.ever:
        for conn in connections.all(initialized_only=True):
            conn.queries_log.clear()
            conn.close_if_unusable_or_obsolete()


def drop_inherited() -> None:
    """In a child: the inherited connections are another process's sessions, and are dropped without a word."""
    for alias in list(connections):
        with contextlib.suppress(AttributeError):
            del connections[alias]
    _used.ever = False
