"""Steps: the rest of a chain is read a step at a time, and written as it came."""

import json
from typing import Any

import pytest

from djtasks.steps import Steps, join, raw, split

TEXTS = ["plain", 'a "quoted" one', '"chain":[\n', "\n]}", ",\n", "two\nlines", "ünïcödé \u2028"]


def step(text: str) -> dict[str, Any]:
    return {"task": text, "args": [text], "kwargs": {"x": {"y": [text]}}}


@pytest.mark.parametrize("head", [None, "{}", '{"root_id":"x","shadow":"\\"chain\\":["}'])
def test_headers_with_steps_are_json_and_come_apart_again(head: str | None) -> None:
    steps = [step(text) for text in TEXTS]
    text = join(head, steps)
    assert json.loads(text) == {**json.loads(head or "{}"), "chain": steps}
    before, found = split(text)
    assert json.loads(before) == json.loads(head or "{}")
    assert found == steps


def test_steps_that_were_not_read_are_written_as_they_came() -> None:
    _, found = split(join(None, [step(text) for text in TEXTS]))
    assert found is not None
    assert found[-1] == step(TEXTS[-1])
    rest = raw(found)[:-1]
    assert all(isinstance(each, str) for each in rest)
    assert json.loads(join('{"a":1}', Steps(rest)))["chain"] == [step(text) for text in TEXTS[:-1]]


@pytest.mark.parametrize(
    "text", ['{"chain":[{"task":"t"}]}', '{\n"chain": [\n{"task":"t"}\n]}', "{}", "", "\n]}", "null"]
)
def test_headers_of_another_writer_are_left_as_they_are(text: str) -> None:
    assert split(text) == (text, None)


def test_steps_can_be_changed_as_a_list_can() -> None:
    steps = Steps([step("a"), json.dumps(step("b"))])
    steps[0]["task"] = "c"
    steps.append(step("d"))
    assert steps.pop(1) == step("b")
    assert [each["task"] for each in steps] == ["c", "d"]
    assert json.loads(json.dumps(steps.__json__())) == list(steps) == steps


def test_only_signatures_are_steps() -> None:
    with pytest.raises(TypeError, match="chain takes signatures, not 5"):
        join(None, [5])
    with pytest.raises(TypeError, match="chain takes signatures, not '{}'"):
        join(None, ["{}"])
