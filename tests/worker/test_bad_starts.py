"""A worker that cannot do what it is told does not start, and says why in one sentence."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from psycopg import sql

from tests.worker.running import RunningWorker, Workers


class Start(NamedTuple):
    """How a worker is started, and what it says of that."""

    options: tuple[str, ...]
    says: str
    environment: Mapping[str, str] = MappingProxyType({})
    settings: Mapping[str, Any] = MappingProxyType({})


STARTS = {
    "an unreachable database": Start((), "cannot be reached", {"DATABASE_URL": "postgres://x:x@127.0.0.1:1/x"}),
    "a database that is no PostgreSQL": Start((), "PostgreSQL", {"DATABASE_URL": "sqlite:///:memory:"}),
    "a wrong password": Start((), "password authentication failed", {"DATABASE_URL": "{wrong}"}),
    "missing migrations": Start((), "run `manage.py migrate` first", {"DATABASE_URL": "{empty}"}),
    "an unknown pool": Start(("-P", "gevents"), "invalid choice: 'gevents'"),
    "contradictory limits": Start(("--soft-time-limit", "9", "--time-limit", "5"), "would never be reached"),
    "a log file that cannot be": Start(("-f", "/nowhere/at/all.log"), "/nowhere/at/all.log"),
    "a misspelt setting": Start((), "WORKER_POOL", settings={"WORKER_POLL": "threads"}),
}


@pytest.fixture(scope="module")
def addresses(database: str) -> Iterator[dict[str, str]]:
    """A database without our tables, and an address with a wrong password."""
    base, _, name = database.rpartition("/")
    scheme, _, rest = base.partition("://")
    empty = sql.Identifier(f"{name}_empty")
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(empty))
        yield {
            "empty": f"{base}/{name}_empty",
            "wrong": f"{scheme}://postgres:wrong@{rest.rpartition('@')[2]}/{name}",
        }
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(empty))


@pytest.fixture(scope="module")
def started(shared: Workers, addresses: dict[str, str]) -> dict[str, RunningWorker]:
    """All of them at once: most of a start is waiting for a processor."""
    found = {}
    for name, start in STARTS.items():
        environment = {key: text.format(**addresses) for key, text in start.environment.items()}
        found[name] = shared.launch(*start.options, environment=environment, **start.settings)
    return found


@pytest.mark.parametrize("name", list(STARTS))
def test_a_worker_that_cannot_start_ends_with_one_sentence_that_says_why_and_leaves_nothing(
    started: dict[str, RunningWorker], name: str
) -> None:
    worker = started[name]
    assert worker.wait(60) != 0
    assert STARTS[name].says in worker.log
    assert "Traceback" not in worker.log
    assert worker.left() == []
    assert worker.rows() == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-c", "0"], "--concurrency must be at least 1, not 0"),
        (["-Q", "a", "-X", "a"], "no queue is left to consume"),
        (["--time-limit", "0"], "--time-limit must be more than 0 seconds, not 0.0"),
        (["--time-limit", "nan"], "--time-limit must be more than 0 seconds, not nan"),
        (["--soft-time-limit", "-1"], "--soft-time-limit must be more than 0 seconds, not -1.0"),
        (["-P", "threads", "--time-limit", "5"], "the threads pool cannot keep --time-limit (5.0)"),
        (["-P", "threads", "--soft-time-limit", "5"], "the threads pool cannot keep --soft-time-limit (5.0)"),
        (["-P", "threads", "--max-tasks-per-child", "5"], "the threads pool cannot keep --max-tasks-per-child (5)"),
        (["-P", "solo", "--time-limit", "5"], "the solo pool cannot keep --time-limit (5.0)"),
        (["-P", "solo", "--max-memory-per-child", "5"], "the solo pool cannot keep --max-memory-per-child (5)"),
        (["-P", "solo", "-c", "2"], "the solo pool runs one task at a time; drop --concurrency 2"),
        (["--max-tasks-per-child", "0"], "--max-tasks-per-child must be at least 1, not 0"),
        (["--max-memory-per-child", "-1"], "--max-memory-per-child must be at least 1, not -1"),
        (["--prefetch-multiplier", "-1"], "--prefetch-multiplier must be at least 0, not -1"),
        (["-l", "LOUD"], "--loglevel: 'LOUD' is no logging level"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_the_reason(options: list[str], says: str) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("runworker", *options)
    assert says in str(refused.value)


def test_a_queue_that_may_not_be_made_is_refused() -> None:
    with (
        override_settings(DJTASKS={"TASK_CREATE_MISSING_QUEUES": False}),
        pytest.raises(CommandError, match="--queues names 'unheard', which is not in TASK_QUEUES"),
    ):
        call_command("runworker", "-Q", "unheard")
