"""Tasks as the monitor lists them: those that wait or run and those that have ended in one list, by their ids.

Ids begin with the time of the call, so their order is that of the calls, and both tables have an index of it. Ids that
are no such numbers, because callers gave texts of their own, stand behind all others. What no index holds is tried on a
bounded number of rows, as in `djtasks.db.pages`.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from djtasks.db.connections import rows
from djtasks.db.timeouts import within
from djtasks.states import READY_STATES, SUCCESS

#: So many rows of each table are looked at for a page, and fewer where arguments or results are.
WINDOW = 20_000
TEXT_WINDOW = 5_000
#: In place of why it is a dead letter: for any reason.
ANY_LETTER = "any"
#: No id that begins with a time is behind this one before the year 2039.
FIRST_OTHER = UUID("02000000-0000-0000-0000-000000000000")


class Task(NamedTuple):
    """One row of the list: a message, a result, or both."""

    id: UUID
    name: str
    queue: str
    #: As the result says; None of a message that has left nothing yet.
    state: str | None
    #: It is a message, still; held by this worker, or parked for this reason.
    waits: bool
    owner: int | None
    parked: bool
    reason: str | None
    worker: str | None
    created: Any
    eta: Any
    started: Any
    done: Any
    retries: int
    priority: int
    dead: str | None
    root_id: UUID | None
    parent_id: UUID | None


class Listed(NamedTuple):
    """A page."""

    tasks: list[Task]
    #: Go on behind this id, in the direction of the list; None at its end.
    rest: UUID | None
    #: The rows were looked at up to there, and not all of them; there may be more that fit.
    searched: bool


_MESSAGE: LiteralString = (
    "id, name, queue, NULL::text AS state, true AS waits, owner, lane IS NULL AS parked, reason, NULL::text AS worker,"
    " created, eta, NULL::timestamptz AS started, NULL::timestamptz AS done, retries, priority, NULL::text AS dead,"
    " root_id, parent_id"
)
_RESULT: LiteralString = (
    "id, name, queue, state, false AS waits, owner, false AS parked, NULL::text AS reason, worker,"
    " created, NULL::timestamptz AS eta, started, done, retries, priority, dead, root_id, parent_id"
)
#: Half the rows of a list may be read for nothing, but never a payload.
_PAYLOAD: LiteralString = (
    "coalesce((SELECT EXISTS (SELECT FROM unnest(%(needles)s::bytea[]) AS n (n)"
    " WHERE position(n.n IN substring(b.part FROM 1 FOR 20000)) > 0) FROM (SELECT "
)
_OF_ROW: LiteralString = " AS part, headers FROM "
_NOT_SENSITIVE: LiteralString = (
    " AS t WHERE t.id = near.id) AS b WHERE b.headers IS NULL OR position('\"sensitive\"' IN b.headers) = 0), false)"
)


def _searched(column: LiteralString, table: LiteralString, needles: LiteralString) -> LiteralString:
    return _PAYLOAD.replace("needles", needles) + column + _OF_ROW + table + _NOT_SENSITIVE


#: Conditions on a row of either table, by what is asked for; messages, then results. None: no row of it fits.
_CONDITIONS: Mapping[str, tuple[LiteralString | None, LiteralString | None]] = {
    "waiting": ("owner IS NULL AND NOT parked", None),
    "running": ("owner IS NOT NULL", None),
    "parked": ("parked", None),
    "reason": ("parked AND reason = %(reason)s", None),
    "state": (None, "state = %(state)s"),
    "name": ("position(%(name)s IN name) > 0", "position(%(name)s IN name) > 0"),
    "queue": ("queue = %(queue)s", "queue = %(queue)s"),
    "worker": (
        "owner = ANY (ARRAY(SELECT w.incarnation FROM djtasks_worker AS w WHERE position(%(worker)s IN w.name) > 0))",
        "position(%(worker)s IN worker) > 0",
    ),
    "parent_id": ("parent_id = %(parent_id)s", "parent_id = %(parent_id)s"),
    "dead": (None, "dead IS NOT NULL AND (%(dead)s = 'any' OR dead = %(dead)s)"),
    "words": (
        "(SELECT bool_and(position(w.w IN near.name) > 0 OR position(w.w IN near.queue) > 0)"
        " FROM unnest(%(words)s::text[]) AS w (w))",
        "(SELECT bool_and(position(w.w IN near.name) > 0 OR position(w.w IN near.queue) > 0"
        " OR position(w.w IN coalesce(near.worker, '')) > 0 OR near.state = w.w)"
        " FROM unnest(%(words)s::text[]) AS w (w))",
    ),
    "args": (_searched("body", "djtasks_message", "args"), _searched("body", "djtasks_result", "args")),
    "kwargs": (_searched("body", "djtasks_message", "kwargs"), _searched("body", "djtasks_result", "kwargs")),
    "result": (None, _searched("result", "djtasks_result", "result")),
}
_TEXTS = ("args", "kwargs", "result")


#: The tables of which a list can be.
MESSAGES, RESULTS = "djtasks_message", "djtasks_result"
BOTH = (MESSAGES, RESULTS)


class _Arm(NamedTuple):
    """A stretch of one table's index."""

    table: LiteralString
    columns: LiteralString
    #: Ids that begin with a time, or the others.
    other: bool


