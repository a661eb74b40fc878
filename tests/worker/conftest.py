"""What the tests of workers share: the test database, seen by all processes, and workers that end with their test."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from pytest_django import DjangoDbBlocker

from tests.worker.running import Audit, Gate, Workers, django_at, migrate, query


def clean() -> None:
    """No message, result or worker is left."""
    query(
        "TRUNCATE djtasks_message, djtasks_result, djtasks_worker, djtasks_waiter, djtasks_revocation, djtasks_reply,"
        " djtasks_command, djtasks_limit, djtasks_alias, djtasks_queue, djtasks_periodic_task, djtasks_beat,"
        " djtasks_chord, djtasks_part, djtasks_group"
    )


@pytest.fixture(scope="session")
def migrated(server_url: str) -> Iterator[str]:
    """The address of a database for workers, beside those of Django's tests: what is written here is committed."""
    name = f"workers_{uuid.uuid4().hex}"
    base, _, _ = server_url.partition("?")
    url = f"{base.rpartition('/')[0]}/{name}"
    with psycopg.connect(server_url, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        migrate(url)
        yield url
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module", autouse=True)
def database(migrated: str, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """The database of this module's workers and calls; empty when the module begins. Returns its address."""
    with django_db_blocker.unblock(), django_at(migrated):
        clean()
        yield migrated


@pytest.fixture(autouse=True)
def nothing_waits(database: str) -> Iterator[None]:
    """What a test leaves in its queues does not run in the next one."""
    yield
    query("DELETE FROM djtasks_message")


@pytest.fixture
def workers(nothing_waits: None, database: str, tmp_path: Path) -> Iterator[Workers]:
    """Starts workers for one test."""
    found = Workers(tmp_path, database)
    yield found
    found.close()


@pytest.fixture(scope="module")
def shared(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Starts workers for all tests of a module."""
    found = Workers(tmp_path_factory.mktemp("workers"), database)
    yield found
    found.close()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate for tasks to wait at; open when the test ends, however it ends."""
    found = Gate(tmp_path)
    yield found
    found.open()


@pytest.fixture
def audit(workers: Workers) -> Audit:
    """What the tasks of this test's own workers have written."""
    return workers.audit
