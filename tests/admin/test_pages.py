"""Pages of the long tables: every row once, in the order of the list, whichever way it is walked."""

import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from djtasks.db import pages, regions
from djtasks.db.pages import UNFINISHED, Page
from djtasks.db.regions import Place
from djtasks.models import Message, Result
from tests.admin.conftest import new_message, new_result

Read = Callable[..., Page]


def walk(
    read: Read, wanted: Mapping[str, Any], size: int, *, start: Place | None = None, backward: bool = False
) -> list[str]:
    """The ids on all pages from `start` on, in the order of the list. Places go through their texts, as in a link."""
    found: list[str] = []
    for _ in range(1000):
        page = read(connection, wanted, start=start, backward=backward, size=size)
        assert len(page.rows) <= size
        ids = [str(row["id"]) for row in page.rows]
        found = ids + found if backward else found + ids
        if page.rest is None:
            return found
        start = regions.from_texts(regions.as_texts(page.rest))
        assert start == page.rest
    raise AssertionError("the list has no end")


def ordered(rows: Any, *key: Callable[[Any], Any]) -> list[str]:
    return [str(row.pk) for row in sorted(rows, key=lambda row: tuple(each(row) for each in key))]


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search looks at seven rows a page."""
    for name, value in vars(pages).items():
        if isinstance(value, regions.Region):
            monkeypatch.setattr(pages, name, value._replace(window=7))


@pytest.fixture
def many_messages() -> list[Message]:
    """In several lanes, of several priorities, parked for every reason, some held, many at the same time."""
    chance, now = random.Random(5), timezone.now().replace(microsecond=0)
    rows = []
    for number in range(150):
        queue = chance.choice(["a", "b", "C", "é"])
        fields: dict[str, Any] = {"queue": queue, "priority": chance.choice([-1, 0, 0, 9]), "name": f"t{number % 7}"}
        fields["periodic"] = number % 3 or None
        if chance.random() < 0.4:
            reason = chance.choice(["eta", "eta", "name", "limit"])
            fields |= {"lane": None, "reason": reason}
            if reason == "eta":
                fields["eta"] = now + timedelta(seconds=chance.randrange(5))
        elif chance.random() < 0.2:
            fields |= {"owner": chance.choice([1, 2]), "claim": number}
        rows.append(new_message(**fields))
    Message.objects.bulk_create(rows)
    return list(Message.objects.all())


@pytest.fixture
def many_results() -> list[Result]:
    """Ended in batches at the same instants, well and badly, and not ended."""
    chance, now = random.Random(6), timezone.now()
    rows = []
    for number in range(150):
        state = chance.choice(["SUCCESS", "SUCCESS", "FAILURE", "REVOKED", "RETRY", "half way"])
        done = now - timedelta(seconds=chance.randrange(6)) if state in ("SUCCESS", "FAILURE", "REVOKED") else None
        if chance.random() < 0.1:
            done = None
        queue, worker = chance.choice("ab"), chance.choice([None, "w"])
        fields = {"name": f"t{number % 7}", "queue": queue, "worker": worker, "periodic": number % 3 or None}
        rows.append(new_result(state=state, done=done, **fields))
    Result.objects.bulk_create(rows)
    return list(Result.objects.all())


MESSAGES_WANTED: list[dict[str, Any]] = [
    {},
    {"status": "waiting"},
    {"status": "running"},
    {"status": "parked"},
    {"status": "eta"},
    {"status": "name"},
    {"status": "limit"},
    {"queue": "b"},
    {"queue": "C", "status": "waiting"},
    {"queue": "b", "status": "eta"},
    {"queue": "none"},
    {"name": "t3"},
    {"prefix": "t"},
    {"prefix": "t3", "queue": "a"},
    {"owner": 1},
    {"owner": 2, "name": "t1", "queue": "b"},
    {"periodic": 1},
    {"periodic": 2, "status": "waiting"},
    {"periodic": 2, "status": "parked", "queue": "a"},
]
RESULTS_WANTED: list[dict[str, Any]] = [
    {},
    *({"state": state} for state in ("SUCCESS", "FAILURE", "REVOKED", "RETRY", "half way", UNFINISHED, "none")),
    {"name": "t3"},
    {"queue": "a"},
    {"worker": "w"},
    {"prefix": "t"},
    {"prefix": "t1", "state": "FAILURE", "queue": "b"},
    {"state": UNFINISHED, "worker": "w"},
    {"periodic": 1},
    {"periodic": 2, "state": "FAILURE"},
    {"periodic": 2, "state": UNFINISHED},
]


def messages_in_order(rows: list[Message], wanted: Mapping[str, Any]) -> list[str]:
    status = wanted.get("status")
    fitting = [
        row
        for row in rows
        if all(getattr(row, key) == wanted[key] for key in ("queue", "name", "owner", "periodic") if key in wanted)
        and row.name.startswith(wanted.get("prefix", ""))
        and status
        in (None, row.reason, "parked" if row.lane is None else "waiting" if row.owner is None else "running")
    ]
    if status == "eta":
        return ordered(fitting, lambda row: row.eta, lambda row: row.pk)
    if "periodic" in wanted:
        return ordered(fitting, lambda row: -row.priority, lambda row: row.position)
    # Lanes are ordered by their bytes.
    lane = lambda row: (row.lane is None, (row.lane or "").encode())  # noqa: E731
    return ordered(fitting, lane, lambda row: -row.priority, lambda row: row.position)


def results_in_order(rows: list[Result], wanted: Mapping[str, Any]) -> list[str]:
    def fits(row: Result) -> bool:
        state = wanted.get("state", row.state)
        return (
            all(getattr(row, key) == wanted[key] for key in ("queue", "name", "worker", "periodic") if key in wanted)
            and row.name.startswith(wanted.get("prefix", ""))
            and (row.done is None if state == UNFINISHED else row.state == state)
        )

    fitting = [row for row in rows if fits(row)]
    ended = [row for row in fitting if row.done is not None]
    unfinished = [row for row in fitting if row.done is None]
    return [
        *reversed(ordered(ended, lambda row: row.done, lambda row: row.pk)),
        *reversed(ordered(unfinished, lambda row: row.pk)),
    ]


@pytest.mark.parametrize("size", [1, 10])
@pytest.mark.parametrize("wanted", MESSAGES_WANTED, ids=str)
def test_pages_of_messages_hold_each_row_that_fits_once_and_in_order(
    many_messages: list[Message], wanted: dict[str, Any], size: int
) -> None:
    assert walk(pages.messages, wanted, size) == messages_in_order(many_messages, wanted)


@pytest.mark.parametrize("size", [1, 10])
@pytest.mark.parametrize("wanted", RESULTS_WANTED, ids=str)
def test_pages_of_results_hold_each_row_that_fits_once_and_in_order(
    many_results: list[Result], wanted: dict[str, Any], size: int
) -> None:
    assert walk(pages.results, wanted, size) == results_in_order(many_results, wanted)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("wanted", MESSAGES_WANTED, ids=str)
def test_messages_that_are_searched_a_window_at_a_time_are_all_found(
    many_messages: list[Message], wanted: dict[str, Any]
) -> None:
    assert walk(pages.messages, wanted, 5) == messages_in_order(many_messages, wanted)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("wanted", RESULTS_WANTED, ids=str)
def test_results_that_are_searched_a_window_at_a_time_are_all_found(
    many_results: list[Result], wanted: dict[str, Any]
) -> None:
    assert walk(pages.results, wanted, 5) == results_in_order(many_results, wanted)


@pytest.mark.usefixtures("small_windows")
def test_pages_of_messages_hold_the_same_when_walked_backward(many_messages: list[Message]) -> None:
    for wanted in MESSAGES_WANTED:
        everything = messages_in_order(many_messages, wanted)
        last = pages.messages(connection, wanted, size=1000).last
        if last is not None and len(everything) > 1:
            assert walk(pages.messages, wanted, 4, start=last, backward=True) == _before(
                everything, pages.messages, wanted
            )


@pytest.mark.usefixtures("small_windows")
def test_pages_of_results_hold_the_same_when_walked_backward(many_results: list[Result]) -> None:
    for wanted in RESULTS_WANTED:
        everything = results_in_order(many_results, wanted)
        last = pages.results(connection, wanted, size=1000).last
        if last is not None and len(everything) > 1:
            assert walk(pages.results, wanted, 4, start=last, backward=True) == _before(
                everything, pages.results, wanted
            )


def _before(everything: list[str], read: Read, wanted: Mapping[str, Any]) -> list[str]:
    """What stands before the last row of the first page, which may be cut by its window."""
    first = read(connection, wanted, size=1000)
    return everything[: len(first.rows) - 1]


def test_a_page_fetches_no_payload(many_messages: list[Message], many_results: list[Result]) -> None:
    heavy = {"body", "headers", "result", "traceback"}
    for read in (pages.messages, pages.results):
        assert not heavy & set(read(connection, {}).rows[0])


def test_the_length_of_a_table_is_estimated_from_the_servers_statistics(many_results: list[Result]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE djtasks_result")
    assert pages.results(connection, {}).estimate == 150


def test_a_place_that_is_not_in_the_list_is_refused(many_messages: list[Message]) -> None:
    place = pages.messages(connection, {"status": "eta"}).last
    with pytest.raises(ValueError, match="'eta' is no region of this list"):
        pages.messages(connection, {"status": "waiting"}, start=place)