_ARMS = tuple(
    _Arm(table, columns, other)
    for other in (False, True)
    for table, columns in (("djtasks_message", _MESSAGE), ("djtasks_result", _RESULT))
)


def listed(
    conn: BaseDatabaseWrapper,
    wanted: Mapping[str, Any],
    *,
    after: UUID | None = None,
    oldest_first: bool = False,
    size: int = 50,
    seconds: float = 2.0,
    tables: Collection[str] = BOTH,
) -> Listed:
    """A page of the tasks for which all of `wanted` holds, those called last first; behind the id `after`.

    `wanted` may have `waiting`, `running`, `parked` (each true), `reason`, `state`, `name`, `worker` (parts of them),
    `queue`, `parent_id`, `root_id`, `dead` ("any"), `words` (a list, each a part of the name, the queue or the worker,
    or the state), `args`, `kwargs`, `result` (lists of bytes, one of which they have), `low` and `high` (UUIDs between
    which the ids are); all of it in these `tables` only. Raises TooSlow after so many seconds.
    """
    arms = [arm for arm in _ARMS if arm.table in tables and _may_have(arm, wanted, after)]
    tried = [key for key in _CONDITIONS if key in wanted]
    plain = not tried
    window = size + 1 if plain else TEXT_WINDOW if any(key in wanted for key in _TEXTS) else WINDOW
    reasons = [wanted["reason"]] if "reason" in wanted else list(REASONS)
    bounds = {"window": window, "limit": size + 1, "border": FIRST_OTHER}
    params = {**wanted, **bounds, "after": after, "reasons": reasons}
    if not arms:
        return Listed([], None, False)
    statement: LiteralString = " UNION ALL ".join(
        [_statement(place, arm, tried, wanted, after, oldest_first) for place, arm in enumerate(arms)]
    )
    found = rows(conn, statement, params) if plain else within(conn, statement, params, seconds)
    return _merged(arms, found, size, window, oldest_first, plain)


def _may_have(arm: _Arm, wanted: Mapping[str, Any], after: UUID | None) -> bool:
    place = 0 if arm.table == "djtasks_message" else 1
    if any(key in wanted and conditions[place] is None for key, conditions in _CONDITIONS.items()):
        return False
    if _source(arm, wanted) is not None or "low" in wanted or "high" in wanted:
        # One stretch for all ids; a time is only in those that begin with one.
        return not arm.other
    return arm.other or after is None or after < FIRST_OTHER


#: A range and an order that only one index has.
_WORKFLOW: LiteralString = (
    "(SELECT * FROM TABLE WHERE root_id >= %(root_id)s AND root_id <= %(root_id)s ORDER BY root_id LIMIT 10000)"
    " AS workflow"
)
#: What workers hold lies at the front of each queue, however much has been called since.
_FRONTS: LiteralString = """(
    WITH RECURSIVE lanes AS (
        (SELECT lane FROM djtasks_message WHERE lane IS NOT NULL ORDER BY lane LIMIT 1)
        UNION ALL
        SELECT (SELECT m.lane FROM djtasks_message AS m WHERE m.lane > lanes.lane ORDER BY m.lane LIMIT 1)
        FROM lanes WHERE lanes.lane IS NOT NULL
    )
    SELECT front.* FROM (SELECT lane FROM lanes WHERE lane IS NOT NULL LIMIT 300) AS known
    CROSS JOIN LATERAL (
        SELECT * FROM djtasks_message AS m WHERE m.lane = known.lane
        ORDER BY m.priority DESC, m.position LIMIT 500
    ) AS front
    WHERE front.owner IS NOT NULL
) AS fronts"""
#: Of what is parked, for each reason those that come first.
_PARKED: LiteralString = """(
    SELECT first.* FROM unnest(%(reasons)s::text[]) AS r (reason)
    CROSS JOIN LATERAL (
        SELECT * FROM djtasks_message AS m WHERE m.lane IS NULL AND m.reason = r.reason ORDER BY m.eta LIMIT 5000
    ) AS first
) AS parked"""
REASONS = ("eta", "name", "limit", "rate")


