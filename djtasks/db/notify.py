"""NOTIFY: a hint that something can be done now, never the only way to learn it.

Who makes a row runnable commits first, reads in a new statement who sleeps, and rings those. A ring that is lost
costs a poll's delay.
"""

from collections.abc import Collection, Sequence
from typing import LiteralString

from djtasks.db.arrays import Texts
from djtasks.db.connections import Connection, rows
from djtasks.db.pipe import Question, Statement

#: Every process that waits for results listens here; the payload names the tasks that ended.
RESULTS = "djtasks_result"
#: Every beat that sleeps listens here; a trigger rings when a schedule is written.
BEAT = "djtasks_beat"
#: 36 characters an id and a comma, within the 8,000 bytes of a payload.
IDS_A_PAYLOAD = 200


def worker_channel(incarnation: int) -> str:
    """The channel on which one worker is rung."""
    return f"djtasks_worker_{incarnation}"


#: One more is rung than there are messages: the freshest heartbeat may belong to a worker that has just died.
RING_WORKERS: LiteralString = """
    SELECT pg_notify('djtasks_worker_' || incarnation, '')
    FROM (
        SELECT incarnation FROM djtasks_worker
        WHERE idle AND queues ?| %(queues)s::text[] AND incarnation <> %(but)s
        ORDER BY heartbeat DESC
        LIMIT %(messages)s + 1
    ) AS sleeper
"""


def ring_workers(conn: Connection, queues: Collection[str], messages: int = 1, but: int = 0) -> int:
    """Wake sleeping workers of these queues, enough for that many messages; return how many were rung.

    Call it after the commit that made the messages runnable. `but` is the incarnation not to wake.
    """
    params = {"queues": sorted(queues), "messages": messages, "but": but}
    return len(rows(conn, RING_WORKERS, params))


#: In a transaction of its own a ring does not wait for the disk: a server that crashes loses its listeners, too.
HASTY: LiteralString = "SELECT set_config('synchronous_commit', 'off', true), pg_notify"
_RING_WORKERS = Statement(RING_WORKERS.replace("SELECT pg_notify", HASTY))


def ringing(queues: Collection[str], messages: int) -> Question:
    """`ring_workers` for a pipe, behind what commits the messages."""
    return Question(_RING_WORKERS, {"queues": Texts(sorted(queues)), "messages": messages, "but": 0})


RING_WAITERS: LiteralString = """
    SELECT pg_notify('djtasks_result', payload)
    FROM unnest(%(payloads)s::text[]) AS payload
    WHERE EXISTS (SELECT FROM djtasks_waiter WHERE expires > statement_timestamp())
"""


def ring_waiters(conn: Connection, ids: Sequence[str]) -> None:
    """Tell the processes that wait for results that these tasks have ended. Call it after the finish's commit."""
    rows(conn, RING_WAITERS, {"payloads": payloads(ids)})


_RING_WAITERS = Statement(RING_WAITERS.replace("SELECT pg_notify", HASTY))


def ringing_waiters(ids: Sequence[str]) -> Question:
    """`ring_waiters` for a pipe, behind the finish."""
    return Question(_RING_WAITERS, {"payloads": Texts(payloads(ids))})


def payloads(ids: Sequence[str]) -> list[str]:
    """The ids as texts that a notification can carry."""
    return [",".join(ids[start : start + IDS_A_PAYLOAD]) for start in range(0, len(ids), IDS_A_PAYLOAD)]


REGISTER_WAITER: LiteralString = """
    INSERT INTO djtasks_waiter (id, expires)
    VALUES (%(id)s, statement_timestamp() + %(seconds)s * interval '1 second')
    ON CONFLICT (id) DO UPDATE SET expires = excluded.expires
    RETURNING id
"""


def register_waiter(conn: Connection, waiter: int, seconds: float) -> None:
    """Say that a process waits for results, for that long unless it says so again."""
    rows(conn, REGISTER_WAITER, {"id": waiter, "seconds": seconds})


REMOVE_WAITERS: LiteralString = """
    DELETE FROM djtasks_waiter
    WHERE id = %(id)s OR expires < statement_timestamp() - interval '1 minute'
    RETURNING id
"""


def remove_waiter(conn: Connection, waiter: int) -> None:
    """Say that nobody waits in this process any more; forget the processes that died waiting, too."""
    rows(conn, REMOVE_WAITERS, {"id": waiter})
