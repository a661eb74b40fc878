"""Rows, put in and looked at: the set-up and the onlooker of the storage tests."""

import itertools
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import dict_row

from djtasks.db import claims, messages, workers
from djtasks.db.claims import Scan
from djtasks.ids import new_task_id
from djtasks.messages import Claimed, Message, Outcome
from djtasks.worker.identity import new_incarnation
from tests.waits import wait_until

LOWEST, HIGHEST = -32768, 32767
#: More than a test leaves behind: then the files are made anew, so that no test walks over another one's dead rows.
LARGE = 200_000
NODE = "celery@test"
TABLES = (
    "djtasks_message",
    "djtasks_result",
    "djtasks_worker",
    "djtasks_waiter",
    "djtasks_limit",
    "djtasks_alias",
    "djtasks_queue",
    "djtasks_chord",
    "djtasks_part",
    "djtasks_group",
    "djtasks_revocation",
    "djtasks_reply",
    "djtasks_command",
    "djtasks_periodic_task",
    "djtasks_tick",
    "djtasks_beat",
)
#: Texts that are easily broken on their way.
HOSTILE = [
    "",
    " ",
    "NULL",
    "null",
    "'; DROP TABLE djtasks_message; --",
    "a\"b\\c'd`e",
    '{a,b,"c"}',
    "%s %(x)s %% {} {0} $1 :name ?",
    "line\nbreak\r\ttab\x01\x1f\x7f",
    "ä€😀 ‮right-to-left‬ \ufeff\u200b\u2028",
    "é vs é",
    "\\x00 \\u0000 E'\\n'",
    "x" * 100_000,
]

_numbers = itertools.count(1)


def empty(conn: psycopg.Connection) -> None:
    """Remove all rows."""
    size = "SELECT pg_total_relation_size('djtasks_message') + pg_total_relation_size('djtasks_result')"
    found = conn.execute(size).fetchone()
    if found is not None and found[0] > LARGE:
        conn.execute(f"TRUNCATE {', '.join(TABLES)}".encode())
        return
    for table in TABLES:
        conn.execute(f"DELETE FROM {table}".encode())


def message(**fields: Any) -> Message:
    """A message with an id of its own, in the queue `celery` unless said otherwise."""
    fields = {"id": new_task_id(), "name": "tests.add", "queue": "celery", "body": b"[[], {}]", **fields}
    return Message(**fields)


def put(conn: Any, count: int = 1, **fields: Any) -> list[str]:
    """Enqueue that many messages; return their ids in order."""
    made = [message(**fields) for _ in range(count)]
    messages.enqueue(conn, made)
    return [each.id for each in made]


def hire(conn: psycopg.Connection, *queues: str, idle: bool = False, **fields: Any) -> int:
    """Write the row of a worker that lives; return its incarnation."""
    incarnation = fields.pop("incarnation", None) or new_incarnation()
    fields = {
        "incarnation": incarnation,
        "name": NODE,
        "host": "elsewhere",
        "pid": 1,
        "pid_started": "",
        "boot_id": "another boot",
        "pid_namespace": "",
        "process_group": None,
        "pool": "prefork",
        "concurrency": 1,
        "queues": queues or ("celery",),
        **fields,
    }
    workers.register(conn, workers.Registration(**fields))
    if idle:
        workers.set_idle(conn, incarnation, True)
    return incarnation


def whole(*lanes: str) -> list[Scan]:
    """One scan of everything for each of the lanes."""
    return [Scan(lane, LOWEST, HIGHEST, -1) for lane in lanes or ("celery",)]


def take(conn: psycopg.Connection, owner: int, limit: int = 1000, *lanes: str, **options: Any) -> list[Claimed]:
    """Claim for a worker, from the start of the lanes; claim numbers are never used twice."""
    first = next(_numbers) * 1_000_000
    return claims.claim(conn, owner, first, whole(*lanes), limit, **options)[0]


def ended(claimed: Claimed, state: str = "SUCCESS", **fields: Any) -> Outcome:
    """How a run of the message ended."""
    fields = {"result": b'"done"', "started": claimed.created, **fields}
    return Outcome(claimed.claim, claimed.id, state, **fields)


def fences(claimed: Sequence[Claimed]) -> list[tuple[int, str]]:
    """The fences of these messages."""
    return [(each.claim, each.id) for each in claimed]


class Table:
    """What anybody sees in the tables: only what is committed."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self.conn = conn

    def rows(self, query: str, *params: Any) -> list[dict[str, Any]]:
        """What a query finds, a dict a row."""
        with self.conn.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.encode(), params or None).fetchall()

    def value(self, query: str, *params: Any) -> Any:
        """The one value a query finds."""
        return next(iter(self.rows(query, *params)[0].values()))

    def message(self, task_id: str) -> dict[str, Any] | None:
        """The message row of a task, or None."""
        return next(iter(self.rows("SELECT * FROM djtasks_message WHERE id = %s", task_id)), None)

    def result(self, task_id: str) -> dict[str, Any] | None:
        """The result row of a task, or None."""
        return next(iter(self.rows("SELECT * FROM djtasks_result WHERE id = %s", task_id)), None)

    def waiting(self, lane: str = "celery") -> list[str]:
        """The ids of the messages that may be claimed, in the order in which they are."""
        query = (
            "SELECT id::text FROM djtasks_message WHERE lane = %s AND owner IS NULL ORDER BY priority DESC, position"
        )
        return [row["id"] for row in self.rows(query, lane)]

    def messages(self) -> int:
        """How many messages there are."""
        return int(self.value("SELECT count(*) FROM djtasks_message"))

    def results(self) -> int:
        """How many results there are."""
        return int(self.value("SELECT count(*) FROM djtasks_result"))

    def blocked(self, conn: psycopg.Connection) -> bool:
        """Whether a connection waits for another one's lock."""
        query = "SELECT wait_event_type = 'Lock' AS blocked FROM pg_stat_activity WHERE pid = %s"
        return bool(self.value(query, conn.info.backend_pid))

    def wait_until_blocked(self, conn: psycopg.Connection) -> None:
        """Wait until a connection waits for another one's lock."""
        wait_until(lambda: self.blocked(conn), "a session that waits for another one's lock")


@contextmanager
def counting(conn: psycopg.Connection) -> Iterator[list[str]]:
    """Collect the statements that go through a private connection."""
    seen: list[str] = []

    class Counting(psycopg.Cursor[Any]):
        def execute(self, query: Any, *args: Any, **options: Any) -> Any:
            seen.append(str(query))
            return super().execute(query, *args, **options)

    factory = conn.cursor_factory
    conn.cursor_factory = Counting
    try:
        yield seen
    finally:
        conn.cursor_factory = factory


def shuffled(items: Sequence[Any]) -> list[Any]:
    """The items in some other order, the same one each time."""
    return random.Random(7).sample(list(items), len(items))
