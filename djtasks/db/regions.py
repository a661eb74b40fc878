"""Where the rows of a long list lie: stretches of an index, their order, and a row's place there as texts."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, LiteralString, NamedTuple
from uuid import UUID


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


class Place(NamedTuple):
    """A row's place in a list: its region, and its key there. Also where a page begins: right behind that row."""

    region: str
    key: tuple[Any, ...]


ID = Column("id", "uuid")
URGENCY = (Column("priority", "bigint", descending=True), Column("position", "bigint"))
LANE = Column("lane", "text")
#: Neighbours in the order of claims seldom share a page of the heap.
SCATTERED = 20_000
IN_LANES = Region("lanes", "lane IS NOT NULL", (LANE, *URGENCY), SCATTERED)
IN_ONE_LANE = Region("lane", "lane = %(queue)s", URGENCY, SCATTERED)
PARKED = Region("parked", "lane IS NULL", URGENCY, SCATTERED, before=LANE)
FOR_A_TIME = Region("eta", "lane IS NULL AND reason = 'eta'", (Column("eta", "timestamptz"), ID), SCATTERED)
OF_PERIODIC = Region("repeated", "periodic = %(periodic)s", URGENCY, SCATTERED)
FOR_A_REASON = Region("reason", "lane IS NULL AND reason = %(reason)s", URGENCY, SCATTERED, before=LANE)

NEWEST = (Column("done", "timestamptz", descending=True), Column("id", "uuid", descending=True))
NOT_ENDED = Region("unfinished", "done IS NULL", (Column("id", "uuid", descending=True),), 50_000)
ENDED = Region("ended", "done IS NOT NULL", NEWEST, 50_000)
#: The state is written as a range, and part of the order, so that the index on it is the only one that has the order:
#: with "=" the planner may walk the one on `done` instead, past all that ended otherwise.
ENDED_BADLY = Region(
    "state",
    "done IS NOT NULL AND state <> 'SUCCESS' AND state >= %(state)s AND state <= %(state)s",
    (Column("state", "text", descending=True), *NEWEST),
    5_000,
)

DEAD_LETTERS = Region("dead", "dead IS NOT NULL", NEWEST, 50_000)
#: A range, as the state above.
RUNS = Region(
    "periodic",
    "periodic >= %(periodic)s AND periodic <= %(periodic)s AND done IS NOT NULL",
    (Column("periodic", "bigint", descending=True), *NEWEST),
    5_000,
)

RUNNING = NOT_ENDED._replace(where="done IS NULL AND periodic = %(periodic)s")

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
    region = next((each for each in REGIONS if each.name == texts[0] and len(each.key) == len(texts) - 1), None)
    if region is None:
        raise ValueError(f"no place: {texts!r}")
    key = tuple(_READERS[column.type](text) for column, text in zip(region.key, texts[1:], strict=True))
    for value in key:
        if isinstance(value, int) and value not in _BIGINT:
            raise ValueError(f"out of range: {value}")
        if isinstance(value, str) and "\0" in value:
            raise ValueError("a text with a NUL")
    return Place(region.name, key)


REGIONS = (
    IN_LANES,
    IN_ONE_LANE,
    PARKED,
    FOR_A_TIME,
    FOR_A_REASON,
    ENDED,
    ENDED_BADLY,
    NOT_ENDED,
    DEAD_LETTERS,
    OF_PERIODIC,
    RUNS,
)
