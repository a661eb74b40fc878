"""Lanes: a scan covers every priority once, a mark is good for a second, and no lane starves."""

from types import SimpleNamespace

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from djtasks.db import claims
from djtasks.db.claims import Scan
from djtasks.messages import Claimed
from djtasks.worker import lanes
from djtasks.worker.lanes import HIGHEST, LOWEST, MARK_SECONDS, Lanes
from tests.storage.rows import hire, put, whole

priorities = st.one_of(st.integers(LOWEST, HIGHEST), st.sampled_from([LOWEST, LOWEST + 1, -1, 0, 1, HIGHEST]))


def held(lane: str, priority: int) -> Claimed:
    """A message that came out of this lane."""
    return Claimed(1, "id", "name", lane, priority, 0, 0, False, b"", "", "", None, None, None, 0.0, False)


def mark(where: Lanes, *rows: tuple[str, int, int]) -> None:
    """Say that these (lane, priority, position) were claimed."""
    where.mark([held(lane, priority) for lane, priority, _ in rows], [position for _, _, position in rows])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that moves when it is told to."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(lanes, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), priorities, st.integers(0, 2**62)), max_size=40))
def test_a_scan_covers_every_priority_of_every_lane_exactly_once_from_high_to_low(
    rows: list[tuple[str, int, int]],
) -> None:
    where = Lanes(["a", "b"])
    mark(where, *rows)
    marks = {(lane, priority): position for lane, priority, position in rows}
    found = where.scans()
    for lane in "ab":
        high = HIGHEST
        for scan in (scan for scan in found if scan.lane == lane):
            assert scan.high == high
            assert scan.low <= scan.high
            if scan.after == -1:
                assert not any(name == lane and scan.low <= priority <= scan.high for name, priority in marks)
            else:
                assert scan.low == scan.high
                assert scan.after == marks[lane, scan.low]
            high = scan.low - 1
        assert high == LOWEST - 1


def test_a_lane_without_marks_is_one_scan() -> None:
    assert Lanes(["a"]).scans() == [Scan("a", LOWEST, HIGHEST, -1)]


def test_a_scan_from_the_start_forgets_all_marks() -> None:
    where = Lanes(["a"])
    mark(where, ("a", 0, 5))
    assert where.scans(from_start=True) == [Scan("a", LOWEST, HIGHEST, -1)] == where.scans()


def test_the_lanes_take_turns_at_being_first() -> None:
    where = Lanes(["a", "b", "c"])
    turns = ["".join(scan.lane for scan in where.scans())]
    for served in ("a", "cb", "a", "aa"):
        mark(where, *((lane, 0, 1) for lane in served))
        turns.append("".join(dict.fromkeys(scan.lane for scan in where.scans())))
    # Behind all others goes who was served; who was not keeps the place.
    assert turns == ["abc", "bca", "acb", "cba", "cba"]
    assert where.names == ["a", "b", "c"]


def test_a_flooded_lane_comes_behind_all_others_after_each_turn_of_its_own() -> None:
    where = Lanes(["flooded", *(f"tenant {number}" for number in range(200))])
    for number in range(100):
        first = where.scans()[0].lane
        mark(where, (first, 0, number))
        assert first not in {scan.lane for scan in where.scans()[:200]}


def test_of_many_lanes_only_those_are_scanned_in_which_a_look_found_something(clock: SimpleNamespace) -> None:
    where = Lanes(f"tenant {number}" for number in range(lanes.MANY + 1))
    assert where.due()
    assert len(where.scans()) == lanes.MANY + 1
    where.looked(["tenant 3", "tenant 5", "tenant 9", "of another worker"])
    assert not where.due()
    assert [scan.lane for scan in where.scans()] == ["tenant 3", "tenant 5", "tenant 9"]
    assert [scan.lane for scan in where.scans(most=2)] == ["tenant 3", "tenant 5"]
    where.pause({"tenant 3"})
    assert [scan.lane for scan in where.scans()] == ["tenant 5", "tenant 9"]
    clock.now += lanes.LOOK_EVERY
    assert where.due()
    # A look that took long is not repeated soon.
    where.looked([], 1.0)
    clock.now += lanes.LOOK_SHARE - 0.1
    assert not where.due()
    assert where.scans() == []
    where.add("tenant 3000")
    assert where.due()


