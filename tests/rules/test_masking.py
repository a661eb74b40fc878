"""Sensitive arguments."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djtasks import masking
from djtasks.masking import MASK, header_of, hider, mask, shown


def pay(user: str, card: str, *more: str, pin: str = "", **rest: str) -> None: ...


def strict(user: str, card: str) -> None: ...


@pytest.mark.parametrize(
    ("sensitive", "header"),
    [
        ((), None),
        (None, None),
        (False, None),
        (True, True),
        ("card", [[1], ["card"], None]),
        (["card", "pin"], [[1], ["card", "pin"], None]),
        ({"pin"}, [[], ["pin"], None]),
        (("more",), [[], [], 2]),
        (("rest",), True),
        (("unheard_of",), [[], ["unheard_of"], None]),
    ],
)
def test_what_is_sensitive_is_said_by_position_and_by_name(sensitive: Any, header: Any) -> None:
    assert header_of(pay, sensitive, "shop.pay") == header


def test_a_name_that_is_no_parameter_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"shop.pay: the task has no parameter 'crad'; it has user, card"):
        header_of(strict, ("crad",), "shop.pay")


@pytest.mark.parametrize("sensitive", [3, {"card": True}, [1, 2], object()])
def test_what_names_no_parameters_is_refused(sensitive: Any) -> None:
    with pytest.raises(TypeError, match=r"sensitive of shop.pay must be True or names of parameters"):
        header_of(strict, sensitive, "shop.pay")


def test_sensitive_arguments_are_shown_as_stars_however_they_were_passed() -> None:
    header = header_of(pay, ("card", "pin", "more"), "shop.pay")
    assert shown(header, ("ann", "4111", "x"), {"pin": "0000"}) == (f"('ann', {MASK}, {MASK})", f"{{'pin': {MASK}}}")
    assert shown(header, ["ann"], {"card": "4111"}) == ("['ann']", f"{{'card': {MASK}}}")
    assert shown(True, ("ann",), {"card": "4111"}) == (f"({MASK},)", f"{{'card': {MASK}}}")
    assert shown(None, ("ann",), {"card": "4111"}) == ("('ann',)", "{'card': '4111'}")


@pytest.mark.parametrize("header", ["yes", [1], [[1], "card", None], {"card": 1}, 7])
def test_a_header_that_cannot_be_read_hides_everything(header: Any) -> None:
    assert shown(header, ("ann", "4111"), {"pin": "0000"}) == (f"({MASK}, {MASK})", f"{{'pin': {MASK}}}")
    assert hider(header, ("annabel",), {})("of annabel") == f"of {MASK}"


def test_a_sensitive_value_is_found_in_a_text_as_it_is_and_as_repr_and_json_write_it() -> None:
    secret = 'pa"ss\nwörd'
    hide = hider(True, (secret, {"deep": [b"bytes!", 123456]}), {})
    assert hide(f"<{secret}>") == f"<{MASK}>"
    assert hide(f"{secret!r}") == f"'{MASK}'"
    assert hide('{"p": "pa\\"ss\\nw\\u00f6rd"}') == f'{{"p": "{MASK}"}}'
    assert hide("bytes! 123456") == f"{MASK} {MASK}"


def test_what_is_too_short_to_be_told_from_anything_else_is_left_in_texts() -> None:
    assert hider(True, ("abc", 1, True, None), {})("abc 1 True None") == "abc 1 True None"


def test_the_longer_of_two_values_goes_first() -> None:
    assert hider(True, ("secret", "secretary"), {})("secretary") == MASK


def test_containers_are_cleaned_to_their_depth() -> None:
    hide = hider(True, ("hush-hush",), {})
    found = masking.cleaned({"hush-hush": ["hush-hush", ("x", 5)]}, hide)
    assert found == {MASK: [MASK, ["x", 5]]}


@given(st.text(min_size=masking.SHORTEST), st.text(), st.text())
def test_no_text_keeps_a_sensitive_one(secret: str, before: str, after: str) -> None:
    # Stars do not hide stars.
    text = hider(True, (secret,), {})(f"{before}{secret}{after}")
    assert secret not in text or secret in MASK * 3 or secret in (before + MASK + after)


def test_masking_leaves_the_arguments_themselves_alone() -> None:
    args, kwargs = ["ann", "4111"], {"pin": "0"}
    mask(True, args, kwargs)
    assert (args, kwargs) == (["ann", "4111"], {"pin": "0"})
