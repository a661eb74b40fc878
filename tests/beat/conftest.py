"""What the tests of beat share: the database of the tests of workers, and beats that end with their test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.beat.running import Beats
from tests.worker.conftest import database, migrated, nothing_waits, workers
from tests.worker.running import query

__all__ = ["database", "migrated", "nothing_waits", "workers"]


@pytest.fixture(autouse=True)
def _nothing_periodic(nothing_waits: None) -> Iterator[None]:
    """What a test schedules is not due in the next one."""
    yield
    query("TRUNCATE djtasks_periodic_task, djtasks_beat")


@pytest.fixture
def beats(database: str, tmp_path: Path) -> Iterator[Beats]:
    """Starts beats for one test."""
    found = Beats(tmp_path, database)
    yield found
    found.close()