def _source(arm: _Arm, wanted: Mapping[str, Any]) -> LiteralString | None:
    """Where the rows come from, if an index has them together; None for the table."""
    if "root_id" in wanted:
        return _WORKFLOW.replace("TABLE", arm.table)
    if arm.table == "djtasks_message" and "running" in wanted:
        return _FRONTS
    if arm.table == "djtasks_message" and ("parked" in wanted or "reason" in wanted):
        return _PARKED
    return None


def _statement(
    place: int, arm: _Arm, tried: Sequence[str], wanted: Mapping[str, Any], after: UUID | None, oldest_first: bool
) -> LiteralString:
    """The rows of one stretch that fit, and its last row."""
    side = 0 if arm.table == "djtasks_message" else 1
    conditions: list[LiteralString] = [found for key in tried if (found := _CONDITIONS[key][side]) is not None]
    fits: LiteralString = " AND ".join(conditions) or "true"
    order: LiteralString = "id" if oldest_first else "id DESC"
    ranges: list[LiteralString] = []
    source = _source(arm, wanted)
    if after is not None and (arm.other == (after >= FIRST_OTHER) or source is not None):
        ranges.append("id > %(after)s" if oldest_first else "id < %(after)s")
    if "low" in wanted:
        ranges.append("id >= %(low)s")
    if "high" in wanted:
        ranges.append("id < %(high)s")
    if source is None:
        ranges.append("id >= %(border)s" if arm.other else "id < %(border)s")
    if side and "state" in wanted and wanted["state"] not in READY_STATES:
        # Whoever says something else has not ended: the index of those is short.
        ranges.append("done IS NULL")
    return (
        "(SELECT " + _PLACES[place] + " AS arm, near.*, " + fits + " AS fits FROM ("
        "SELECT ordered.*, row_number() OVER () AS nth FROM ("
        "SELECT " + arm.columns + " FROM " + (source or arm.table) + " WHERE " + (" AND ".join(ranges) or "true")
        + " ORDER BY " + order + " LIMIT %(window)s) AS ordered) AS near"
        " WHERE " + fits + " OR nth = %(window)s LIMIT %(limit)s)"
    )  # fmt: skip


_PLACES: tuple[LiteralString, ...] = ("0", "1", "2", "3")


def _merged(
    arms: Sequence[_Arm], found: Sequence[tuple[Any, ...]], size: int, window: int, oldest_first: bool, plain: bool
) -> Listed:
    tasks: list[Task] = []
    rest: UUID | None = None
    for other in (False, True):
        places = [place for place, arm in enumerate(arms) if arm.other == other]
        part, horizon = _of_region(places, found, size - len(tasks), window, oldest_first)
        tasks += part
        if horizon is not None:
            rest = horizon
            break
    return Listed(tasks, rest, rest is not None and not plain and len(tasks) < size)


def _of_region(
    places: Sequence[int], found: Sequence[tuple[Any, ...]], room: int, window: int, oldest_first: bool
) -> tuple[list[Task], UUID | None]:
    """The tasks of one region, and the id up to which all of them are known, if it is not the last."""
    if room <= 0 and any(row[0] in places for row in found):
        # The page ends where the region before it does: what comes next begins at the region's very start.
        return [], None if not places else (FIRST_OTHER if oldest_first else _LAST)
    by_id: dict[UUID, Task] = {}
    horizons = []
    for place in places:
        own = [row for row in found if row[0] == place]
        fitting = [Task._make(row[1:-2]) for row in own if row[-1]]
        for task in fitting:
            by_id[task.id] = _joined(by_id[task.id], task) if task.id in by_id else task
        if own and (own[-1][-2] == window or len(fitting) > room):
            horizons.append(own[-1][1])
    nearest = None if not horizons else min(horizons) if oldest_first else max(horizons)
    ordered = sorted(by_id.values(), key=lambda task: task.id, reverse=not oldest_first)
    if nearest is not None:
        ordered = [task for task in ordered if (task.id <= nearest if oldest_first else task.id >= nearest)]
    if len(ordered) > room:
        return ordered[:room], ordered[room - 1].id
    return ordered, nearest


_LAST = UUID(int=2**128 - 1)


def _joined(one: Task, other: Task) -> Task:
    """A task that has both rows: what it has said, and where it stands."""
    message, result = (one, other) if one.waits else (other, one)
    return message._replace(state=result.state, started=result.started, worker=result.worker, dead=result.dead)


class Ended(NamedTuple):
    """A page of what has ended."""

    tasks: list[Task]
    #: Go on behind this end and this id; None at the end of the list.
    rest: tuple[datetime, UUID] | None
    #: As `Listed.searched`.
    searched: bool


