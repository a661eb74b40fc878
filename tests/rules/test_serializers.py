"""Values to bytes and back."""

import contextlib
import datetime
import decimal
import enum
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils.functional import lazystr
from hypothesis import given
from hypothesis import strategies as st

from djtasks import serializers
from djtasks.exceptions import ContentDisallowed, DecodeError, EncodeError, ImproperlyConfigured, SoftTimeLimitExceeded
from djtasks.serializers import dumps, loads, register, register_type
from djtasks.serializers.optional import library

ALL = ("json", "pickle", "yaml", "msgpack")

zones = st.one_of(st.none(), st.timezones(no_cache=True), st.just(datetime.UTC))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(categories=None)),
    st.binary(),
    st.datetimes(timezones=st.one_of(st.none(), st.just(datetime.UTC))),
    st.dates(),
    st.times(),
    st.decimals(allow_nan=False),
    st.uuids(),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["__type__", "__value__"]), inner),
    max_leaves=20,
)
plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.text()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def round_trip(value: Any, serializer: str = "json") -> Any:
    content_type, body = dumps(value, serializer)
    assert isinstance(body, bytes)
    return loads(body, content_type, [serializer])


@given(values)
def test_json_gives_back_what_it_was_given(value: Any) -> None:
    assert round_trip(value) == value


@given(plain)
@pytest.mark.parametrize("serializer", ALL)
def test_every_serializer_gives_back_plain_values(serializer: str, value: Any) -> None:
    assert round_trip(value, serializer) == value


@given(st.dictionaries(st.sampled_from(["__type__", "__value__"]), values, min_size=2))
def test_a_dict_that_looks_like_the_wire_form_comes_back_as_it_was(value: dict[str, Any]) -> None:
    assert round_trip([value, {"deep": (value,)}]) == [value, {"deep": [value]}]


def test_a_type_is_kept_next_to_a_dict_that_looks_like_the_wire_form() -> None:
    value = [{"__type__": "uuid", "__value__": 5}, uuid.UUID(int=5), {"__type__": "dict", "__value__": []}]
    assert round_trip(value) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_decode_error(body: bytes) -> None:
    with contextlib.suppress(DecodeError):
        loads(body, "application/json", ["json"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            datetime.datetime(2030, 1, 2, 3, 4, 5, 6, datetime.UTC),
            '{"__type__":"datetime","__value__":"2030-01-02T03:04:05.000006+00:00"}',
        ),
        (datetime.date(2030, 1, 2), '{"__type__":"date","__value__":"2030-01-02"}'),
        (datetime.time(1, 2, 3), '{"__type__":"time","__value__":"01:02:03"}'),
        (decimal.Decimal("1.50"), '{"__type__":"decimal","__value__":"1.50"}'),
        (uuid.UUID(int=5), '{"__type__":"uuid","__value__":{"hex":"00000000000000000000000000000005"}}'),
        (b"abc", '{"__type__":"bytes","__value__":"abc"}'),
        (b"\xff\x00", '{"__type__":"base64","__value__":"/wA="}'),
    ],
)
def test_the_types_travel_in_the_form_that_kombu_writes_and_reads(value: Any, text: str) -> None:
    assert dumps(value) == ("application/json", text.encode())
    # kombu writes blanks after the signs.
    assert loads(json.dumps(json.loads(text)).encode(), "application/json", ["json"]) == value


@given(st.datetimes(timezones=zones))
def test_a_datetime_keeps_its_reading_and_its_offset(value: datetime.datetime) -> None:
    again = round_trip(value)
    # Not `==`: a moment that the clocks jumped over equals none in another zone.
    assert (again.isoformat(), again.utcoffset()) == (value.isoformat(), value.utcoffset())


def test_a_decimal_keeps_its_digits_and_its_kind() -> None:
    for text in ("1.500", "-0", "1E+5", "NaN", "sNaN", "Infinity"):
        assert str(round_trip(decimal.Decimal(text))) == text


def test_a_tuple_comes_back_as_a_list() -> None:
    assert round_trip((1, (2, 3))) == [1, [2, 3]]


def test_a_lazy_text_comes_back_as_a_text() -> None:
    assert round_trip({"label": lazystr("translated")}) == {"label": "translated"}


def test_an_object_with_a_json_method_travels_as_what_it_returns() -> None:
    class Money:
        def __json__(self) -> Any:
            return {"amount": decimal.Decimal("1.50")}

    assert round_trip([Money()]) == [{"amount": decimal.Decimal("1.50")}]


def test_enums_of_texts_and_numbers_travel_as_their_values() -> None:
    class Color(enum.StrEnum):
        RED = "red"

    class Size(enum.IntEnum):
        BIG = 3

    assert round_trip([Color.RED, Size.BIG]) == ["red", 3]


def test_buffers_come_back_as_bytes() -> None:
    assert round_trip([bytearray(b"a"), memoryview(b"\xff")]) == [b"a", b"\xff"]


