"""A worker that cannot do what it is told does not start, and says why in one sentence."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import psycopg
import pytest
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
    "a wrong password": Start((), "cannot be reached", {"DATABASE_URL": "{wrong}"}),
    "missing migrations": Start((), "run `manage.py migrate` first", {"DATABASE_URL": "{empty}"}),
    "an unknown pool": Start(("-P", "gevents"), "invalid choice: 'gevents'"),
    "no child": Start(("-c", "0"), "--concurrency must be at least 1, not 0"),
    "no queue left": Start(("-Q", "a", "-X", "a"), "no queue is left to consume"),
    "a soft limit after the hard one": Start(("--soft-time-limit", "9", "--time-limit", "5"), "would never be reached"),
    "a limit of nothing": Start(("--time-limit", "0"), "--time-limit must be more than 0 seconds"),
    "a hard limit for threads": Start(("-P", "threads", "--time-limit", "5"), "cannot keep --time-limit (5.0)"),
    "a soft limit for threads": Start(("-P", "threads", "--soft-time-limit", "5"), "cannot keep --soft-time-limit"),
    "a hard limit for solo": Start(("-P", "solo", "--time-limit", "5"), "the solo pool cannot keep --time-limit (5.0)"),
    "two tasks at a time for solo": Start(("-P", "solo", "-c", "2"), "the solo pool runs one task at a time"),
    "no task per child": Start(("--max-tasks-per-child", "0"), "--max-tasks-per-child must be at least 1, not 0"),
    "no memory per child": Start(("--max-memory-per-child", "-1"), "--max-memory-per-child must be at least 1, not -1"),
    "a negative prefetch": Start(("--prefetch-multiplier", "-1"), "--prefetch-multiplier must be at least 0, not -1"),
    "an unknown log level": Start(("-l", "LOUD"), "'LOUD' is no logging level"),
    "a log file that cannot be": Start(("-f", "/nowhere/at/all.log"), "/nowhere/at/all.log"),
    "a misspelt setting": Start((), "WORKER_POOL", settings={"WORKER_POLL": "threads"}),
    "a queue that may not be made": Start(
        ("-Q", "unheard"), "--queues names 'unheard'", settings={"TASK_CREATE_MISSING_QUEUES": False}
    ),
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
def test_a_worker_that_cannot_start_ends_with_one_sentence_that_says_why(
    started: dict[str, RunningWorker], name: str
) -> None:
    worker = started[name]
    assert worker.wait(60) != 0
    assert STARTS[name].says in worker.log
    assert "Traceback" not in worker.log
    assert worker.left() == []


def test_a_worker_that_cannot_start_leaves_no_row(started: dict[str, RunningWorker]) -> None:
    for worker in started.values():
        worker.wait(60)
        assert worker.rows() == []
