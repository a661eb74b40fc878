"""What the audit asks the database, and what it has put into it: two tables that triggers write.

Read after the fact, they tell how often an end was written, and when a worker was declared dead.
"""

import json
import threading
import time
from typing import Any, LiteralString

import psycopg

from tests.chaos.audit import Result, Stored

TRACES: LiteralString = """
    CREATE TABLE chaos_end (id uuid NOT NULL);
    CREATE TABLE chaos_death (incarnation bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
    CREATE FUNCTION chaos_note_end() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO chaos_end VALUES (NEW.id); RETURN NULL; END
    $$;
    CREATE FUNCTION chaos_note_death() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO chaos_death VALUES (OLD.incarnation); RETURN NULL; END
    $$;
    CREATE TRIGGER chaos_end AFTER INSERT OR UPDATE ON djtasks_result
        FOR EACH ROW WHEN (NEW.done IS NOT NULL) EXECUTE FUNCTION chaos_note_end();
    CREATE TRIGGER chaos_death AFTER DELETE ON djtasks_worker
        FOR EACH ROW EXECUTE FUNCTION chaos_note_death();
"""
RESULTS: LiteralString = """
    SELECT id::text, state, name, result, owner, claim, worker, extract(epoch FROM done)::float8
    FROM djtasks_result WHERE done IS NOT NULL
"""
#: What has ended in the last moments: a witness that looks often enough sees every result while it is young.
YOUNG: LiteralString = RESULTS + " AND done > statement_timestamp() - %s * interval '1 second'"
LEFT: LiteralString = """
    SELECT id::text, name, lane, reason, owner, claim, crashes, retries,
        owner IN (SELECT incarnation FROM djtasks_worker) AS owned
    FROM djtasks_message ORDER BY position
"""
HELD: LiteralString = """
    SELECT count(*) FROM djtasks_message JOIN djtasks_worker ON owner = incarnation WHERE pid = %s
"""
HELD_SLOW: LiteralString = HELD + " AND djtasks_message.name = 'chaos.late_slow'"
#: May run, or runs, and was there so many seconds ago.
OLDER: LiteralString = """
    SELECT count(*) FROM djtasks_message
    WHERE lane IS NOT NULL AND created < statement_timestamp() - %s * interval '1 second'
"""
WAITING: LiteralString = "SELECT count(*) FROM djtasks_message WHERE lane IS NOT NULL AND owner IS NULL"
REGISTERED: LiteralString = "SELECT count(*) FROM djtasks_worker WHERE pid = %s"
#: The server works for these sessions; it does not while it waits for the rest of a statement, or to be listened to.
ACTIVE: LiteralString = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name LIKE %s AND state = 'active' AND coalesce(wait_event_type, '') <> 'Client'
"""
#: Who does what, and who waits for whom.
SESSIONS: LiteralString = """
    SELECT application_name, pid, pg_blocking_pids(pid), state, wait_event_type, wait_event,
        statement_timestamp() - state_change AS since, left(regexp_replace(query, '\\s+', ' ', 'g'), 150)
    FROM pg_stat_activity WHERE backend_type = 'client backend'
"""
TERMINATE: LiteralString = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


class Tables:
    """One database, asked from outside. Every question may come at a bad time, and is asked again."""

    def __init__(self, url: str, patience: float = 30.0) -> None:
        self.url = url
        self.patience = patience
        self._conn: psycopg.Connection[Any] | None = None

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of its own. Raises psycopg.OperationalError when there is no server."""
        return psycopg.connect(self.url, autocommit=True, application_name="chaos", connect_timeout=5)

    def ask(self, statement: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows. Raises psycopg.OperationalError after trying in vain for a while."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                if self._conn is None or self._conn.closed:
                    self._conn = self.connect()
                return self._conn.execute(statement, parameters or None).fetchall()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def close(self) -> None:
        """End the session."""
        if self._conn is not None:
            self._conn.close()

    def number(self, statement: LiteralString, *parameters: object) -> int:
        """The only number of the answer."""
        return int(self.ask(statement, *parameters)[0][0])

    def left(self) -> list[tuple[Any, ...]]:
        """What waits or runs."""
        return self.ask(LEFT)

    def stored(self, seen: dict[str, tuple[str, str | None]]) -> Stored:
        """Everything, for the audit."""
        ends = self.ask("SELECT id::text, count(*) FROM chaos_end GROUP BY id")
        deaths = self.ask("SELECT incarnation, extract(epoch FROM min(at))::float8 FROM chaos_death GROUP BY 1")
        results = [result_of(row) for row in self.ask(RESULTS)]
        return Stored(
            {result.id: result for result in results},
            {row[0] for row in self.left()},
            dict(ends),
            dict(deaths),
            seen,
        )


def result_of(row: tuple[Any, ...]) -> Result:
    """A row of RESULTS."""
    task_id, state, name, body, owner, claim, worker, done = row
    said = None if body is None else json.loads(bytes(body))
    value = said["exc_type"] if isinstance(said, dict) else said
    return Result(task_id, state, name.removeprefix("chaos."), value, owner, claim, worker, done)


class Witness(threading.Thread):
    """Looks at results while they are young, and keeps what it saw outside of the database."""

    EVERY = 0.5

    def __init__(self, tables: Tables) -> None:
        super().__init__(name="witness", daemon=True)
        self.tables = tables
        self.seen: dict[str, tuple[str, str | None]] = {}
        self._halt = threading.Event()

    def run(self) -> None:
        """Look until stopped; a session that is lost is replaced."""
        last = time.monotonic()
        while not self._halt.is_set():
            try:
                with self.tables.connect() as conn:
                    while not self._halt.wait(self.EVERY):
                        now = time.monotonic()
                        self._look(conn, now - last + self.EVERY)
                        last = now
            except psycopg.OperationalError:
                self._halt.wait(0.1)

    def _look(self, conn: psycopg.Connection[Any], age: float) -> None:
        for row in conn.execute(YOUNG, [age]):
            result = result_of(row)
            self.seen.setdefault(result.id, (result.state, result.value))

    def stop(self) -> None:
        """End the thread."""
        self._halt.set()
        self.join()
