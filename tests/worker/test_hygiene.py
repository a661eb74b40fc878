"""Around a task caches are treated as around a request."""

import threading
from collections.abc import Iterator

import pytest
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import connections
from django.test import override_settings

from djtasks.worker import hygiene

closed: list[str] = []


class Cache(LocMemCache):
    """One that has a connection to close."""

    def close(self, **kwargs: object) -> None:
        closed.append(threading.current_thread().name)


@pytest.fixture(autouse=True)
def _caches() -> Iterator[None]:
    closed.clear()
    backends = {
        "default": {"BACKEND": f"{__name__}.Cache"},
        "plain": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    }
    with override_settings(CACHES=backends):
        closed.clear()
        yield
    hygiene._used.caches.clear()


def test_a_cache_that_was_used_is_closed_after_the_task() -> None:
    hygiene.clean_up()
    assert closed == []
    caches["default"].set("a", 1)
    hygiene.clean_up()
    assert len(closed) == 1
    assert caches["default"].get("a") == 1


def test_a_cache_that_has_nothing_to_close_costs_nothing() -> None:
    caches["plain"].set("a", 1)
    assert not hygiene._used.caches


def test_each_thread_closes_its_own() -> None:
    caches["default"].set("a", 1)
    other = threading.Thread(target=hygiene.clean_up, name="other")
    other.start()
    other.join()
    assert closed == []


def test_a_child_drops_what_it_has_inherited_without_closing_it() -> None:
    cache = caches["default"]
    hygiene.drop_inherited()
    assert caches["default"] is not cache
    assert closed == []


def test_a_connection_past_its_age_is_closed_around_a_task() -> None:
    found: list[bool] = []

    def task() -> None:
        conn = connections["default"]
        conn.ensure_connection()
        conn.close_at = 0
        hygiene.clean_up()
        found.append(conn.connection is None)

    thread = threading.Thread(target=task)
    thread.start()
    thread.join()
    assert found == [True]
