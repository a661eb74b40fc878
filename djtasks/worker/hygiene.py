"""Hygiene: around a task, Django's connections and caches are treated as around a request.

Django does it by signals that walk over all connections there could be, which costs as much as a small task. A thread
that has never opened one has nothing to clean, and of caches only those are closed that have something to close.
"""

import contextlib
import threading
import weakref
from typing import Any

from django.core.cache import BaseCache, caches
from django.db import connections
from django.db.backends.signals import connection_created


class _Used(threading.local):
    """Whether this thread has ever opened a connection, and the caches it has opened."""

    ever = False

    def __init__(self) -> None:
        self.caches: weakref.WeakSet[Any] = weakref.WeakSet()


_used = _Used()


def _note(**_: Any) -> None:
    _used.ever = True


connection_created.connect(_note, dispatch_uid="djtasks.hygiene")
_open_cache = caches.create_connection


def _note_cache(alias: str) -> Any:
    cache = _open_cache(alias)
    if type(cache).close is not BaseCache.close:
        _used.caches.add(cache)
    return cache


# Django says nothing when a cache is opened, and to ask its handler takes longer than a small task.
caches.create_connection = _note_cache  # type: ignore[method-assign]


def clean_up() -> None:
    """After a task: what Django does after a request."""
    clean_connections()
    if _used.caches:
        for cache in list(_used.caches):
            cache.close()


def clean_connections() -> None:
    """Forget logged queries; close connections that are broken or past CONN_MAX_AGE."""
    if _used.ever:
        for conn in connections.all(initialized_only=True):
            conn.queries_log.clear()
            conn.close_if_unusable_or_obsolete()


def drop_inherited() -> None:
    """In a child: inherited connections and caches are another process's sessions, and are dropped without a word."""
    for alias in list(connections):
        with contextlib.suppress(AttributeError):
            del connections[alias]
    for alias in list(caches):
        with contextlib.suppress(AttributeError):
            del caches[alias]
    _used.caches.clear()
    _used.ever = False
