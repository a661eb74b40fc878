"""Stamps: what is meant by them, and what a message's headers say of them."""

import json

import pytest

from djtasks.stamps import stamps_of, wanted


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"a": "x"}, [("a", '"x"')]),
        ({"a": ["x", 1], "b": None}, [("a", '"x"'), ("a", "1"), ("b", "null")]),
        ({"a": ("x", "x")}, [("a", '"x"')]),
        ({"a": {"k": 1, "j": 2}}, [("a", '{"j": 2, "k": 1}')]),
        (["a=x", "b=1=2", "c="], [("a", '"x"'), ("b", '"1=2"'), ("c", '""')]),
    ],
)
def test_stamps_are_meant_by_a_dict_or_by_a_list_of_texts(given: object, meant: list[tuple[str, str]]) -> None:
    assert wanted(given) == meant


@pytest.mark.parametrize(
    "given", [None, 5, "a=b", {}, [], {"a": []}, ["a"], ["=a"], [1], {"": "x"}, {"a": {1, object()}}]
)
def test_what_means_no_stamp_is_refused(given: object) -> None:
    with pytest.raises((TypeError, ValueError), match="stamp"):
        wanted(given)


@pytest.mark.parametrize(
    "headers",
    [
        None,
        "",
        "no JSON",
        '"stamped_headers"',
        '["stamped_headers"]',
        '{"stamped_headers": null, "stamps": null}',
        '{"stamped_headers": ["a"]}',
        '{"stamped_headers": ["a"], "stamps": ["a"]}',
        '{"stamped_headers": [1, null], "stamps": {"a": 1}}',
        '{"stamps": {"a": 1}}',
    ],
)
def test_headers_that_say_no_stamps_have_none(headers: str | None) -> None:
    assert stamps_of(headers) == set()


def test_a_stamp_has_one_value_or_several() -> None:
    headers = {"stamped_headers": ["a", "b", "gone"], "stamps": {"a": ["x", 2], "b": "y", "not named": 1}}
    assert stamps_of(json.dumps(headers)) == {("a", '"x"'), ("a", "2"), ("b", '"y"')}
