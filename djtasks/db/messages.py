"""Messages: enqueue, release, retry, park, promote.

They are taken in `djtasks.db.claims` and ended in `djtasks.db.finish`.

A claim hands out a fence, the worker's incarnation (`owner`) and a number of the worker's own counter (`claim`);
every later statement about the message shows it, and touches nothing if it is no longer the row's.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, LiteralString

from djtasks.db.arrays import Array, Bigints, Blobs, Floats, Integers, Smallints, Texts, Uuids
from djtasks.db.connections import Connection, binary_cursor, rows
from djtasks.db.pipe import Question, Statement
from djtasks.messages import Message, Outcome

Fence = tuple[int, str]

ENQUEUE: LiteralString = """
    INSERT INTO djtasks_message (
        id, name, queue, priority, eta, expires, retries, headers, content_type, content_encoding, body, unique_key,
        limit_key, root_id, lane, reason
    )
    SELECT
        id, name, queue, priority, eta, expires, retries, headers, content_type, content_encoding, body, unique_key,
        limit_key, root_id,
        CASE WHEN eta > statement_timestamp() OR limit_key IS NOT NULL THEN NULL ELSE queue END,
        CASE WHEN eta > statement_timestamp() THEN 'eta' WHEN limit_key IS NOT NULL THEN 'limit' END
    FROM (
        SELECT
            call.*,
            coalesce(statement_timestamp() + countdown * interval '1 second', to_timestamp(eta_at)) AS eta,
            coalesce(statement_timestamp() + expires_in * interval '1 second', to_timestamp(expires_at)) AS expires
        FROM unnest(
            %(ids)s::uuid[], %(names)s::text[], %(queues)s::text[], %(bodies)s::bytea[],
            %(content_types)s::text[], %(content_encodings)s::text[], %(priorities)s::smallint[],
            %(etas)s::float8[], %(countdowns)s::float8[], %(expiries)s::float8[], %(expire_ins)s::float8[],
            %(retries)s::integer[], %(headers)s::text[], %(unique_keys)s::text[],
            %(limit_keys)s::text[], %(root_ids)s::uuid[]
        ) AS call (
            id, name, queue, body, content_type, content_encoding, priority,
            eta_at, countdown, expires_at, expires_in, retries, headers, unique_key, limit_key, root_id
        )
    ) AS timed
    ON CONFLICT (id) DO NOTHING
    RETURNING id::text
"""

#: Messages of workflows, and of periodic tasks. Few messages are, and none of the others pays for their columns.
ENQUEUE_LINKED: LiteralString = (
    ENQUEUE.replace("limit_key, root_id, lane", "limit_key, root_id, parent_id, group_id, chord, part, periodic, lane")
    .replace("limit_key, root_id,\n", "limit_key, root_id, parent_id, group_id, chord, part, periodic,\n")
    .replace(
        "%(root_ids)s::uuid[]\n",
        "%(root_ids)s::uuid[], %(parent_ids)s::uuid[], %(group_ids)s::uuid[],\n"
        "            %(chords)s::uuid[], %(parts)s::integer[], %(periodics)s::bigint[]\n",
    )
    .replace(
        "limit_key, root_id\n        )",
        "limit_key, root_id,\n            parent_id, group_id, chord, part, periodic\n        )",
    )
)
#: A message whose id or unique key is there already is left out. Positions are given out in the order of the calls,
#: keys are taken in the same order by everybody: who inserts one waits for the transaction that has it.
ENQUEUE_UNIQUE: LiteralString = (
    ENQUEUE_LINKED.replace("lane, reason\n    )", "lane, reason, position\n    )")
    .replace("THEN 'limit' END\n", "THEN 'limit' END,\n        place\n")
    .replace("call.*,", "call.*, nextval('djtasks_message_position') AS place,")
    .replace("AS timed\n    ON CONFLICT (id)", "AS timed\n    ORDER BY unique_key NULLS FIRST, place\n    ON CONFLICT")
)
#: The eta, countdown, expires and expires_in of a message that has none of them.
_AT_ONCE = (None, None, None, None)
#: One message that may run at once, as nearly all calls are: a third of ENQUEUE's cost where nothing is prepared.
ENQUEUE_ONE: LiteralString = """
    INSERT INTO djtasks_message (
        id, name, queue, lane, body, content_type, content_encoding, priority, retries, headers, root_id, parent_id,
        group_id, chord, part, periodic
    )
    VALUES (
        %(id)s, %(name)s, %(queue)s, %(queue)s, %(body)s, %(content_type)s, %(content_encoding)s, %(priority)s,
        %(retries)s, %(headers)s, %(root_id)s, %(parent_id)s, %(group_id)s, %(chord)s, %(part)s, %(periodic)s
    )
    ON CONFLICT (id) DO NOTHING
    RETURNING id::text
