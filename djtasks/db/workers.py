"""Workers: register, heartbeat, idle, who is late, who is gone."""

import json
import pkgutil
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, NamedTuple

from djtasks import migrations
from djtasks.db.connections import Connection, rows


class Registration(NamedTuple):
    """What a worker says of itself when it starts."""

    incarnation: int
    name: str
    host: str
    pid: int
    pid_started: str
    boot_id: str
    pid_namespace: str
    process_group: int | None
    pool: str
    concurrency: int
    queues: Sequence[str]


class Peer(NamedTuple):
    """A worker as another one sees it."""

    incarnation: int
    name: str
    host: str
    pid: int
    pid_started: str
    boot_id: str
    pid_namespace: str
    process_group: int | None
    #: Its last heartbeat, seconds since the epoch: only to be compared with an earlier reading of itself.
    heartbeat: float
    #: Seconds since then, by the database's clock.
    age: float


REGISTER: LiteralString = """
    INSERT INTO djtasks_worker (
        incarnation, name, host, pid, pid_started, boot_id, pid_namespace, process_group, pool, concurrency, queues,
        counters, heartbeat, started
    )
    VALUES (
        %(incarnation)s, %(name)s, %(host)s, %(pid)s, %(pid_started)s, %(boot_id)s, %(pid_namespace)s,
        %(process_group)s, %(pool)s, %(concurrency)s, %(queues)s::jsonb, '{}', statement_timestamp(),
        statement_timestamp()
    )
    ON CONFLICT (incarnation) DO NOTHING
    RETURNING incarnation
"""


def register(conn: Connection, registration: Registration) -> bool:
    """Write the worker's row; False if the incarnation is taken (or a repeated INSERT finds its own)."""
    return bool(rows(conn, REGISTER, {**registration._asdict(), "queues": json.dumps(list(registration.queues))}))


BEAT: LiteralString = """
    UPDATE djtasks_worker
    SET heartbeat = statement_timestamp(), counters = %(counters)s::jsonb,
        process_group = coalesce(%(process_group)s, process_group), concurrency = %(concurrency)s,
        state = coalesce(%(state)s::jsonb, state)
    WHERE incarnation = %(incarnation)s
    RETURNING incarnation
"""


def beat(
    conn: Connection,
    incarnation: int,
    counters: dict[str, int],
    concurrency: int,
    process_group: int | None,
    state: Mapping[str, Any] | None = None,
) -> bool:
    """Say that the worker lives, and what else it has to say (`state`); False when it has been declared dead."""
    params = {
        "incarnation": incarnation,
        "counters": json.dumps(counters),
        "concurrency": concurrency,
        "process_group": process_group,
        "state": json.dumps(state) if state else None,
    }
    return bool(rows(conn, BEAT, params))


IDLE: LiteralString = """
    UPDATE djtasks_worker SET idle = %(idle)s WHERE incarnation = %(incarnation)s RETURNING incarnation
"""


def set_idle(conn: Connection, incarnation: int, idle: bool) -> bool:
    """Say whether the worker sleeps until it is rung; False when it has been declared dead."""
    return bool(rows(conn, IDLE, {"incarnation": incarnation, "idle": idle}))


QUEUES: LiteralString = """
    UPDATE djtasks_worker SET queues = %(queues)s::jsonb WHERE incarnation = %(incarnation)s RETURNING incarnation
"""


def set_queues(conn: Connection, incarnation: int, queues: Sequence[str]) -> bool:
    """Say which queues the worker takes from, so that it is rung for them; False when it has been declared dead."""
    return bool(rows(conn, QUEUES, {"incarnation": incarnation, "queues": json.dumps(list(queues))}))


PEERS: LiteralString = """
    SELECT
        incarnation, name, host, pid, pid_started, boot_id, pid_namespace, process_group,
        extract(epoch FROM heartbeat)::float8, extract(epoch FROM statement_timestamp() - heartbeat)::float8
    FROM djtasks_worker
"""


def peers(conn: Connection) -> list[Peer]:
    """All workers that have a row."""
    return [Peer._make(row) for row in rows(conn, PEERS)]


TRY_LOCK: LiteralString = """
    SELECT incarnation FROM djtasks_worker WHERE incarnation = %(incarnation)s FOR UPDATE SKIP LOCKED
"""


def try_lock(conn: Connection, incarnation: int) -> bool:
    """Lock the worker's row until the transaction ends; False if it is gone, or a claim of its own holds it."""
    return bool(rows(conn, TRY_LOCK, {"incarnation": incarnation}))


HEARTBEAT: LiteralString = """
    SELECT extract(epoch FROM heartbeat)::float8 FROM djtasks_worker WHERE incarnation = %(incarnation)s
"""


def heartbeat_of(conn: Connection, incarnation: int) -> float | None:
    """The worker's last heartbeat, seconds since the epoch, or None if it has no row."""
    found = rows(conn, HEARTBEAT, {"incarnation": incarnation})
    return found[0][0] if found else None


REMOVE: LiteralString = "DELETE FROM djtasks_worker WHERE incarnation = %(incarnation)s RETURNING incarnation"


def remove(conn: Connection, incarnation: int) -> bool:
    """Delete the worker's row: from now on it can claim nothing."""
    return bool(rows(conn, REMOVE, {"incarnation": incarnation}))


TRY_SWEEP: LiteralString = "SELECT pg_try_advisory_xact_lock(%(key)s)"
#: "djtasks" as a number: one sweep of the whole table at a time, by whichever worker gets there first.
SWEEP_KEY = 0x646A_7461_736B


def try_sweep(conn: Connection) -> bool:
    """Take the right to read the whole message table until this transaction ends; False if another has it."""
    found: list[tuple[Any, ...]] = rows(conn, TRY_SWEEP, {"key": SWEEP_KEY})
    return bool(found[0][0])


APPLIED: LiteralString = "SELECT name FROM django_migrations WHERE app = 'djtasks'"
RECORDED: LiteralString = "SELECT to_regclass('django_migrations') IS NOT NULL"
TABLES: LiteralString = "SELECT to_regclass('djtasks_message') IS NOT NULL"


def unapplied(conn: Connection) -> list[str]:
    """The migrations of djtasks that this database has not seen. It may have seen newer ones than we know."""
    applied = {name for (name,) in (rows(conn, APPLIED) if rows(conn, RECORDED)[0][0] else ())}
    if not applied and rows(conn, TABLES)[0][0]:
        # A project that makes its tables without migrations, for its tests.
        return []
    known = [module.name for module in pkgutil.iter_modules(migrations.__path__) if module.name[0].isdigit()]
    return sorted(set(known) - applied)
