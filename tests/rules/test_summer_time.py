"""Where the clocks are put forward or back: each rule on each kind of change, and a walk through the minutes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from djtasks.schedules import crontab, schedule

MINUTE = timedelta(minutes=1)


def due(line: str, zone: str, start: str, count: int) -> list[str]:
    """The due times after `start`, a time with an offset, as the clocks of the zone show them."""
    rule, at = crontab.from_string(line, zone), datetime.fromisoformat(start)
    found = []
    for _ in range(count):
        following = rule.next_after(at)
        assert following is not None
        at = following
        found.append(f"{at.astimezone(ZoneInfo(zone)):%m-%d %H:%M%z}")
    return found


# -- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "zone", "start", "expected"),
    [
        # Paris: 2026-03-29 02:00 becomes 03:00.
        (
            "30 2 * * *",
            "Europe/Paris",
            "2026-03-27T12:00+01:00",
            ["03-28 02:30+0100", "03-29 03:00+0200", "03-30 02:30+0200"],
        ),
        ("0,30 2 * * *", "Europe/Paris", "2026-03-28T12:00+01:00", ["03-29 03:00+0200", "03-30 02:00+0200"]),
        ("0 2,3 * * *", "Europe/Paris", "2026-03-28T12:00+01:00", ["03-29 03:00+0200", "03-30 02:00+0200"]),
        ("0 4 * * *", "Europe/Paris", "2026-03-28T12:00+01:00", ["03-29 04:00+0200", "03-30 04:00+0200"]),
        (
            "*/30 * * * *",
            "Europe/Paris",
            "2026-03-29T01:00+01:00",
            ["03-29 01:30+0100", "03-29 03:00+0200", "03-29 03:30+0200"],
        ),
        (
            "0 * * * *",
            "Europe/Paris",
            "2026-03-29T00:30+01:00",
            ["03-29 01:00+0100", "03-29 03:00+0200", "03-29 04:00+0200"],
        ),
        # New York: 2026-03-08 02:00 becomes 03:00.
        ("15 2 * * *", "America/New_York", "2026-03-07T12:00-05:00", ["03-08 03:00-0400", "03-09 02:15-0400"]),
        (
            "4 16 * * *",
            "America/New_York",
            "2026-03-07T12:00-05:00",
            ["03-07 16:04-0500", "03-08 16:04-0400", "03-09 16:04-0400"],
        ),
        # Lord Howe: 2026-10-04 02:00 becomes 02:30.
        ("10 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00+10:30", ["10-04 02:30+1100", "10-05 02:10+1100"]),
        ("45 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00+10:30", ["10-04 02:45+1100", "10-05 02:45+1100"]),
        # São Paulo: 2018-11-04 00:00 becomes 01:00.
        (
            "0 0 * * *",
            "America/Sao_Paulo",
            "2018-11-02T12:00-03:00",
            ["11-03 00:00-0300", "11-04 01:00-0200", "11-05 00:00-0200"],
        ),
        # Apia: the 30th of December 2011 is left out.
        (
            "0 9 * * *",
            "Pacific/Apia",
            "2011-12-29T00:00-10:00",
            ["12-29 09:00-1000", "12-31 00:00+1400", "12-31 09:00+1400"],
        ),
    ],
)
def test_a_time_that_is_skipped_is_the_first_instant_after(
    line: str, zone: str, start: str, expected: list[str]
) -> None:
    assert due(line, zone, start, len(expected)) == expected


@pytest.mark.parametrize(
    ("line", "zone", "start", "expected"),
    [
        # Paris: 2026-10-25 03:00 becomes 02:00.
        ("30 2 * * *", "Europe/Paris", "2026-10-24T12:00+02:00", ["10-25 02:30+0200", "10-26 02:30+0100"]),
        ("0 */2 * * *", "Europe/Paris", "2026-10-25T00:30+02:00", ["10-25 02:00+0200", "10-25 04:00+0100"]),
        ("*/30 1-3 * * *", "Europe/Paris", "2026-10-25T02:00+02:00", ["10-25 02:30+0200", "10-25 03:00+0100"]),
        ("4 16 * * *", "America/New_York", "2026-10-31T12:00-04:00", ["10-31 16:04-0400", "11-01 16:04-0500"]),
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00-04:00", ["11-01 01:30-0400", "11-02 01:30-0500"]),
        # Lord Howe: 2026-04-05 02:00 becomes 01:30.
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00+11:00", ["04-05 01:45+1100", "04-06 01:45+1030"]),
        # São Paulo: 2018-02-18 00:00 becomes 23:00 of the day before.
        ("30 23 * * *", "America/Sao_Paulo", "2018-02-17T12:00-02:00", ["02-17 23:30-0200", "02-18 23:30-0300"]),
    ],
)
def test_a_time_that_comes_twice_is_one_time_for_a_daily_rule(
    line: str, zone: str, start: str, expected: list[str]
) -> None:
    assert due(line, zone, start, len(expected)) == expected


@pytest.mark.parametrize(
    ("line", "zone", "start", "expected"),
    [
        (
            "*/30 * * * *",
            "Europe/Paris",
            "2026-10-25T01:45+02:00",
            ["10-25 02:00+0200", "10-25 02:30+0200", "10-25 02:00+0100", "10-25 02:30+0100", "10-25 03:00+0100"],
        ),
        ("0 * * * *", "Europe/Paris", "2026-10-25T02:00+02:00", ["10-25 02:00+0100", "10-25 03:00+0100"]),
        ("45 * * * *", "Australia/Lord_Howe", "2026-04-05T01:45+11:00", ["04-05 01:45+1030", "04-05 02:45+1030"]),
        ("0 * * * *", "Australia/Lord_Howe", "2026-04-05T01:45+11:00", ["04-05 02:00+1030", "04-05 03:00+1030"]),
        ("30 * * * *", "America/New_York", "2026-11-01T01:30-04:00", ["11-01 01:30-0500", "11-01 02:30-0500"]),
        ("30 * * * *", "America/Sao_Paulo", "2018-02-17T23:30-02:00", ["02-17 23:30-0300", "02-18 00:30-0300"]),
    ],
)
def test_a_time_that_comes_twice_is_two_times_for_a_rule_of_every_hour(
    line: str, zone: str, start: str, expected: list[str]
) -> None:
    assert due(line, zone, start, len(expected)) == expected


@pytest.mark.parametrize(
    ("line", "zone", "start", "expected"),
    [
        ("30 2 * * *", "UTC", "2026-03-28T12:00+00:00", ["03-29 02:30+0000", "03-30 02:30+0000"]),
        ("45 5 * * *", "Asia/Kathmandu", "2026-01-01T00:00+00:00", ["01-02 05:45+0545", "01-03 05:45+0545"]),
        ("0 0 1 1 *", "Asia/Kathmandu", "2026-12-31T18:00+00:00", ["01-01 00:00+0545", "01-01 00:00+0545"]),
        ("59 23 31 12 *", "Europe/Paris", "2026-12-31T22:58+00:00", ["12-31 23:59+0100", "12-31 23:59+0100"]),
        ("0 0 29 2 *", "America/New_York", "2026-01-01T00:00+00:00", ["02-29 00:00-0500", "02-29 00:00-0500"]),
        ("0 0 31 * *", "UTC", "2026-01-31T00:00+00:00", ["03-31 00:00+0000", "05-31 00:00+0000"]),
    ],
)
def test_zones_of_odd_hours_leap_days_and_the_ends_of_years(
    line: str, zone: str, start: str, expected: list[str]
) -> None:
    assert due(line, zone, start, len(expected)) == expected


def test_an_interval_is_true_time_whatever_the_clocks_do() -> None:
    start = datetime(2026, 10, 24, 12, tzinfo=ZoneInfo("Europe/Paris"))
    assert schedule(timedelta(days=1)).next_after(start) == datetime(2026, 10, 25, 10, tzinfo=UTC)


# -- against a walk through the minutes -------------------------------------------------------------------------------

#: A day in whose neighbourhood the clocks of the zone are changed.
CHANGES = [
    ("Europe/Paris", "2026-03-29"),
    ("Europe/Paris", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("America/Sao_Paulo", "2018-02-18"),
    ("Antarctica/Troll", "2026-03-29"),
    ("Antarctica/Troll", "2026-10-25"),
    ("Pacific/Apia", "2011-12-30"),
    ("Europe/Dublin", "2026-10-25"),
    ("Asia/Kathmandu", "2026-12-31"),
    ("UTC", "2028-02-29"),
]


def walk(rule: crontab, zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[datetime]:
    """The due times after `start` and up to `end`, minute by minute, by what the wall shows."""

    def holds(wall: datetime) -> bool:
        return (
            wall.minute in rule.minute
            and wall.hour in rule.hour
            and wall.day in rule.day_of_month
            and wall.month in rule.month_of_year
            and wall.isoweekday() % 7 in rule.day_of_week
        )

    at = start + MINUTE
    while at <= end:
        local = at.astimezone(zone)
        wall = local.replace(tzinfo=None)
        skipped = wall - (at - MINUTE).astimezone(zone).replace(tzinfo=None) - MINUTE
        missed = any(holds(wall - step * MINUTE) for step in range(1, skipped // MINUTE + 1))
        again = local.fold == 1 and len(rule.hour) < 24
        if missed or (holds(wall) and not again):
            yield at
        at += MINUTE


def numbers(least: int, most: int) -> st.SearchStrategy[str]:
    some = st.lists(st.integers(least, most), min_size=1, max_size=4, unique=True)
    return st.one_of(st.just("*"), st.integers(1, 20).map("*/{}".format), some.map(lambda of: ",".join(map(str, of))))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    change=st.sampled_from(CHANGES),
    minute=numbers(0, 59),
    hour=st.one_of(st.just("*"), st.sampled_from(["0", "1", "2", "1-3", "0-2,23", "*/2", "23"]), numbers(0, 23)),
    weekday=st.one_of(st.just("*"), numbers(0, 7)),
    day=st.one_of(st.just("*"), st.just("25-31,1-8")),
    offset=st.integers(0, 1500),
    span=st.integers(1, 2000),
    odd=st.sampled_from([timedelta(0), timedelta(microseconds=1), timedelta(seconds=30)]),
)
def test_a_crontab_is_due_when_a_walk_through_the_minutes_says_so(
    change: tuple[str, str], minute: str, hour: str, weekday: str, day: str, offset: int, span: int, odd: timedelta
) -> None:
    zone = ZoneInfo(change[0])
    rule = crontab(minute, hour, weekday, day, tz=zone)
    whole = datetime.fromisoformat(change[1]).replace(tzinfo=UTC) - timedelta(hours=16) + offset * MINUTE
    end = whole + span * MINUTE
    expected = list(walk(rule, zone, whole, end))

    found, at = [], whole + odd
    while (following := rule.next_after(at)) is not None and following <= end:
        found.append(at := following)
        if len(found) > 40:
            expected = expected[:41]
            break
    assert found == expected[: len(found)]
    assert len(found) == len(expected)
    if len(found) <= 40:
        assert rule.latest(whole, end) == (expected[-1] if expected else None)
        assert rule.latest(whole, end + odd) == (expected[-1] if expected else None)
        assert rule.count(whole, end) == len(expected)
