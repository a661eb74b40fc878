"""Pages of the two long tables, for people who look through them.

A page is read along an index, from a row's place on: never by offset, never counted, never sorted as a whole. A
condition that no index holds is tried on a bounded number of rows; the page then says how far it came, so that whoever
looks can go on from there. A page of ten million rows costs what one of ten thousand does. Payload is never read.
"""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from djtasks.db.connections import Connection, rows
from djtasks.db.regions import (
    DEAD_LETTERS,
    ENDED,
    ENDED_BADLY,
    FOR_A_REASON,
    FOR_A_TIME,
    IN_LANES,
    IN_ONE_LANE,
    NOT_ENDED,
    OF_PERIODIC,
    PARKED,
    RUNNING,
    RUNS,
    Column,
    Place,
    Region,
)
from djtasks.states import READY_STATES, SUCCESS

Row = dict[str, Any]


class Table(NamedTuple):
    """What is read of a table."""

    name: LiteralString
    columns: tuple[LiteralString, ...]


class Page(NamedTuple):
    """Some rows of a list, in its order."""

    rows: list[Row]
    #: The place of the first row and of the last.
    first: Place | None
    last: Place | None
    #: Where to read on, in the direction of this page; None at the end of the list.
    rest: Place | None
    #: So many rows were read, and there may be more that fit behind them; 0 when the page is full or at the end.
    looked_at: int
    #: How many rows the table has, by the server's statistics: about, and 0 when it does not know.
    estimate: int


MESSAGES = Table(
    "djtasks_message",
    (
        "id",
        "position",
        "owner",
        "created",
        "eta",
        "expires",
        "retries",
        "priority",
        "crashes",
        "lane",
        "reason",
        "name",
        "queue",
        "periodic",
    ),
)
RESULTS = Table(
    "djtasks_result",
    (
        "id",
        "owner",
        "created",
        "started",
        "done",
        "retries",
        "priority",
        "state",
        "name",
        "queue",
        "worker",
        "dead",
        "periodic",
    ),
)

#: Arguments are looked at in so many rows, as they are stored, in so many bytes of each. What is sensitive is left out.
TEXT_WINDOW = 5_000
TEXT_BYTES = 20_000
#: A value of one row, not EXISTS: for that the planner may look through the whole table once, to hash it.
_TEXT_OF_BODY: LiteralString = (
    "coalesce((SELECT (position(%(text)s::bytea IN substring(b.body FROM 1 FOR 20000)) > 0"
    " OR position(%(escaped)s::bytea IN substring(b.body FROM 1 FOR 20000)) > 0)"
    """ AND (b.headers IS NULL OR position('"sensitive"' IN b.headers) = 0) FROM """
)
_OF_THE_ROW: LiteralString = " AS b WHERE b.id = near.id), false)"
#: In place of a reason: all dead letters.
DEAD = "any"
#: In place of a state: all results of tasks that have not ended.
UNFINISHED = "not ended"

#: Conditions by the name of what is asked for.
_CONDITIONS: Mapping[str, LiteralString] = {
    "state": "state = %(state)s",
    "queue": "queue = %(queue)s",
    "name": "name = %(name)s",
    "prefix": "starts_with(name, %(prefix)s)",
    "worker": "worker = %(worker)s",
    "dead": "dead = %(dead)s",
    "owner": "owner = %(owner)s",
    "waiting": "owner IS NULL AND lane IS NOT NULL",
    "running": "owner IS NOT NULL",
    "parked": "lane IS NULL",
    "reason": "lane IS NULL AND reason = %(reason)s",
    "since": "created >= %(since)s",
    "until": "created < %(until)s",
    "any letter": "dead IS NOT NULL",
    "text of message": _TEXT_OF_BODY + "djtasks_message" + _OF_THE_ROW,
    "text of result": _TEXT_OF_BODY + "djtasks_result" + _OF_THE_ROW,
}