def ended(
    conn: BaseDatabaseWrapper,
    wanted: Mapping[str, Any],
    *,
    after: tuple[datetime, UUID] | None = None,
    oldest_first: bool = False,
    size: int = 50,
    seconds: float = 2.0,
) -> Ended:
    """A page of the tasks that have ended for which all of `wanted` holds, as for `listed`; the last end first.

    `done_since` and `done_until` may be in `wanted`, too: times of the end. Raises TooSlow after so many seconds.
    """
    if any(key in wanted and conditions[1] is None for key, conditions in _CONDITIONS.items()):
        return Ended([], None, False)
    tried = [key for key in _CONDITIONS if key in wanted]
    badly = wanted.get("state") in READY_STATES - {SUCCESS} and "root_id" not in wanted
    if badly:
        tried.remove("state")
    if wanted.get("dead") == ANY_LETTER:
        tried.remove("dead")
    plain = not tried and not {"low", "high", "root_id"} & wanted.keys()
    window = size + 1 if plain else TEXT_WINDOW if any(key in wanted for key in _TEXTS) else WINDOW
    params = {**wanted, "window": window, "limit": size + 1}
    if after is not None:
        params |= {"after_done": after[0], "after_id": after[1]}
    statement = _ended_statement(tried, wanted, after is not None, oldest_first, badly)
    found = rows(conn, statement, params) if plain else within(conn, statement, params, seconds)
    tasks = [Task._make(row[:-2]) for row in found if row[-1]]
    if len(tasks) > size:
        last = tasks[size - 1]
        return Ended(tasks[:size], (last.done, last.id), False)
    if found and found[-1][-2] == window:
        last = Task._make(found[-1][:-2])
        return Ended(tasks, (last.done, last.id), not plain)
    return Ended(tasks, None, False)


def _ended_statement(
    tried: Sequence[str], wanted: Mapping[str, Any], goes_on: bool, oldest_first: bool, badly: bool
) -> LiteralString:
    """Results in the order of their ends, along the one index that has it."""
    conditions: list[LiteralString] = [found for key in tried if (found := _CONDITIONS[key][1]) is not None]
    if "low" in wanted:
        conditions.append("id >= %(low)s")
    if "high" in wanted:
        conditions.append("id < %(high)s")
    fits: LiteralString = " AND ".join(conditions) or "true"
    ranges: list[LiteralString] = ["done IS NOT NULL"]
    order: LiteralString = "done, id" if oldest_first else "done DESC, id DESC"
    source: LiteralString = "djtasks_result"
    if badly:
        ranges.append("state <> 'SUCCESS' AND state >= %(state)s AND state <= %(state)s")
        order = "state, done, id" if oldest_first else "state DESC, done DESC, id DESC"
    if wanted.get("dead") == ANY_LETTER:
        ranges.append("dead IS NOT NULL")
    if "root_id" in wanted:
        source = _WORKFLOW.replace("TABLE", "djtasks_result")
    if "done_since" in wanted:
        ranges.append("done >= %(done_since)s")
    if "done_until" in wanted:
        ranges.append("done < %(done_until)s")
    if goes_on:
        compared: LiteralString = ">" if oldest_first else "<"
        ranges.append("(done, id) " + compared + " (%(after_done)s::timestamptz, %(after_id)s::uuid)")
    return (
        "SELECT near.*, " + fits + " AS fits FROM (SELECT ordered.*, row_number() OVER () AS nth FROM ("
        "SELECT " + _RESULT + " FROM " + source + " WHERE " + " AND ".join(ranges)
        + " ORDER BY " + order + " LIMIT %(window)s) AS ordered) AS near"
        " WHERE " + fits + " OR nth = %(window)s LIMIT %(limit)s"
    )  # fmt: skip


def by_ids(conn: BaseDatabaseWrapper, ids: Sequence[UUID], tables: Collection[str] = BOTH) -> list[Task]:
    """The tasks of these ids that there are, as these tables know them."""
    query: LiteralString = (
        "SELECT " + _MESSAGE + " FROM djtasks_message WHERE id = ANY (%(ids)s::uuid[]) UNION ALL SELECT "
        + _RESULT + " FROM djtasks_result WHERE id = ANY (%(ids)s::uuid[])"
    )  # fmt: skip
    found: dict[UUID, Task] = {}
    for row in rows(conn, query, {"ids": list(ids)}):
        task = Task._make(row)
        if (MESSAGES if task.waits else RESULTS) in tables:
            found[task.id] = _joined(found[task.id], task) if task.id in found else task
    return list(found.values())
