"""Very many rows, made by the server itself, with the ids that tasks called one after another would have."""

from collections.abc import Callable
from typing import Any, LiteralString

import psycopg

TASK = "tests.worker_app.tasks.noop"
#: As many as one statement makes: so that progress can be shown, and none runs for minutes.
CHUNK = 500_000

#: A UUIDv7 of the number `n`: a hundred a millisecond, from `start` on (milliseconds since the epoch).
_ID: LiteralString = (
    "(lpad(to_hex(%(start)s + n / 100), 12, '0') || '7' || lpad(to_hex(n %% 4096), 3, '0')"
    " || '8' || substr(md5(n::text), 1, 15))::uuid"
)
_NUMBERS: LiteralString = " FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n"
MESSAGES: LiteralString = (
    "INSERT INTO djtasks_message (id, name, queue, lane, reason, eta, body) SELECT "
    + _ID
    + """,
    %(task)s, queue, CASE WHEN %(delayed)s THEN NULL ELSE queue END, CASE WHEN %(delayed)s THEN 'eta' END,
    CASE WHEN %(delayed)s THEN now() + interval '1 day' + n * interval '1 second' END, '[[], {}]'
    FROM (SELECT n, %(queue)s || CASE WHEN %(queues)s > 1 THEN (n %% %(queues)s)::text ELSE '' END AS queue"""
    + _NUMBERS
    + ") AS numbered"
)
RESULTS: LiteralString = (
    """INSERT INTO djtasks_result (
        id, owner, claim, created, started, done, state, name, queue, worker, result
    ) SELECT """
    + _ID
    + """,
    1, n, at, at, at, 'SUCCESS', %(task)s, 'old', 'celery@old', 'null'
    FROM (SELECT n, now() - interval '12 hours' + n * interval '1 millisecond' AS at"""
    + _NUMBERS
    + ") AS numbered"
)
START: LiteralString = "SELECT (extract(epoch FROM now()) * 1000)::bigint - %s"


class Rows:
    """Makes rows in one database. The ids of different calls do not meet."""

    def __init__(self, conn: psycopg.Connection[Any], progress: Callable[[str], None]) -> None:
        self.conn = conn
        self.progress = progress
        self._made = 0

    def messages(self, count: int, queue: str = "work", *, delayed: bool = False, queues: int = 1) -> None:
        """Messages that wait in a queue, or in so many queues whose names begin so, or for tomorrow."""
        self._make(MESSAGES, count, {"queue": queue, "delayed": delayed, "queues": queues}, "messages")

    def results(self, count: int) -> None:
        """Results of tasks that have ended some hours ago."""
        self._make(RESULTS, count, {}, "results")

    def _make(self, statement: LiteralString, count: int, more: dict[str, Any], what: str) -> None:
        # Ids of the last hours, older rows first; those of later calls are younger.
        start = self._number(START, 12 * 3_600_000)
        made = 0
        while made < count:
            size = min(CHUNK, count - made)
            span = {"start": start, "first": self._made + 1, "last": self._made + size, "task": TASK}
            self.conn.execute(statement, {**span, **more})
            made += size
            self._made += size
            if count > CHUNK:
                self.progress(f"{made:,} of {count:,} {what}")

    def _number(self, statement: LiteralString, *parameters: object) -> int:
        found = self.conn.execute(statement, parameters).fetchone()
        assert found is not None
        return int(found[0])

    def tidy(self) -> None:
        """What autovacuum does in time: dead rows go, and the planner knows what there is."""
        self.conn.execute("VACUUM ANALYZE djtasks_message, djtasks_result, djtasks_worker")
        self.conn.execute("CHECKPOINT")

    def clear(self) -> None:
        """No row is left."""
        self.conn.execute("TRUNCATE djtasks_message, djtasks_result, djtasks_worker, djtasks_waiter")
