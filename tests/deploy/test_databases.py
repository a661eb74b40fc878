"""Other places for the tables: several projects in one database, by schema, and Django's own connection pool."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connections, transaction
from psycopg import sql
from pytest_django import DjangoDbBlocker

from djtasks import ResultSet
from tests.deploy.databases import at, with_options
from tests.deploy.pooled import POOL
from tests.worker.conftest import clean
from tests.worker.running import Workers, migrate, query
from tests.worker_app import tasks

SCHEMA = "shop"


@pytest.fixture(autouse=True)
def _unblocked(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def workers(migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Starts workers for one test."""
    found = Workers(tmp_path_factory.mktemp("workers"), migrated)
    with at(migrated):
        clean()
    yield found
    found.close()


@contextmanager
def schema_of(url: str) -> Iterator[str]:
    """A second project's tables in the same database; the address that leads to them."""
    name = sql.Identifier(SCHEMA)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE SCHEMA {}").format(name))
        try:
            yield with_options(url, options=f"-c search_path={SCHEMA}")
        finally:
            conn.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(name))


def test_two_projects_in_two_schemas_of_one_database_know_nothing_of_each_other(
    migrated: str, workers: Workers
) -> None:
    with schema_of(migrated) as url:
        migrate(url, "djtasks")
        worker = workers.launch("-l", "INFO", "-c", "1", environment={"DATABASE_URL": url}).ready()
        with at(migrated):
            other = tasks.echo.delay("of the other project")
        with at(url):
            assert [tasks.echo.delay(number).get(timeout=20) for number in range(3)] == [0, 1, 2]
            assert query("SELECT name FROM djtasks_worker") == [(f"{worker.name}@here",)]
            assert query("SELECT count(*) FROM djtasks_message") == [(0,)]
        with at(migrated):
            assert other.state == "PENDING"
            assert query("SELECT count(*) FROM djtasks_worker") == [(0,)]
        assert worker.stop() == 0
        workers.start("-c", "1")
        with at(migrated):
            assert other.get(timeout=20) == "of the other project"


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_django_s_connection_pool_serves_calls_and_tasks_across_forks(
    migrated: str, workers: Workers, pool: str
) -> None:
    settings = {"DJANGO_SETTINGS_MODULE": "tests.deploy.pooled"}
    workers.launch("-l", "INFO", "-c", "2", "-P", pool, environment=settings).ready()
    with at(migrated):
        wrapper: Any = connections["default"]
        wrapper.settings_dict.setdefault("OPTIONS", {})["pool"] = POOL
        try:
            assert wrapper.pool is not None
            for mode in ("on_commit", "in_transaction", "immediately"):
                with transaction.atomic():
                    made = tasks.echo.apply_async([mode], enqueue=mode)
                assert made.get(timeout=20) == mode
            sessions = ResultSet([tasks.session.delay() for _ in range(20)]).get(timeout=20)
            if pool == "prefork":
                # No session serves two processes: each child has a pool of its own.
                owners = {(each["backend"], each["pid"]) for each in sessions}
                assert len(owners) == len({backend for backend, _ in owners})
                assert os.getpid() not in {pid for _, pid in owners}
            broken = tasks.break_session.delay()
            broken.get(timeout=20, propagate=False)
            # The pool gives out no session that is broken.
            ResultSet([tasks.session.delay() for _ in range(4)]).get(timeout=20)
        finally:
            wrapper.close_pool()
