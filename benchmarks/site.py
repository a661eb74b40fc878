"""The site under test: a PostgreSQL of its own, Django in this process, and what the benchmarks ask the tables.

The measuring connection is apart from Django's, so that looking does not change what is measured.
"""

import os
from collections.abc import Iterable
from typing import Any, LiteralString, NamedTuple

import django
import psycopg
from django.core.management import call_command
from django.db import connection
from psycopg import sql

from testproject.postgres.cluster import postmaster
from tests.servers import Server

#: Said, not assumed: the figures are those of a server that loses nothing.
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
#: What is printed of the server's settings.
SHOWN = (*DURABLE, "wal_level", "wal_sync_method", "shared_buffers", "max_wal_size", "checkpoint_timeout", "autovacuum")


class Progress(NamedTuple):
    """How far a drain has come."""

    results: int
    succeeded: int


class Span(NamedTuple):
    """When the first task began and when the last results were written, in seconds since the epoch."""

    began: float
    ended: float


class Site:
    """The server, the tables, and Django pointed at them. `close` removes all of it."""

    def __init__(self, choice: str) -> None:
        self.server = Server(choice, DURABLE)
        os.environ["DATABASE_URL"] = self.server.url
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        self._conn: psycopg.Connection[Any] | None = None

    def prepare(self) -> None:
        """Set Django up and make the tables."""
        django.setup()
        call_command("migrate", verbosity=0, interactive=False)

    def close(self) -> None:
        """Stop the server and remove its data."""
        if self._conn is not None:
            self._conn.close()
        self.server.remove()

    def connection(self) -> psycopg.Connection[Any]:
        """The connection that measures."""
        if self._conn is None:
            self._conn = psycopg.connect(self.server.url, autocommit=True, application_name="benchmarks")
        return self._conn

    def rows(self, statement: LiteralString, *parameters: object) -> list[Any]:
        """The answer."""
        return self.connection().execute(statement, parameters or None).fetchall()

    def ask(self, statement: LiteralString, *parameters: object) -> Any:
        """The first row of the answer."""
        return self.rows(statement, *parameters)[0]

    def pid(self) -> int:
        """The server's first process, the parent of all others."""
        process = postmaster(self.server.cluster.data)
        if process is None:
            raise OSError("the benchmarks' PostgreSQL server is gone")
        return process.pid

    def settings(self) -> dict[str, str]:
        """The settings of the server that matter for the figures."""
        found = dict(
            self.rows("SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY (%s)", list(SHOWN))
        )
        return {name: found[name] for name in SHOWN if name in found}

    def version(self) -> str:
        """The server's version."""
        return str(self.ask("SELECT current_setting('server_version')")[0])

    def limit(self, seconds: float) -> None:
        """Let no statement of this process take longer."""
        milliseconds = str(max(1, int(1000 * seconds)))
        statement: LiteralString = "SELECT set_config('statement_timeout', %s, false)"
        with connection.cursor() as cursor:
            cursor.execute(statement, [milliseconds])
        self.ask(statement, milliseconds)

    def empty(self) -> None:
        """Empty all tables, and write out what earlier phases have left for the next checkpoint."""
        tables = self.rows("SELECT tablename FROM pg_tables WHERE tablename LIKE %s", r"djtasks\_%")
        names = sql.SQL(", ").join(sql.Identifier(name) for (name,) in tables)
        self.connection().execute(sql.SQL("TRUNCATE {}").format(names))
        self.connection().execute("CHECKPOINT")

    def messages(self) -> int:
        """How many tasks wait or run."""
        return int(self.ask("SELECT count(*) FROM djtasks_message")[0])

    def body_bytes(self) -> int:
        """The size of the smallest body that waits."""
        return int(self.ask("SELECT min(octet_length(body)) FROM djtasks_message")[0])

    def wal(self) -> int:
        """How many bytes of WAL have been written, ever."""
        return int(self.ask("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")[0])

    def registered(self) -> bool:
        """Whether a worker has written its row, which it does when it is about to take its first task."""
        return bool(self.ask("SELECT EXISTS (SELECT FROM djtasks_worker)")[0])

    def idle(self) -> bool:
        """Whether there is a worker, and it sleeps until it is rung."""
        return bool(self.ask("SELECT EXISTS (SELECT FROM djtasks_worker WHERE idle)")[0])

    def progress(self) -> Progress:
        """How many results there are, and how many of them are successes."""
        return Progress(*self.ask("SELECT count(*), count(*) FILTER (WHERE state = 'SUCCESS') FROM djtasks_result"))

    def span(self) -> Span:
        """From the start of the first task to the statement that wrote the last results."""
        return Span(
            *self.ask(
                "SELECT extract(epoch FROM min(started))::float8, extract(epoch FROM max(done))::float8"
                " FROM djtasks_result"
            )
        )

    def last_done(self, but: str) -> float:
        """When the last results but this one were written, in seconds since the epoch."""
        return float(
            self.ask("SELECT extract(epoch FROM max(done))::float8 FROM djtasks_result WHERE id <> %s", but)[0]
        )

    def returned_of(self, ids: Iterable[str]) -> dict[str, bytes]:
        """What those of these tasks have returned that have ended, encoded, by id."""
        return dict(self.rows("SELECT id::text, result FROM djtasks_result WHERE id = ANY (%s::uuid[])", list(ids)))

    def returned(self) -> dict[str, bytes]:
        """What tasks have returned, encoded, by id."""
        return dict(self.rows("SELECT id::text, result FROM djtasks_result"))
