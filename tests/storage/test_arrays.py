"""Arrays in the binary format: the server reads what psycopg's own lists would have said."""

import math
import struct
import uuid
from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from djtasks.db.arrays import Array, Bigints, Blobs, Booleans, Floats, Integers, Smallints, Texts, Uuids
from tests.storage.rows import Table

#: What PostgreSQL stores in a text: no NUL, no half of a surrogate pair.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
KINDS: list[tuple[type[Array], LiteralString, st.SearchStrategy[Any]]] = [
    (Uuids, "uuid[]", st.uuids().map(str)),
    (Texts, "text[]", texts),
    (Blobs, "bytea[]", st.binary()),
    (Bigints, "bigint[]", st.integers(-(2**63), 2**63 - 1)),
    (Integers, "integer[]", st.integers(-(2**31), 2**31 - 1)),
    (Smallints, "smallint[]", st.integers(-(2**15), 2**15 - 1)),
    (Floats, "float8[]", st.floats(allow_nan=False)),
    (Booleans, "boolean[]", st.booleans()),
]


def echo(conn: psycopg.Connection, array: Array, kind: LiteralString) -> Sequence[Any]:
    """What the server makes of it."""
    query = ("SELECT %(array)s::" + kind).encode()
    found = conn.execute(query, {"array": array}).fetchone()
    assert found is not None
    values: Sequence[Any] = found[0]
    return [str(value) if isinstance(value, uuid.UUID) else value for value in values]


@pytest.mark.parametrize(("array", "kind", "elements"), KINDS, ids=[kind for _, kind, _ in KINDS])
def test_the_server_reads_every_element_and_every_null(
    onlooker: Table, array: type[Array], kind: LiteralString, elements: st.SearchStrategy[Any]
) -> None:
    @settings(deadline=None, max_examples=40)
    @given(st.one_of(st.lists(st.none() | elements), st.builds(lambda one, n: [one] * n, elements, st.integers(0, 9))))
    def check(values: list[Any]) -> None:
        assert echo(onlooker.conn, array(values), kind) == values
        assert echo(onlooker.conn, array(tuple(values)), kind) == values

    check()


def test_equal_values_of_different_kinds_are_not_mixed_up(onlooker: Table) -> None:
    assert echo(onlooker.conn, Floats([0.0, -0.0, 1, True]), "float8[]") == [0.0, 0.0, 1.0, 1.0]
    assert echo(onlooker.conn, Bigints([1, True, 0, False]), "bigint[]") == [1, 1, 0, 0]
    assert echo(onlooker.conn, Booleans([1, True, 0]), "boolean[]") == [True, True, False]


def test_a_number_that_is_none_comes_back_as_none(onlooker: Table) -> None:
    [value] = echo(onlooker.conn, Floats([math.nan]), "float8[]")
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("array", "value", "error"),
    [
        (Texts, "a\0b", psycopg.DataError),
        (Texts, "a\udc80", UnicodeEncodeError),
        (Smallints, 40_000, struct.error),
        (Integers, 2**31, struct.error),
        (Bigints, 2**63, struct.error),
        (Uuids, "no uuid", ValueError),
        (Blobs, "text", TypeError),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_sent(array: type[Array], value: Any, error: type[Exception]) -> None:
    for values in ([value], [value, value], [None, value]):
        with pytest.raises(error):
            array(values)


def test_ten_thousand_elements_are_one_array(onlooker: Table) -> None:
    values = [f"{number}ä" for number in range(10_000)]
    assert echo(onlooker.conn, Texts(values), "text[]") == values
