"""`solar`: the nine events, places near the poles, and what is said without astral."""

import pickle
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import djtasks
from djtasks.exceptions import ImproperlyConfigured
from djtasks.schedules import schedstate, solar
from djtasks.schedules.sun import EVENTS

PARIS, TROMSO = (48.86, 2.35), (69.65, 18.96)
MIDNIGHT = datetime(2026, 6, 21, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("event", "place", "start", "expected"),
    [
        # As almanacs have them, to the minute.
        ("sunrise", PARIS, "2026-03-20", "2026-03-20T05:55"),
        ("sunset", PARIS, "2026-03-20", "2026-03-20T18:04"),
        ("solar_noon", PARIS, "2026-03-20", "2026-03-20T11:58"),
        ("sunrise", (40.71, -74.01), "2026-12-21", "2026-12-21T12:17"),
        ("sunset", (-33.87, 151.21), "2026-12-21", "2026-12-21T09:06"),
    ],
)
def test_the_sun_is_where_almanacs_say(event: str, place: tuple[float, float], start: str, expected: str) -> None:
    at = solar(event, *place).next_after(datetime.fromisoformat(f"{start}T00:00+00:00"))
    assert at is not None
    assert abs(at - datetime.fromisoformat(f"{expected}+00:00")) <= 2 * MINUTE


def test_the_nine_events_of_a_day_come_in_their_order() -> None:
    start = datetime(2026, 3, 20, tzinfo=UTC)
    times = [solar(event, *PARIS).next_after(start) for event in EVENTS]
    assert len(times) == 9
    assert times == sorted(times, key=str)
    assert all(at is not None and at < start + DAY for at in times)


@pytest.mark.parametrize("longitude", [-179.9, -90.0, 0.0, 100.0, 179.9])
@pytest.mark.parametrize("event", ["sunrise", "solar_noon", "sunset"])
def test_every_day_has_its_event_all_around_the_world(event: str, longitude: float) -> None:
    rule, at = solar(event, 30.0, longitude), MIDNIGHT
    for _ in range(10):
        following = rule.next_after(at)
        assert following is not None
        assert following > at
        assert at == MIDNIGHT or abs(following - at - DAY) < 5 * MINUTE
        at = following
    assert rule.latest(MIDNIGHT, at) == at
    assert rule.latest(at, at) is None
    assert rule.count(MIDNIGHT, at) == 10


def test_days_without_the_event_are_left_out() -> None:
    # The sun does not set there from May to July.
    at = solar("sunset", *TROMSO).next_after(MIDNIGHT)
    assert at is not None
    assert datetime(2026, 7, 20, tzinfo=UTC) < at < datetime(2026, 8, 1, tzinfo=UTC)
    assert solar("sunset", *TROMSO).latest(MIDNIGHT, MIDNIGHT + 5 * DAY) is None


def test_it_is_asked_as_celerys_is() -> None:
    noon = solar("solar_noon", *PARIS).next_after(MIDNIGHT)
    assert noon is not None
    rule = solar("solar_noon", *PARIS, nowfun=lambda: noon - MINUTE)
    assert rule.is_due(MIDNIGHT) == schedstate(False, 60.0)
    assert rule.remaining_estimate(MIDNIGHT) == MINUTE


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (("teatime", 0, 0), ValueError, "event: there is no 'teatime'; there are dawn_astronomical"),
        (("sunset", 91, 0), ValueError, "latitude: it goes from -90 to 90"),
        (("sunset", 0, -181), ValueError, "longitude: it goes from -180 to 180"),
        (("sunset", float("nan"), 0), ValueError, "latitude"),
        (("sunset", "48", 2), TypeError, "latitude: it is a number"),
        (("sunset", 48, None), TypeError, "longitude: it is a number"),
    ],
)
def test_what_is_no_event_and_no_place_is_refused(given: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        solar(*given)


def test_equal_ones_are_equal_and_can_be_pickled() -> None:
    rule = solar("sunset", *PARIS)
    assert rule == solar("sunset", *PARIS) == pickle.loads(pickle.dumps(rule))
    assert rule != solar("sunrise", *PARIS)
    assert repr(rule) == "<solar: sunset at latitude 48.86, longitude: 2.35>"
    assert len({rule, solar("sunset", *PARIS)}) == 1
    assert djtasks.solar is solar


def test_without_astral_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "astral", None)
    monkeypatch.setitem(sys.modules, "astral.sun", None)
    with pytest.raises(ImproperlyConfigured, match=r"pip install 'djtasks\[solar\]'"):
        solar("sunset", *PARIS)
