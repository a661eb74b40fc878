"""The guide's examples give what they say."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.calling.conftest import Configure

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "canvas.md"


@pytest.mark.django_db(transaction=True)
def test_what_the_guide_says_of_a_value_is_that_value(configure: Configure) -> None:
    configure(TASK_ALWAYS_EAGER=True, TASK_STORE_EAGER_RESULT=True)
    space: dict[str, Any] = {"__name__": "reader"}
    count = 0
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S):
        text, changed = re.subn(r"^(.+\.get\(\))  # ([\d\[\], ]+)$", r"assert \1 == \2, \1", block, flags=re.M)
        exec(compile(text.replace("100_000", "100"), str(PAGE), "exec"), space)  # noqa: S102
        count += changed
    assert count >= 10