"""


def _is_plain(message: Message) -> bool:
    return message[7:11] == _AT_ONCE and message.unique_key is None and message.limit_key is None


def enqueue_unique(conn: Connection, messages: Sequence[Message]) -> set[str]:
    """As `enqueue`, for messages that may have unique keys; one whose key is taken is not written either.

    Waits for the transactions of others that have just written the same keys.
    """
    params = {name: list(values) for (name, _), values in _columns(messages).items()}
    return {row[0] for row in rows(conn, ENQUEUE_UNIQUE, params)}


def enqueue(conn: Connection, messages: Sequence[Message]) -> set[str]:
    """Write the messages, which have no unique keys; return the ids that were not there yet."""
    if len(messages) == 1 and _is_plain(messages[0]):
        return {row[0] for row in rows(conn, ENQUEUE_ONE, messages[0]._asdict())}
    columns = _columns(messages)
    query = ENQUEUE_LINKED if _linked(messages) else ENQUEUE
    if len(messages) >= MANY and (binary := binary_cursor(conn)) is not None:
        with binary as cursor:
            params = {name: array(values) for (name, array), values in columns.items()}
            return {row[0] for row in cursor.execute(query, params, binary=True)}
    return {row[0] for row in rows(conn, query, {name: list(values) for (name, _), values in columns.items()})}


_ENQUEUE_LINKED = Statement(ENQUEUE_LINKED)
#: What a message has that belongs to no workflow, and to no periodic task.
_ALONE = (None, None, None, None, None)
#: The columns of which these are.
_LINKS = len(Message._fields) - len(_ALONE)


def _linked(messages: Sequence[Message]) -> bool:
    return any(message[_LINKS:] != _ALONE for message in messages)


_ENQUEUE, _ENQUEUE_ONE = Statement(ENQUEUE), Statement(ENQUEUE_ONE)


def enqueuing(messages: Sequence[Message]) -> Question:
    """`enqueue` for a pipe."""
    if len(messages) == 1 and _is_plain(messages[0]):
        return Question(_ENQUEUE_ONE, messages[0]._asdict())
    statement = _ENQUEUE_LINKED if _linked(messages) else _ENQUEUE
    return Question(statement, {name: array(values) for (name, array), values in _columns(messages).items()})


def _columns(messages: Sequence[Message]) -> dict[tuple[str, type[Array]], tuple[Any, ...]]:
    """The parameters of ENQUEUE, with their types."""
    return dict(zip(_PARAMS, zip(*messages, strict=True), strict=True))


#: From so many messages on, binary arrays are worth a cursor that Django does not log.
MANY = 100
#: The parameters of ENQUEUE in the order of Message's fields.
_PARAMS = (
    ("ids", Uuids),
    ("names", Texts),
    ("queues", Texts),
    ("bodies", Blobs),
    ("content_types", Texts),
    ("content_encodings", Texts),
    ("priorities", Smallints),
    ("etas", Floats),
    ("countdowns", Floats),
    ("expiries", Floats),
    ("expire_ins", Floats),
    ("retries", Integers),
    ("headers", Texts),
    ("unique_keys", Texts),
    ("on_conflicts", Texts),
    ("limit_keys", Texts),
    ("root_ids", Uuids),
    ("parent_ids", Uuids),
    ("group_ids", Uuids),
    ("chords", Uuids),
    ("parts", Integers),
    ("periodics", Bigints),
)


def _fences(fences: Iterable[Fence]) -> dict[str, list[Any]]:
    """Sorted by id: locks are taken in that order by everybody."""
    ordered = sorted(fences, key=lambda fence: fence[1])
    return {"claims": [fence[0] for fence in ordered], "ids": [fence[1] for fence in ordered]}


RELEASE: LiteralString = """
    UPDATE djtasks_message AS m
    SET owner = NULL, claim = NULL
    FROM unnest(%(ids)s::uuid[], %(claims)s::bigint[]) AS held (id, claim)
    WHERE m.id = held.id AND m.owner = %(owner)s AND m.claim = held.claim
    RETURNING m.id::text
"""


def release(conn: Connection, owner: int, fences: Iterable[Fence]) -> set[str]:
    """Put claimed messages that never began back into their lanes; return the ids whose fence still held."""
    return {row[0] for row in rows(conn, RELEASE, {"owner": owner, **_fences(fences)})}


PARK_UNKNOWN: LiteralString = """
    UPDATE djtasks_message AS m
    SET owner = NULL, claim = NULL, lane = NULL, reason = 'name'
    FROM unnest(%(ids)s::uuid[], %(claims)s::bigint[]) AS held (id, claim)
    WHERE m.id = held.id AND m.owner = %(owner)s AND m.claim = held.claim
    RETURNING m.id::text
