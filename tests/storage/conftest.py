"""What the tests of the storage share: empty tables, and as many real connections as a race needs."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from djtasks import delivery
from djtasks.db.connections import open_private
from tests.storage.rows import Table, empty


@pytest.fixture(scope="session")
def onlooker(django_db_setup: None, django_db_blocker: Any) -> Iterator[Table]:
    """The tables as an onlooker sees them: by a connection of its own, so only what is committed."""
    with django_db_blocker.unblock(), open_private("test onlooker") as conn:
        yield Table(conn)


@pytest.fixture(autouse=True)
def _empty_tables(db: None, onlooker: Table) -> Iterator[None]:
    """No row of ours at the start. What a test commits is seen by every connection, and gone for the next one."""
    empty(onlooker.conn)
    yield
    if hasattr(delivery._private, "link"):
        delivery._private.link.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., psycopg.Connection]]:
    """Open private connections, as a worker has them."""
    opened: list[psycopg.Connection] = []

    def open_one(purpose: str = "test") -> psycopg.Connection:
        opened.append(open_private(purpose))
        return opened[-1]

    yield open_one
    for conn in opened:
        conn.close()


@pytest.fixture
def conn(connect: Callable[..., psycopg.Connection]) -> psycopg.Connection:
    """A private connection."""
    return connect()


@pytest.fixture
def table(onlooker: Table) -> Table:
    """The tables as an onlooker sees them."""
    return onlooker