def test_infinities_and_nan_round_trip() -> None:
    low, nan, high = round_trip([float("-inf"), float("nan"), float("inf")])
    assert (low, nan != nan, high) == (float("-inf"), True, float("inf"))


def test_nul_and_lone_surrogates_round_trip() -> None:
    assert round_trip(["\0", "\ud800", {"\udfff": "\0"}]) == ["\0", "\ud800", {"\udfff": "\0"}]


def test_json_is_written_without_blanks_and_in_ascii() -> None:
    assert dumps([["é", 1], {"a": None}]) == ("application/json", b'[["\\u00e9",1],{"a":null}]')


def test_json_with_blanks_around_it_is_read() -> None:
    assert loads(b' \n[1, {"a": 2}]\n', "application/json", ["json"]) == [1, {"a": 2}]


@pytest.mark.parametrize("body", [b"", b"[1", b"[1] 2", b"\xff", b"nul"])
def test_broken_json_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError, match="json cannot decode"):
        loads(body, "application/json", ["json"])


def test_a_wire_type_that_nobody_registered_is_a_decode_error_that_names_it() -> None:
    with pytest.raises(DecodeError, match=r"the type 'point' is not registered here; call serializers\.register_type"):
        loads(b'{"__type__":"point","__value__":1}', "application/json", ["json"])


@pytest.mark.parametrize("body", ['{"__type__":"uuid","__value__":5}', '{"__type__":["x"],"__value__":5}'])
def test_a_wire_type_with_a_bad_value_is_a_decode_error(body: str) -> None:
    with pytest.raises(DecodeError):
        loads(body.encode(), "application/json", ["json"])


@pytest.mark.parametrize("value", [object(), {1, 2}, 1j, datetime.timedelta(1), {"a": ValueError()}, {(1, 2): 3}])
def test_what_json_cannot_carry_is_an_encode_error(value: Any) -> None:
    with pytest.raises(EncodeError, match="json cannot encode the value"):
        dumps(value)


def test_an_encode_error_says_what_to_do() -> None:
    with pytest.raises(EncodeError, match="set is no type that JSON can carry; convert it before the call"):
        dumps({1})


def test_a_model_instance_is_refused_with_the_advice_to_pass_its_key() -> None:
    class Row:
        _meta = pk = 1

    with pytest.raises(EncodeError, match="pass its pk, and load it in the task"):
        dumps([Row()])


@pytest.mark.parametrize("serializer", ALL)
def test_a_value_that_is_nested_too_deeply_is_an_encode_error(serializer: str) -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(EncodeError):
        dumps(value, serializer)


def test_a_body_that_is_nested_too_deeply_is_a_decode_error() -> None:
    for body in (b"[" * 200_000, b"[" * 200_000 + b"]" * 200_000):
        with pytest.raises(DecodeError):
            loads(body, "application/json", ["json"])


@pytest.mark.parametrize("body", [b"[", b"- ", b"? ", b"[{a: "])
def test_yaml_that_is_nested_too_deeply_is_a_decode_error_and_not_the_end_of_the_process(body: bytes) -> None:
    code = f"""if True:
        from djtasks.exceptions import DecodeError
        from djtasks.serializers import loads
        try:
            loads({body!r} * 100_000, "application/x-yaml", ["yaml"])
        except DecodeError as error:
            assert str(error) == "yaml cannot decode the bytes: the value is nested too deeply", error
        else:
            raise AssertionError("it was read")
    """
    # In another process, which a reader without a bound would take with it.
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("depth", [200, 500])
def test_yaml_is_read_as_deep_as_it_can_be_written(depth: int) -> None:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    text = dumps(value, "yaml")[1] if depth < 300 else b"[" * depth + b"]" * depth
    read = loads(text, "application/x-yaml", ["yaml"])
    for _ in range(depth - 1):
        [read] = read
    assert read == []


def test_a_long_yaml_of_little_depth_is_read() -> None:
    value = [{"a": [1, {"b": []}]} for _ in range(1000)]
    assert loads(dumps(value, "yaml")[1], "application/x-yaml", ["yaml"]) == value


def test_a_value_that_contains_itself_is_an_encode_error() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(EncodeError, match="Circular reference"):
        dumps(value)


def test_a_number_too_long_to_be_read_is_an_error_and_not_a_stall() -> None:
    with pytest.raises(EncodeError):
        dumps(10**5000)
    with pytest.raises(DecodeError):
        loads(b"1" * 5000, "application/json", ["json"])


def test_a_json_method_that_raises_is_an_encode_error() -> None:
    class Broken:
        def __json__(self) -> Any:
            raise LookupError("no such thing")

    with pytest.raises(EncodeError, match="no such thing"):
        dumps(Broken())


def test_a_time_limit_that_strikes_while_a_value_is_encoded_is_no_encode_error() -> None:
    class Slow:
        def __json__(self) -> Any:
            raise SoftTimeLimitExceeded

    with pytest.raises(SoftTimeLimitExceeded):
        dumps(Slow())