"""


def park_unknown(conn: Connection, owner: int, fences: Iterable[Fence]) -> set[str]:
    """Set messages aside whose task this worker does not know, for a worker that does."""
    return {row[0] for row in rows(conn, PARK_UNKNOWN, {"owner": owner, **_fences(fences)})}


ADOPT: LiteralString = """
    WITH known AS MATERIALIZED (
        SELECT id FROM djtasks_message
        WHERE lane IS NULL AND reason = 'name' AND name = ANY (%(names)s::text[]) AND queue = ANY (%(queues)s::text[])
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
    UPDATE djtasks_message AS m
    SET lane = CASE WHEN m.limit_key IS NULL THEN m.queue END,
        reason = CASE WHEN m.limit_key IS NOT NULL THEN 'limit' END
    FROM known
    WHERE m.id = known.id
    RETURNING m.queue
"""


def adopt(conn: Connection, names: Collection[str], queues: Collection[str], limit: int = 1000) -> list[str]:
    """Open the lanes of messages that were set aside by workers that did not know these names; return their queues.

    Those with a limit wait for it from now on.
    """
    return [row[0] for row in rows(conn, ADOPT, {"names": list(names), "queues": list(queues), "limit": limit})]


PROMOTE: LiteralString = """
    WITH due AS MATERIALIZED (
        SELECT id FROM djtasks_message
        WHERE lane IS NULL AND reason = 'eta' AND eta <= statement_timestamp()
        ORDER BY eta
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
    UPDATE djtasks_message AS m
    SET lane = CASE WHEN m.limit_key IS NULL THEN m.queue END,
        reason = CASE WHEN m.limit_key IS NOT NULL THEN 'limit' END
    FROM due
    WHERE m.id = due.id
    RETURNING m.queue, m.limit_key, m.name
"""
NEXT_ETA: LiteralString = """
    SELECT extract(epoch FROM eta - statement_timestamp())::float8
    FROM djtasks_message WHERE lane IS NULL AND reason = 'eta' ORDER BY eta LIMIT 1
"""


def promote(conn: Connection, limit: int = 1000, limited: dict[str, str] | None = None) -> list[str]:
    """Open the lanes of messages whose eta has come, the earliest first; return their queues.

    Those with a limit wait for it from now on: their keys, and the names of their tasks, are put into `limited`.
    """
    found = rows(conn, PROMOTE, {"limit": limit})
    if limited is not None:
        limited.update((key, name) for _, key, name in found if key is not None)
    return [row[0] for row in found]


def next_eta(conn: Connection) -> float | None:
    """Seconds until the earliest eta (negative when it is past), or None when nothing waits for one."""
    found = rows(conn, NEXT_ETA)
    return found[0][0] if found else None


CRASHED: LiteralString = """
    UPDATE djtasks_message AS m
    SET owner = NULL, claim = NULL, crashes = least(m.crashes + 1, 32767)
    FROM unnest(%(ids)s::uuid[], %(claims)s::bigint[]) AS held (id, claim)
    WHERE m.id = held.id AND m.owner = %(owner)s AND m.claim = held.claim
    RETURNING m.id::text
"""


def crashed(conn: Connection, owner: int, fences: Iterable[Fence]) -> set[str]:
    """Put messages whose process was lost while it ran them back into their lanes, and count the crash."""
    return {row[0] for row in rows(conn, CRASHED, {"owner": owner, **_fences(fences)})}


AGAIN: LiteralString = """
    WITH again AS (
        SELECT
            run.*, coalesce(statement_timestamp() + countdown * interval '1 second', to_timestamp(eta_at)) AS new_eta
        FROM unnest(
            %(ids)s::uuid[], %(claims)s::bigint[], %(countdowns)s::float8[], %(etas)s::float8[],
            %(bodies)s::bytea[], %(content_types)s::text[], %(content_encodings)s::text[], %(queues)s::text[],
            %(priorities)s::smallint[], %(expiries)s::float8[], %(headers)s::text[], %(counts)s::boolean[],
            %(results)s::bytea[], %(result_types)s::text[], %(result_encodings)s::text[], %(tracebacks)s::text[],
            %(stores)s::boolean[], %(starts)s::float8[], %(names)s::text[]
        ) AS run (
            id, claim, countdown, eta_at, body, content_type, content_encoding, queue, priority, expires_at, headers,
            counts, result, result_type, result_encoding, traceback, store, started, name
        )
    ), requeued AS (
        UPDATE djtasks_message AS m
        SET owner = NULL, claim = NULL, retries = m.retries + again.counts::integer, eta = again.new_eta,
            queue = coalesce(again.queue, m.queue),
            lane = CASE
                WHEN again.new_eta > statement_timestamp() OR m.limit_key IS NOT NULL THEN NULL
                ELSE coalesce(again.queue, m.queue)
            END,
            reason = CASE
                WHEN again.new_eta > statement_timestamp() THEN 'eta'
                WHEN m.limit_key IS NOT NULL THEN 'limit'
            END,
            name = coalesce(again.name, m.name), redelivered = m.redelivered OR NOT again.counts,
            priority = coalesce(again.priority, m.priority),
            expires = coalesce(to_timestamp(again.expires_at), m.expires),
            headers = coalesce(again.headers, m.headers),
            body = coalesce(again.body, m.body),
            content_type = coalesce(again.content_type, m.content_type),
            content_encoding = coalesce(again.content_encoding, m.content_encoding)
        FROM again
        WHERE m.id = again.id AND m.owner = %(owner)s AND m.claim = again.claim
        RETURNING m.id, m.name, m.queue, m.created, m.retries, m.priority, m.headers, m.body, m.content_type,
            m.content_encoding
    ), stored AS (
        INSERT INTO djtasks_result (
            id, owner, claim, created, started, retries, priority, state, name, queue, worker,
            content_type, content_encoding, result, traceback, headers, body, body_content_type, body_content_encoding
        )
        SELECT
            r.id, %(owner)s, again.claim, r.created, to_timestamp(again.started), r.retries, r.priority, 'RETRY',
            r.name, r.queue, %(worker)s, again.result_type, again.result_encoding, again.result, again.traceback,
            r.headers, r.body, r.content_type, r.content_encoding
        FROM requeued AS r JOIN again ON again.id = r.id
        WHERE again.store
        ON CONFLICT (id) DO UPDATE SET
            owner = excluded.owner, claim = excluded.claim, started = excluded.started, retries = excluded.retries,
            priority = excluded.priority, state = excluded.state, queue = excluded.queue, worker = excluded.worker,
            content_type = excluded.content_type, content_encoding = excluded.content_encoding,
            result = excluded.result, traceback = excluded.traceback, headers = excluded.headers,
            body = excluded.body, body_content_type = excluded.body_content_type,
            body_content_encoding = excluded.body_content_encoding
        WHERE djtasks_result.done IS NULL
    )
    SELECT id::text, queue FROM requeued
"""


def again(conn: Connection, owner: int, outcomes: Sequence[Outcome], worker: str) -> dict[str, str]:
    """Let messages run again, as their outcomes' `again` says; the state RETRY is stored in the same statement.

    The row stays the same row: its id, created time and what `again` leaves out are kept. Returns the queue of each
    id whose fence still held.
    """
    ordered = sorted(outcomes, key=lambda outcome: outcome.id)
    plans = [outcome.again for outcome in ordered if outcome.again is not None]
    params = {
        "owner": owner,
        "worker": worker,
        "ids": [outcome.id for outcome in ordered],
        "claims": [outcome.claim for outcome in ordered],
        "countdowns": [plan.countdown for plan in plans],
        "etas": [plan.eta for plan in plans],
        "bodies": [plan.body for plan in plans],
        "content_types": [plan.content_type for plan in plans],
        "content_encodings": [plan.content_encoding for plan in plans],
        "queues": [plan.queue for plan in plans],
        "priorities": [plan.priority for plan in plans],
        "expiries": [plan.expires for plan in plans],
        "headers": [plan.headers for plan in plans],
        "counts": [plan.counts for plan in plans],
        "results": [outcome.result for outcome in ordered],
        "result_types": [outcome.content_type for outcome in ordered],
        "result_encodings": [outcome.content_encoding for outcome in ordered],
        "tracebacks": [outcome.traceback for outcome in ordered],
        "stores": [outcome.store for outcome in ordered],
        "starts": [outcome.started for outcome in ordered],
        "names": [plan.name for plan in plans],
    }
    return dict(rows(conn, AGAIN, params))


DEPTHS: LiteralString = """
    SELECT queue, count(*), count(*) FILTER (WHERE owner IS NOT NULL) FROM djtasks_message
    WHERE queue = ANY (%(queues)s::text[]) GROUP BY queue
"""


def depths(conn: Connection, queues: Collection[str]) -> dict[str, tuple[int, int]]:
    """How many messages each of these queues holds, and how many of them are in a worker's hands."""
    return {name: (total, held) for name, total, held in rows(conn, DEPTHS, {"queues": list(queues)})}
