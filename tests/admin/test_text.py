"""Values as text: bounded, and nothing in it invisible."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from djtasks.admin.text import TEXT_MAX, duration, label, moment, pretty, visible

settings.register_profile("text", deadline=None)
settings.load_profile("text")

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner), max_leaves=50
)


@given(VALUES)
def test_any_value_is_a_text_that_can_be_sent_and_seen(value: Any) -> None:
    text = pretty(value)
    assert text.replace("\n", "").isprintable()
    text.encode()


@given(st.lists(st.integers()) | st.dictionaries(st.text(st.characters(codec="ascii")), st.booleans()))
def test_a_small_value_is_written_as_python_writes_it(value: Any) -> None:
    text = pretty(value)
    if "\n" not in text and "…" not in text:
        assert text == repr(value)


def test_a_long_value_is_written_over_several_lines() -> None:
    value = {"to": ["a@example.org", "b@example.org"], "subject": "x" * 40, "body": "y" * 40}
    assert pretty(value) == "\n".join(
        [
            "{",
            "    'to': ['a@example.org', 'b@example.org'],",
            f"    'subject': '{'x' * 40}',",
            f"    'body': '{'y' * 40}',",
            "}",
        ]
    )


@pytest.mark.parametrize("value", [(), (1,), {1}, set(), frozenset(), frozenset({1}), b"\x00", "it's", {(1, 2): "x"}])
def test_containers_and_odd_scalars_are_written_as_python_writes_them(value: Any) -> None:
    assert pretty(value) == repr(value)


def nested(depth: int) -> Any:
    value: Any = "the bottom, which is long enough not to stand on one line with all that stands around it above"
    for _ in range(depth):
        value = [value]
    return value


def test_what_is_nested_deeply_is_cut() -> None:
    text = pretty(nested(10_000))
    assert "the bottom" not in text
    assert "… (1 inside)" in text


def test_what_contains_itself_is_cut() -> None:
    value: list[Any] = []
    value.append(value)
    assert len(pretty(value)) < TEXT_MAX


def test_what_repeats_itself_a_billion_times_is_cut() -> None:
    value: Any = "ha" * 100
    for _ in range(9):
        value = [value] * 10
    assert len(pretty(value)) < TEXT_MAX + 100


def test_a_value_whose_repr_raises_is_named() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "its repr raised RuntimeError" in pretty([Odd()])


def test_a_subclass_of_text_does_not_write_itself_into_the_page_unseen() -> None:
    class Sly(str):
        def __repr__(self) -> str:
            return "\u202e\ud800"

    assert pretty(Sly()) == r"\u202e\ud800"


def test_invisible_characters_are_escaped_and_line_breaks_kept() -> None:
    assert visible("a\tb\nc\r\0\u202e\u200b\ud800é\x1b[31m") == "a\tb\nc\\r\\x00\\u202e\\u200b\\ud800é\\x1b[31m"


def test_a_label_is_one_short_line() -> None:
    assert label(None) == label("") == "-"
    assert label("a\nb") == r"a\nb"
    assert len(label("x" * 10_000)) == 201


def test_times_are_shown_in_the_current_zone_to_the_second() -> None:
    noon = datetime(2025, 7, 1, 12, 0, 0, 999, tzinfo=UTC)
    with timezone.override("America/New_York"):
        assert moment(noon) == "2025-07-01 08:00:00"
    with timezone.override("Asia/Tokyo"):
        assert moment(datetime.max.replace(tzinfo=UTC)) == "9999-12-31 23:59:59"
    assert moment(datetime(2025, 7, 1, 12)) == "2025-07-01 12:00:00"  # noqa: DTZ001
    assert moment(None) == "-"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123, "12 ms"), (3.4215, "3.42 s"), (3723, "1:02:03"), (90_061, "1 day, 1:01:01")]
)
def test_a_duration_is_the_more_exact_the_shorter_it_is(seconds: float, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text
    assert duration(None) == "-"