def messages(
    conn: Connection, wanted: Mapping[str, Any], *, start: Place | None = None, backward: bool = False, size: int = 100
) -> Page:
    """Messages in the order in which they will be claimed, lane by lane, then those that may not run now.

    `wanted` may have `status` (waiting, running, parked, or a parked one's reason: eta, name, limit; those for an eta
    come in its order), `queue`, `name`, `prefix` (of the name), `owner` (an incarnation), `periodic` (the number of a
    periodic task), `since` and `until` (when it was called), `text` with `escaped` (bytes in its arguments, as they are
    and as JSON has them). A page begins behind the place `start`; with `backward` it ends before it. Raises ValueError
    when `start` is no place of this list.
    """
    status = wanted.get("status")
    lanes = IN_ONE_LANE if "queue" in wanted else IN_LANES
    regions: tuple[Region, ...] = (lanes, PARKED)
    if "periodic" in wanted:
        regions = (OF_PERIODIC,)
    elif status in ("waiting", "running") or "owner" in wanted:
        regions = (lanes,)
    elif status == "parked":
        regions = (PARKED,)
    elif status == "eta":
        regions = (FOR_A_TIME,)
    elif status is not None:
        regions = (FOR_A_REASON,)
    params = {**wanted, "reason": status}
    tried = [key for key in ("queue", "name", "prefix", "owner", "since", "until") if key in wanted]
    if tried == ["queue"] and regions == (IN_ONE_LANE,):
        tried = []
    if status in ("waiting", "running"):
        tried.append(status)
    elif status is not None and "periodic" in wanted:
        tried.append("parked" if status == "parked" else "reason")
    if "text" in wanted:
        tried.append("text of message")
    return _read(conn, MESSAGES, regions, tried, params, start, backward, size)


def results(
    conn: Connection, wanted: Mapping[str, Any], *, start: Place | None = None, backward: bool = False, size: int = 100
) -> Page:
    """Results of tasks that have ended, the last one first; then what those have said that have not, the last called
    first.

    `wanted` may have `state` (UNFINISHED for all that have not ended), `queue`, `name`, `prefix` (of the name),
    `worker` (its name), `dead` (why it is a dead letter; DEAD for any reason), `since` and `until` (when it ended),
    `periodic` and `text` as for `messages`. `start`, `backward` and errors as there.
    """
    state = wanted.get("state")
    regions: tuple[Region, ...] = (ENDED, NOT_ENDED)
    if state is not None and state not in READY_STATES:
        regions = (NOT_ENDED,)
    elif state is not None and state != SUCCESS:
        # A task may also give itself the name of a terminal state before it has ended.
        regions = (ENDED_BADLY, NOT_ENDED)
    tried = [key for key in ("state", "queue", "name", "prefix", "worker", "dead") if key in wanted]
    if "dead" in wanted:
        regions = (DEAD_LETTERS,)
        if wanted["dead"] == DEAD:
            tried.remove("dead")
    if "periodic" in wanted:
        regions = tuple(RUNS if region is not NOT_ENDED else RUNNING for region in regions)
        tried += ["any letter"] if "dead" in wanted else []
    if state == UNFINISHED:
        tried.remove("state")
    if "text" in wanted:
        tried.append("text of result")
    return _read(conn, RESULTS, _ended_within(regions, wanted), tried, wanted, start, backward, size)


def _ended_within(regions: Sequence[Region], wanted: Mapping[str, Any]) -> Sequence[Region]:
    """The regions without what ended at another time; what has not ended is none of them then."""
    bounds: list[LiteralString] = []
    if "since" in wanted:
        bounds.append(" AND done >= %(since)s")
    if "until" in wanted:
        bounds.append(" AND done < %(until)s")
    if not bounds:
        return regions
    return [each._replace(where="".join([each.where, *bounds])) for each in regions if each.name != NOT_ENDED.name] or [
        ENDED._replace(where="false")
    ]


def by_id(conn: Connection, table: Table, ids: Sequence[UUID]) -> list[Row]:
    """The rows of these ids, without their payload."""
    query = "SELECT " + ", ".join(table.columns) + " FROM " + table.name + " WHERE id = ANY (%(ids)s::uuid[])"
    found = rows(conn, query, {"ids": list(ids)})
    return [dict(zip(table.columns, row, strict=True)) for row in found]


# -- one page, as one statement -----------------------------------------------------------------------------------


class _Arm(NamedTuple):
    """A range of one region: what is left of it behind a place."""

    region: Region
    where: LiteralString


