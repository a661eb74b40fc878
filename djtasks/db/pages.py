"""Pages of the two long tables, for people who look through them.

A page is read along an index, from a row's place on: never by offset, never counted, never sorted as a whole. A
condition that no index holds is tried on a bounded number of rows; the page then says how far it came, so that whoever
looks can go on from there. A page of ten million rows costs what one of ten thousand does. Payload is never read.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from djtasks.db.connections import Connection, rows
from djtasks.states import READY_STATES, SUCCESS

Row = dict[str, Any]


class Column(NamedTuple):
    """One column of a region's key."""

    name: LiteralString
    type: LiteralString
    descending: bool = False


class Region(NamedTuple):
    """Rows that lie side by side in one index, in its order. No column of the key is NULL in it."""

    name: str
    where: LiteralString
    key: tuple[Column, ...]
    #: The most of its rows that a page reads in search of some that fit: about 0.1 s of work in a table of a million.
    window: int
    #: A column that is NULL in all of the region, but stands before the key in the index.
    before: Column | None = None


class Table(NamedTuple):
    """What is read of a table."""

    name: LiteralString
    columns: tuple[LiteralString, ...]


class Place(NamedTuple):
    """A row's place in a list: its region, and its key there. Also where a page begins: right behind that row."""

    region: str
    key: tuple[Any, ...]


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
    ),
)

_ID = Column("id", "uuid")
_URGENCY = (Column("priority", "bigint", descending=True), Column("position", "bigint"))
_LANE = Column("lane", "text")
#: Neighbours in the order of claims seldom share a page of the heap.
_SCATTERED = 20_000
_IN_LANES = Region("lanes", "lane IS NOT NULL", (_LANE, *_URGENCY), _SCATTERED)
_IN_ONE_LANE = Region("lane", "lane = %(queue)s", _URGENCY, _SCATTERED)
_PARKED = Region("parked", "lane IS NULL", _URGENCY, _SCATTERED, before=_LANE)
_FOR_A_TIME = Region("eta", "lane IS NULL AND reason = 'eta'", (Column("eta", "timestamptz"), _ID), _SCATTERED)
_FOR_A_REASON = Region("reason", "lane IS NULL AND reason = %(reason)s", _URGENCY, _SCATTERED, before=_LANE)

_NEWEST = (Column("done", "timestamptz", descending=True), Column("id", "uuid", descending=True))
_UNFINISHED = Region("unfinished", "done IS NULL", (Column("id", "uuid", descending=True),), 50_000)
_ENDED = Region("ended", "done IS NOT NULL", _NEWEST, 50_000)
#: The state is written as a range, and part of the order, so that the index on it is the only one that has the order:
#: with "=" the planner may walk the one on `done` instead, past all that ended otherwise.
_ENDED_BADLY = Region(
    "state",
    "done IS NOT NULL AND state <> 'SUCCESS' AND state >= %(state)s AND state <= %(state)s",
    (Column("state", "text", descending=True), *_NEWEST),
    5_000,
)

_DEAD_LETTERS = Region("dead", "dead IS NOT NULL", _NEWEST, 50_000)

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
    "waiting": "owner IS NULL",
    "running": "owner IS NOT NULL",
}


def messages(
    conn: Connection, wanted: Mapping[str, Any], *, start: Place | None = None, backward: bool = False, size: int = 100
) -> Page:
    """Messages in the order in which they will be claimed, lane by lane, then those that may not run now.

    `wanted` may have `status` (waiting, running, parked, or a parked one's reason: eta, name, limit; those for an eta
    come in its order), `queue`, `name`, `prefix` (of the name), `owner` (an incarnation). A page begins behind the
    place `start`; with `backward` it ends before it. Raises ValueError when `start` is no place of this list.
    """
    status = wanted.get("status")
    lanes = _IN_ONE_LANE if "queue" in wanted else _IN_LANES
    regions: tuple[Region, ...] = (lanes, _PARKED)
    if status in ("waiting", "running") or "owner" in wanted:
        regions = (lanes,)
    elif status == "parked":
        regions = (_PARKED,)
    elif status == "eta":
        regions = (_FOR_A_TIME,)
    elif status is not None:
        regions = (_FOR_A_REASON,)
    params = {**wanted, "reason": status}
    tried = [key for key in ("queue", "name", "prefix", "owner") if key in wanted]
    if tried == ["queue"] and regions == (_IN_ONE_LANE,):
        tried = []
    if status in ("waiting", "running"):
        tried.append(status)
    return _read(conn, MESSAGES, regions, tried, params, start, backward, size)


def results(
    conn: Connection, wanted: Mapping[str, Any], *, start: Place | None = None, backward: bool = False, size: int = 100
) -> Page:
    """Results of tasks that have ended, the last one first; then what those have said that have not, the last called
    first.

    `wanted` may have `state` (UNFINISHED for all that have not ended), `queue`, `name`, `prefix` (of the name),
    `worker` (its name), `dead` (why it is a dead letter; DEAD for any reason). `start`, `backward` and errors as for
    `messages`.
    """
    state = wanted.get("state")
    regions: tuple[Region, ...] = (_ENDED, _UNFINISHED)
    if state is not None and state not in READY_STATES:
        regions = (_UNFINISHED,)
    elif state is not None and state != SUCCESS:
        # A task may also give itself the name of a terminal state before it has ended.
        regions = (_ENDED_BADLY, _UNFINISHED)
    tried = [key for key in ("state", "queue", "name", "prefix", "worker", "dead") if key in wanted]
    if "dead" in wanted:
        regions = (_DEAD_LETTERS,)
        if wanted["dead"] == DEAD:
            tried.remove("dead")
    if state == UNFINISHED:
        tried.remove("state")
    return _read(conn, RESULTS, regions, tried, wanted, start, backward, size)


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


# -- places as text -----------------------------------------------------------------------------------------------

_READERS: Mapping[str, Callable[[str], Any]] = {
    "uuid": UUID,
    "bigint": int,
    "text": str,
    "timestamptz": datetime.fromisoformat,
}
_BIGINT = range(-(2**63), 2**63)


def as_texts(place: Place) -> list[str]:
    """A place as texts, for a link."""
    return [place.region, *(each.isoformat() if isinstance(each, datetime) else str(each) for each in place.key)]


def from_texts(texts: Sequence[str]) -> Place:
    """The place that `as_texts` wrote. Raises ValueError for anything else."""
    region = next((each for each in _REGIONS if each.name == texts[0] and len(each.key) == len(texts) - 1), None)
    if region is None:
        raise ValueError(f"no place: {texts!r}")
    key = tuple(_READERS[column.type](text) for column, text in zip(region.key, texts[1:], strict=True))
    for value in key:
        if isinstance(value, int) and value not in _BIGINT:
            raise ValueError(f"out of range: {value}")
        if isinstance(value, str) and "\0" in value:
            raise ValueError("a text with a NUL")
    return Place(region.name, key)


_REGIONS = (
    _IN_LANES,
    _IN_ONE_LANE,
    _PARKED,
    _FOR_A_TIME,
    _FOR_A_REASON,
    _ENDED,
    _ENDED_BADLY,
    _UNFINISHED,
    _DEAD_LETTERS,
)
