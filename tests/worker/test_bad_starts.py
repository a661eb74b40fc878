"""A worker that cannot do what it is told does not start, and says why in one sentence."""

import os
import sys
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from psycopg import sql

from tests.worker.running import RunningWorker, Workers, migrate


class Start(NamedTuple):
    """How a worker is started, and what it says of that."""

    options: tuple[str, ...]
    says: str
    environment: Mapping[str, str] = MappingProxyType({})
    settings: Mapping[str, Any] = MappingProxyType({})


SQLITE = {"DATABASE_URL": "sqlite:///:memory:"}
NO_MSGPACK = {"PYTHONPATH": "{without}"}
STARTS = {
    "an unreachable database": Start((), "cannot be reached", {"DATABASE_URL": "postgres://x:x@127.0.0.1:1/x"}),
    "a database that is no PostgreSQL": Start((), "(djtasks.E003) The tasks' database, 'default', is sqlite", SQLITE),
    "a database that nobody looked at": Start(
        ("--skip-checks",), "djtasks needs PostgreSQL, but DATABASES['default'] is sqlite", SQLITE
    ),
    "a wrong password": Start((), "password authentication failed", {"DATABASE_URL": "{wrong}"}),
    "missing migrations": Start((), "run `manage.py migrate` first", {"DATABASE_URL": "{empty}"}),
    "tables of an older version": Start((), "0003_limits_and_control", {"DATABASE_URL": "{old}"}),
    "an unknown pool": Start(("-P", "thread"), "there is no pool 'thread'; did you mean 'threads'?"),
    "a pool that is nowhere": Start(
        ("-P", "tests.worker_app.nowhere:Pool"),
        "the pool 'tests.worker_app.nowhere:Pool' cannot be imported: No module",
    ),
    "a serializer without its library": Start(
        (),
        "install it with: pip install 'djtasks[msgpack]'",
        NO_MSGPACK,
        {"TASK_SERIALIZER": "msgpack", "ACCEPT_CONTENT": ["msgpack"]},
    ),
    "content that could not be read": Start(
        (),
        "(djtasks.E009) DJTASKS['ACCEPT_CONTENT']: there is no msgpack here; install it with: pip install",
        NO_MSGPACK,
        {"ACCEPT_CONTENT": ["json", "msgpack"]},
    ),
    "a limit that the pool cannot keep": Start(
        ("-P", "solo"), "or drop it, or TASK_TIME_LIMIT in DJTASKS", settings={"TASK_TIME_LIMIT": 5}
    ),
    "more than the pool can run": Start(
        ("-P", "solo"), "drop --concurrency 2, or WORKER_CONCURRENCY in DJTASKS", settings={"WORKER_CONCURRENCY": 2}
    ),
    "contradictory limits": Start(("--soft-time-limit", "9", "--time-limit", "5"), "would never be reached"),
    "a log file that cannot be": Start(("-f", "/nowhere/at/all.log"), "/nowhere/at/all.log"),
    "a misspelt setting": Start((), "Did you mean 'WORKER_POOL'?", settings={"WORKER_POLL": "threads"}),
}