def _read(
    conn: Connection,
    table: Table,
    regions: Sequence[Region],
    tried: Sequence[str],
    wanted: Mapping[str, Any],
    start: Place | None,
    backward: bool,
    size: int,
) -> Page:
    ordered = list(reversed(regions)) if backward else list(regions)
    arms, key = _arms(ordered, start, backward)
    fits = " AND ".join([_CONDITIONS[name] for name in tried]) or "true"
    window = min([region.window for region in regions]) if tried else size + 1
    if "text" in wanted:
        window = min(window, TEXT_WINDOW)
    params = {**wanted, **key, "window": window, "limit": size + 1}
    found = rows(conn, _statement(table, arms, fits, backward), params)
    names = (*table.columns, "region", "nth", "fits", "estimate")
    seen = [dict(zip(names, row, strict=True)) for row in found]
    fitting = [row for row in seen if row["fits"]]
    places = [_place(regions, row) for row in fitting[:size]]
    rest, looked_at = None, 0
    if len(fitting) > size:
        rest = places[-1]
    elif seen and seen[-1]["nth"] == window:
        rest, looked_at = _place(regions, seen[-1]), window
    page = [{name: row[name] for name in table.columns} for row in fitting[:size]]
    if backward:
        page.reverse()
        places.reverse()
    estimate = max(0, seen[0]["estimate"]) if seen else 0
    return Page(page, places[0] if places else None, places[-1] if places else None, rest, looked_at, estimate)


def _place(regions: Sequence[Region], row: Row) -> Place:
    region = next(each for each in regions if each.name == row["region"])
    return Place(region.name, tuple(row[column.name] for column in region.key))


def _arms(regions: Sequence[Region], start: Place | None, backward: bool) -> tuple[list[_Arm], dict[str, Any]]:
    """The ranges that lie behind `start`, in order, and the parameters they take."""
    if start is None:
        return [_Arm(region, region.where) for region in regions], {}
    for nth, region in enumerate(regions):
        if region.name == start.region and len(region.key) == len(start.key):
            arms = [_Arm(region, region.where + " AND " + behind) for behind in _behind(region.key, backward)]
            arms += [_Arm(later, later.where) for later in regions[nth + 1 :]]
            return arms, {_param(column): value for column, value in zip(region.key, start.key, strict=True)}
    raise ValueError(f"{start.region!r} is no region of this list")


def _behind(key: Sequence[Column], backward: bool) -> list[LiteralString]:
    """The ranges of an index behind one key, the nearest first: each is one stretch of the index."""
    after = [">" if column.descending == backward else "<" for column in key]
    values: list[LiteralString] = ["%(" + _param(column) + ")s::" + column.type for column in key]
    if len(set(after)) == 1:
        names = ", ".join([column.name for column in key])
        return ["(" + names + ") " + after[0] + " (" + ", ".join(values) + ")"]
    ranges: list[LiteralString] = []
    for last in reversed(range(len(key))):
        parts = [key[nth].name + " = " + values[nth] for nth in range(last)]
        ranges.append(" AND ".join([*parts, key[last].name + " " + after[last] + " " + values[last]]))
    return ranges


def _param(column: Column) -> LiteralString:
    return "key_" + column.name


def _order(region: Region, backward: bool) -> LiteralString:
    columns = region.key if region.before is None else (region.before, *region.key)
    return ", ".join([column.name + (" DESC" if column.descending != backward else "") for column in columns])


def _statement(table: Table, arms: Sequence[_Arm], fits: LiteralString, backward: bool) -> LiteralString:
    """One statement for a page. The last row of the window comes back whether it fits or not, to read on from.

    Each range has its own LIMIT, so that it is planned to be read from its start, and stopped.
    """
    columns = ", ".join(table.columns)
    ranges = [
        "(SELECT " + columns + ", '" + arm.region.name + "' AS region FROM " + table.name + " WHERE " + arm.where
        + " ORDER BY " + _order(arm.region, backward) + " LIMIT %(window)s)"
        for arm in arms
    ]  # fmt: skip
    return (
        "SELECT near.*, " + fits + " AS fits,"
        " (SELECT reltuples::bigint FROM pg_class WHERE oid = '" + table.name + "'::regclass) AS estimate"
        " FROM (SELECT ranges.*, row_number() OVER () AS nth FROM (" + " UNION ALL ".join(ranges) + ") AS ranges"
        " LIMIT %(window)s) AS near"
        " WHERE " + fits + " OR nth = %(window)s"
        " LIMIT %(limit)s"
    )
