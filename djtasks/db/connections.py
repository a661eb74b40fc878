"""Connections: Django's own, lent for the caller's transaction, and private ones for what runs beside it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, LiteralString, Protocol

import psycopg
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql
from psycopg.pq import PipelineStatus

from djtasks.conf import settings
from djtasks.db import arrays

#: What our plans stand on: a claim must read its index in order, however stale the statistics are. And what bounds the
#: locks of a peer that has vanished in the middle of a transaction, or of an answer that the server cannot get rid of.
SESSION = (
    "-c default_transaction_isolation=read\\ committed"
    " -c enable_seqscan=off -c enable_bitmapscan=off -c enable_hashjoin=off -c enable_mergejoin=off"
    " -c plan_cache_mode=force_generic_plan -c jit=off"
    " -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=20000"
    " -c tcp_user_timeout=12000 -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
)
#: A peer that vanished without a word is noticed in seconds, not in the kernel's two hours.
KEEPALIVE = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 12_000,
}
#: The connection is gone, or never came to be, or leads to a server that only reads, as after a failover: what was
#: sent may or may not have happened.
LOST = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)
#: The database undid the transaction so that another could go on; the same statement may be sent again.
CONFLICTS = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)


def reason(error: BaseException) -> str:
    """What an error says, in one line: libpq writes several."""
    return " ".join(str(error).split())


class Cursor(Protocol):
    """What a cursor of Django and one of psycopg have in common."""

    def execute(self, query: LiteralString, params: Any = ..., /) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """What Django's connection wrapper and a connection of psycopg have in common."""

    def cursor(self) -> AbstractContextManager[Any]: ...


Rows = list[tuple[Any, ...]]


def rows(conn: Connection, query: LiteralString, params: Mapping[str, Any] | Sequence[Any] | None = None) -> Rows:
    """Run one statement and return all of its rows."""
    with conn.cursor() as cursor:
        cursor.execute(query, params)
        found: Rows = cursor.fetchall()
        return found


#: Where Django's connection does nothing with a statement but send it. Others (tenants, metrics) want to see each.
_PLAIN = ("django.db.backends.postgresql.base", "django.contrib.gis.db.backends.postgis.base")


def direct(conn: Any) -> psycopg.Connection[Any] | None:
    """The driver's own connection behind `conn`; None where every statement is to be logged, or seen by others."""
    if isinstance(conn, psycopg.Connection):
        return conn
    if conn.queries_logged or conn.execute_wrappers or type(conn).__module__ not in _PLAIN:
        return None
    # What Django does before it makes a cursor.
    conn.validate_thread_sharing()
    conn.close_if_health_check_failed()
    conn.ensure_connection()
    driver: psycopg.Connection[Any] = conn.connection
    return driver if driver.pgconn.pipeline_status == PipelineStatus.OFF else None


@contextmanager
def _on_wrapper(wrapper: BaseDatabaseWrapper, driver: psycopg.Connection[Any]) -> Iterator[psycopg.Cursor[Any]]:
    with wrapper.wrap_database_errors, psycopg.Cursor(driver) as cursor:
        arrays.register(cursor)
        yield cursor


def binary_cursor(conn: Any) -> AbstractContextManager[psycopg.Cursor[Any]] | None:
    """A cursor that takes binary arrays, in the same transaction; None where there must be no other than Django's.

    Django's own cursor writes parameters into the statement's text, which takes longer than the server's work.
    """
    driver = direct(conn)
    if driver is None or driver is conn:
        return None if driver is None else driver.cursor()
    return _on_wrapper(conn, driver)


class _SpeakingArrays:
    """Django's connection, whose cursors take binary arrays; nothing logs what goes through them."""

    __slots__ = ("wrapper",)

    def __init__(self, wrapper: BaseDatabaseWrapper) -> None:
        self.wrapper = wrapper

    def cursor(self) -> AbstractContextManager[Any]:
        self.wrapper.ensure_connection()
        driver: psycopg.Connection[Any] = self.wrapper.connection
        return _on_wrapper(self.wrapper, driver)


def speaking_arrays(conn: Connection) -> Connection:
    """The same session and transaction, for statements that take binary arrays."""
    return _SpeakingArrays(conn) if isinstance(conn, BaseDatabaseWrapper) else conn


def borrow(alias: str | None = None) -> BaseDatabaseWrapper:
    """Django's connection of this thread to the task database (or to `alias`): the caller's own transaction."""
    return connections[alias or settings.DATABASE]


def in_transaction(conn: BaseDatabaseWrapper) -> bool:
    """Whether what is written through this connection waits for its user's commit. Does not connect."""
    if conn.in_atomic_block:
        return True
    return not (conn.settings_dict["AUTOCOMMIT"] if conn.connection is None else conn.get_autocommit())


def pooled(wrapper: BaseDatabaseWrapper) -> bool:
    """Whether a transaction-pooling proxy stands before the server, as far as Django's settings tell."""
    return bool(wrapper.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"))


def open_private(purpose: str, alias: str | None = None) -> psycopg.Connection:
    """A new connection to the task database, in autocommit, that shares nothing with Django's.

    `purpose` shows in pg_stat_activity. Raises psycopg.OperationalError when the server cannot be reached.
    """
    wrapper = borrow(alias)
    params = dict(wrapper.get_connection_params())
    for key in ("context", "cursor_factory", "row_factory", "prepare_threshold", "pool"):
        params.pop(key, None)
    behind_proxy = pooled(wrapper)
    if not behind_proxy:
        # A transaction-pooling proxy refuses start-up options, and would hand the session's settings to others.
        params["options"] = f"{params.get('options', '')} {SESSION}".strip()
    params = {**KEEPALIVE, **params, "application_name": f"djtasks {purpose}"}
    conn = psycopg.connect(
        **params, autocommit=True, prepare_threshold=None if behind_proxy else 3, cursor_factory=psycopg.Cursor
    )
    arrays.register(conn)
    if (role := wrapper.settings_dict["OPTIONS"].get("assume_role")) and not behind_proxy:
        # What Django does in its own sessions. Behind a proxy it would be done to whoever comes next.
        conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    return conn


def listens() -> bool:
    """Whether LISTEN works: behind a transaction-pooling proxy it would be another session's."""
    return not pooled(borrow())


class Link:
    """A private connection that is opened when first needed, and again after it was lost.

    Belongs to one thread. `losses` counts how often it was lost: who remembers an answer across a loss must ask
    again.
    """

    def __init__(self, purpose: str) -> None:
        self.purpose = purpose
        self.losses = 0
        self._conn: psycopg.Connection | None = None

    @property
    def opened(self) -> bool:
        """Whether there is a connection now."""
        return self._conn is not None

    def connection(self) -> psycopg.Connection:
        """The connection, opened if need be. Raises psycopg.OperationalError when it cannot be."""
        if self._conn is None or self._conn.closed:
            self._conn = open_private(self.purpose)
        return self._conn

    def lost(self) -> None:
        """Forget the connection: its session is broken."""
        self.losses += 1
        self.close()

    def close(self) -> None:
        """End the session, if there is one."""
        if self._conn is not None:
            try:
                self._conn.close()
            except psycopg.Error:
                pass
            finally:
                self._conn = None