@pytest.fixture(scope="module")
def addresses(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A database without our tables, an address with a wrong password, and a path on which there is no msgpack."""
    without = tmp_path_factory.mktemp("without")
    (without / "msgpack.py").write_text("raise ImportError('there is no msgpack here')")
    base, _, name = database.rpartition("/")
    scheme, _, rest = base.partition("://")
    empty, old = sql.Identifier(f"{name}_empty"), sql.Identifier(f"{name}_old")
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(empty))
        conn.execute(sql.SQL("CREATE DATABASE {}").format(old))
        migrate(f"{base}/{name}_old", "djtasks", "0002")
        yield {
            "empty": f"{base}/{name}_empty",
            "old": f"{base}/{name}_old",
            "wrong": f"{scheme}://postgres:wrong@{rest.rpartition('@')[2]}/{name}",
            "without": os.pathsep.join([str(without), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        for each in (empty, old):
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(each))


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
        (["-c", "1025"], "the prefork pool runs 1024 tasks at a time; drop --concurrency 1025"),
        (["-P", "threads", "-c", "100000"], "the threads pool runs 1024 tasks at a time; drop --concurrency 100000"),
        (["-Q", "a", "-X", "a"], "no queue is left to consume"),
        (["--time-limit", "0"], "--time-limit must be more than 0 seconds, not 0.0"),
        (["--time-limit", "nan"], "--time-limit must be more than 0 seconds, not nan"),
        (["--time-limit", "inf"], "--time-limit must be 1000000000 seconds at most, not inf"),
        (["-P", "solo", "--soft-time-limit", "1e300"], "--soft-time-limit must be 1000000000 seconds at most, not 1e+"),
        (["--soft-time-limit", "-1"], "--soft-time-limit must be more than 0 seconds, not -1.0"),
        (["-P", "threads", "--max-tasks-per-child", "5"], "the threads pool cannot keep --max-tasks-per-child (5)"),
        (["-P", "solo", "--time-limit", "5"], "the solo pool cannot keep --time-limit (5.0)"),
        (["-P", "solo", "--max-memory-per-child", "5"], "the solo pool cannot keep --max-memory-per-child (5)"),
        (["-P", "solo", "-c", "2"], "the solo pool runs one task at a time; drop --concurrency 2"),
        (["--max-tasks-per-child", "0"], "--max-tasks-per-child must be at least 1, not 0"),
        (["--max-memory-per-child", "-1"], "--max-memory-per-child must be at least 1, not -1"),
        (["--prefetch-multiplier", "-1"], "--prefetch-multiplier must be at least 0, not -1"),
        (["--autoscale", "many"], "--autoscale takes the most and the least tasks at a time, 10,2 say, not 'many'"),
        (["--autoscale", "3,2,1"], "--autoscale takes the most and the least tasks at a time, 10,2 say, not '3,2,1'"),
        (["--autoscale", "0"], "--autoscale wants a most from 1 to 1024 and a least from 0 on, 10,2 say, not 0,0"),
        (["--autoscale", "1025,1"], "not 1025,1"),
        (["--autoscale", "2,-1"], "not 2,-1"),
        (["-P", "solo", "--autoscale", "2"], "the solo pool cannot keep --autoscale; use --pool prefork, or drop it"),
        (["-l", "LOUD"], "--loglevel: 'LOUD' is no logging level"),
        (["-P", "gevents"], "there is no pool 'gevents'; did you mean 'gevent'?"),
        (
            ["-P", "fibres"],
            "there is no pool 'fibres'; choose prefork, threads, solo, gevent, eventlet or asyncio, or give",
        ),
        (["-P", "gevent", "--max-tasks-per-child", "5"], "the gevent pool cannot keep --max-tasks-per-child (5)"),
        (["-P", "asyncio", "--max-memory-per-child", "5"], "the asyncio pool cannot keep --max-memory-per-child (5)"),
        (["-P", "celery.concurrency.solo:TaskPool", "-c", "2"], "the solo pool runs one task at a time"),
        (["-P", "custom"], "is the class whose path CELERY_CUSTOM_WORKER_POOL holds, which is not set"),
        (["-P", "tests.worker_app.pools.Inline", "--time-limit", "5"], "Inline pool cannot keep --time-limit (5.0)"),
        (
            ["-P", "tests.worker_app.pools:Inline", "-c", "4"],
            "Inline pool runs 3 tasks at a time; drop --concurrency 4",
        ),
        (["-P", "tests.worker_app.pools:Missing"], "is not there: tests.worker_app.pools has no 'Missing'"),
        (["-P", "tests.worker_app.pools:NoPool"], "is no subclass of djtasks.worker.pools.base.Pool"),
        (["-P", "tests.worker_app.pools:Unfinished"], "does not say what its busy, close, collect, join, kill, recall"),
        (["-P", "preform"], "there is no pool 'preform'; did you mean 'prefork'?"),
        # What a terminal hands over for bytes that are no UTF-8.
        (["-Q", "a\udcff"], "--queues: each must be the name of a queue"),
        (["-Q", "q" * 201], "--queues: each must be the name of a queue"),
        (["-n", "a\udcff@b"], "--hostname must be a text that UTF-8 can carry"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_the_reason(options: list[str], says: str) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("runworker", *options)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "options", "says"),
    [
        ({"TASK_TIME_LIMIT": 5}, ["-P", "solo"], "the solo pool cannot keep --time-limit (5.0)"),
        ({"TASK_SOFT_TIME_LIMIT": 5}, ["--time-limit", "3"], "would never be reached before --time-limit 3.0"),
        ({"WORKER_MAX_TASKS_PER_CHILD": 5}, ["-P", "threads"], "cannot keep --max-tasks-per-child (5)"),
        ({"WORKER_CONCURRENCY": 2}, ["-P", "solo"], "the solo pool runs one task at a time; drop --concurrency 2"),
    ],
)
def test_an_option_that_contradicts_a_setting_is_refused(
    settings: dict[str, Any], options: list[str], says: str
) -> None:
    with override_settings(DJTASKS=settings), pytest.raises(CommandError) as refused:
        call_command("runworker", *options)
    assert says in str(refused.value)


def test_a_queue_that_may_not_be_made_is_refused() -> None:
    with (
        override_settings(DJTASKS={"TASK_CREATE_MISSING_QUEUES": False}),
        pytest.raises(CommandError, match="--queues names 'unheard', which is not in TASK_QUEUES"),
    ):
        call_command("runworker", "-Q", "unheard")


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_a_pool_whose_library_is_missing_says_what_to_install(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(CommandError, match=rf"needs {library}, .* with: pip install 'djtasks\[{library}\]'"):
        call_command("runworker", "-P", library)
