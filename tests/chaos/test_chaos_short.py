"""The essential scenarios, briefly. All of them, for longer: `make chaos`."""

from collections.abc import Iterator

import pytest

from tests.chaos.run import BRIEF, play
from tests.chaos.scenarios import SCENARIOS, Scenario
from tests.chaos.site import Site, site
from tests.servers import chosen


@pytest.fixture(scope="module")
def ground() -> Iterator[Site]:
    """A server that may be crashed."""
    with site(chosen()) as found:
        yield found


@pytest.mark.parametrize("scenario", [each for each in SCENARIOS if each.essential], ids=lambda each: each.name)
def test_no_accepted_task_is_lost_and_no_stale_result_written(ground: Site, scenario: Scenario) -> None:
    row = play(ground, scenario, BRIEF)
    assert row.problems == []