# -- which serializer ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("serializer", ["pickle", "yaml", "msgpack"])
def test_content_that_is_not_accepted_is_refused_without_being_read(serializer: str) -> None:
    content_type, _ = dumps([], serializer)
    with pytest.raises(ContentDisallowed, match=f"add {serializer!r} to ACCEPT_CONTENT"):
        loads(b"not even looked at", content_type, ("json",))


def test_the_refusal_of_pickle_says_what_accepting_it_means() -> None:
    with pytest.raises(ContentDisallowed, match="reading pickle can run any code"):
        loads(b"", "application/x-python-serialize", ["json"])


def test_content_is_accepted_by_the_serializers_name_or_by_content_type() -> None:
    assert loads(b"[]", "application/json", {"json"}) == []
    assert loads(b"[]", "application/json", {"application/json"}) == []


def test_an_unknown_content_type_is_refused_before_it_is_unknown() -> None:
    with pytest.raises(ContentDisallowed):
        loads(b"", "text/x-unknown", ["json"])
    with pytest.raises(DecodeError, match="no serializer here reads 'text/x-unknown'"):
        loads(b"", "text/x-unknown", ["text/x-unknown"])


def test_an_unknown_serializer_is_named_with_the_one_that_was_meant() -> None:
    with pytest.raises(ImproperlyConfigured, match="no serializer is called 'jsn'; did you mean 'json'"):
        dumps([], "jsn")
    with pytest.raises(ImproperlyConfigured, match="there are auth, json, msgpack, pickle, yaml"):
        dumps([], "x")


@pytest.mark.parametrize("serializer", ["yaml", "msgpack", "pickle"])
def test_broken_bytes_are_a_decode_error(serializer: str) -> None:
    content_type, body = dumps([1, "two", {"three": 3}], serializer)
    with pytest.raises(DecodeError, match=f"{serializer} cannot decode the bytes"):
        loads(b"\xc1" + body[1:-1], content_type, [serializer])


@pytest.mark.parametrize("serializer", ["yaml", "msgpack"])
def test_what_yaml_and_msgpack_cannot_carry_is_an_encode_error(serializer: str) -> None:
    with pytest.raises(EncodeError, match=f"{serializer} cannot encode the value"):
        dumps(object(), serializer)


def test_yaml_makes_no_objects() -> None:
    with pytest.raises(DecodeError):
        loads(b"!!python/object/apply:os.getpid []", "application/x-yaml", ["yaml"])


def test_msgpack_keeps_bytes_and_texts_apart() -> None:
    assert round_trip([b"a", "a", {1: "int key"}], "msgpack") == [b"a", "a", {1: "int key"}]


def test_pickle_carries_what_pickle_carries() -> None:
    assert round_trip({1, (2, 3)}, "pickle") == {1, (2, 3)}


@pytest.mark.parametrize(("serializer", "module"), [("yaml", "yaml"), ("msgpack", "msgpack")])
def test_a_missing_library_is_named_with_what_installs_it(
    serializer: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImproperlyConfigured, match=rf"pip install 'djtasks\[{serializer}\]'"):
        dumps([], serializer)
    content_type = serializers.find(serializer).content_type
    with pytest.raises(ImproperlyConfigured, match=rf"pip install 'djtasks\[{serializer}\]'"):
        loads(b"", content_type, [serializer])


# -- one's own ----------------------------------------------------------------------------------------------------


@pytest.fixture
def rot13() -> Iterator[str]:
    register("rot13", lambda value: json.dumps(value)[::-1], lambda body: json.loads(body[::-1]), "text/x-rot13")
    yield "rot13"
    serializers.unregister("rot13")


def test_a_registered_serializer_is_used_like_the_others(rot13: str) -> None:
    assert dumps([1, 2], rot13) == ("text/x-rot13", b"]2 ,1[")
    assert loads(b"]2 ,1[", "text/x-rot13", [rot13]) == [1, 2]
    assert rot13 in serializers.names()


def test_a_serializer_that_is_taken_out_is_unknown(rot13: str) -> None:
    serializers.unregister(rot13)
    with pytest.raises(ImproperlyConfigured):
        dumps([], rot13)


def test_a_serializer_registered_again_under_another_content_type_leaves_the_first(rot13: str) -> None:
    register("rot13", str, str, "text/x-other")
    with pytest.raises(DecodeError, match="no serializer here reads"):
        loads(b"", "text/x-rot13", ["text/x-rot13"])


class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y


class Corner(Point):
    pass


def test_a_registered_type_round_trips_and_so_do_its_subclasses() -> None:
    register_type(Point, "test.point", lambda point: [point.x, point.y], lambda pair: Point(*pair))
    [point, corner] = round_trip([Point(1, 2), Corner(3, 4)])
    assert (type(point), point.x, point.y) == (Point, 1, 2)
    assert (type(corner), corner.x, corner.y) == (Point, 3, 4)