def test_few_lanes_are_scanned_without_a_look() -> None:
    assert not Lanes(f"tenant {number}" for number in range(lanes.MANY)).due()


def test_the_mark_of_a_priority_is_its_last_position(clock: SimpleNamespace) -> None:
    where = Lanes(["a"])
    mark(where, ("a", 0, 5), ("a", 0, 7), ("a", 3, 2))
    assert where.scans() == [
        Scan("a", 4, HIGHEST, -1),
        Scan("a", 3, 3, 2),
        Scan("a", 1, 2, -1),
        Scan("a", 0, 0, 7),
        Scan("a", LOWEST, -1, -1),
    ]


def test_a_mark_ends_a_second_after_it_was_first_set_however_often_it_moves(clock: SimpleNamespace) -> None:
    where = Lanes(["a"])
    for position in range(1, 12):
        mark(where, ("a", 0, position))
        scan = next(scan for scan in where.scans() if scan.low <= 0 <= scan.high)
        assert scan.after == (position if position < 12 else -1)
        clock.now += MARK_SECONDS / 11
    clock.now += 0.001
    assert where.scans() == [Scan("a", LOWEST, HIGHEST, -1)]


steps = st.lists(
    st.tuples(st.floats(0, 1.5), st.booleans(), st.lists(st.tuples(st.sampled_from([-5, 0, 5]), st.integers(0, 99)))),
    max_size=30,
)


@settings(deadline=None)
@given(steps)
def test_no_position_is_skipped_for_longer_than_a_second(
    steps: list[tuple[float, bool, list[tuple[int, int]]]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        now = 50.0
        patch.setattr(lanes, "time", SimpleNamespace(monotonic=lambda: now))
        where = Lanes(["a"])
        #: When each priority was last scanned from its start, or first marked after that.
        clear: dict[int, float] = {}
        for pause, from_start, rows in steps:
            now += pause
            for scan in where.scans(from_start=from_start):
                for priority in (-5, 0, 5):
                    if scan.low <= priority <= scan.high and scan.after == -1:
                        clear[priority] = now
                    elif scan.low <= priority <= scan.high:
                        assert now - clear[priority] <= MARK_SECONDS
            mark(where, *(("a", priority, position) for priority, position in rows))


def test_a_claim_that_starts_at_a_mark_finds_what_came_after_it_and_one_from_the_start_the_rest(
    conn: psycopg.Connection,
) -> None:
    ids = put(conn, 6) + put(conn, 2, priority=-3)
    urgent = put(conn, 2, priority=7)
    owner, where = hire(conn), Lanes(["celery"])
    first, positions = claims.claim(conn, owner, 1, where.scans(), 4)
    where.mark(first, positions)
    assert [each.id for each in first] == urgent + ids[:2]
    # A message that runs before all others is found although its lane has marks.
    [top] = put(conn, priority=8)
    second, positions = claims.claim(conn, owner, 5, where.scans(), 3)
    where.mark(second, positions)
    assert [each.id for each in second] == [top, *ids[2:4]]
    conn.execute("UPDATE djtasks_message SET owner = NULL, claim = NULL WHERE id = %s", [ids[0]])
    third, _ = claims.claim(conn, owner, 8, where.scans(), 9)
    assert [each.id for each in third] == ids[4:]
    fourth, _ = claims.claim(conn, owner, 17, where.scans(from_start=True), 9)
    assert [each.id for each in fourth] == [ids[0]]


def test_marks_and_gaps_together_claim_what_one_whole_scan_does(conn: psycopg.Connection) -> None:
    for rank in (3, -9, 3, 0, 32767, -32768, 0, 3):
        put(conn, 5, priority=rank)
    owner, where = hire(conn), Lanes(["celery"])
    order = [row[0] for row in conn.execute("SELECT id::text FROM djtasks_message ORDER BY priority DESC, position")]
    taken = []
    for number in range(20):
        found, positions = claims.claim(conn, owner, 1 + number * 3, where.scans(), 3)
        where.mark(found, positions)
        taken += [each.id for each in found]
    assert taken == order
    assert claims.claim(conn, owner, 100, whole(), 3) == ([], [])
