"""The essential scenarios, briefly. All of them, for longer, and with every pool: `make chaos`."""

from collections.abc import Iterator

import pytest

from tests.chaos.pools import PREFORK
from tests.chaos.run import BRIEF, SCENARIOS, play, unfit
from tests.chaos.scenario import Scenario
from tests.chaos.site import Site, site
from tests.servers import chosen

ESSENTIAL = [each for each in SCENARIOS if each.essential and not unfit(each, PREFORK)]


@pytest.fixture(scope="module")
def ground() -> Iterator[Site]:
    """A server that may be crashed."""
    with site(chosen()) as found:
        yield found


@pytest.mark.parametrize("scenario", ESSENTIAL, ids=lambda each: each.name)
def test_no_accepted_task_is_lost_and_no_stale_result_written(ground: Site, scenario: Scenario) -> None:
    row = play(ground, scenario, BRIEF)
    assert row.problems == []
