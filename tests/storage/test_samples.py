"""Samples: what is written each minute, once or twice, by one or by many, and read for charts."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from djtasks import metrics
from djtasks.db import queues, samples, workers
from djtasks.db.samples import BUCKETS, Point, prune, series, write
from djtasks.messages import Claimed, Outcome
from djtasks.worker.counting import MOST_NAMES, OTHERS, Runs
from djtasks.worker.sampling import Sampler
from tests.storage.rows import Table, hire, put, take

Connect = Callable[..., psycopg.Connection]


@pytest.fixture(autouse=True)
def _no_samples(conn: psycopg.Connection) -> None:
    conn.execute("TRUNCATE djtasks_sample")


def points(conn: psycopg.Connection, **given: object) -> list[Point]:
    return series(conn, time.time() - 7200, **given)  # type: ignore[arg-type]


def sampler(**counts: float) -> tuple[Sampler, dict[str, float]]:
    """A sampler of these counts, which may be changed."""
    return Sampler("w@here", lambda: counts, lambda: {"pool": 2.0, "busy": 1.0}), counts


def test_what_is_written_twice_in_a_minute_is_added_up_and_levels_keep_the_highest(conn: psycopg.Connection) -> None:
    write(conn, "worker", {"a": {"SUCCESS": 3, "pool": 4}, "b": {"FAILURE": 1}})
    write(conn, "worker", {"a": {"SUCCESS": 2, "RETRY": 1, "pool": 2}})
    found = {point.name: point.numbers for point in points(conn, step=3600.0)}
    assert found == {"a": {"SUCCESS": 5, "RETRY": 1, "pool": 4}, "b": {"FAILURE": 1}}


def test_a_series_is_in_order_and_in_steps(conn: psycopg.Connection) -> None:
    for ago, count in ((0.0, 1.0), (60.0, 2.0), (3000.0, 4.0)):
        write(conn, "worker", {"w": {"SUCCESS": count, "busy": count}}, ago)
    write(conn, "queue", {"celery": {"depth": 7, "oldest": 1.5}})
    fine = points(conn, kind="worker")
    assert [point.numbers["SUCCESS"] for point in fine] == [4, 2, 1]
    assert [point.at % 60 for point in fine] == [0, 0, 0]
    assert [point.at for point in fine] == sorted(point.at for point in fine)
    [whole] = points(conn, step=1e9, kind="worker")
    assert whole.numbers == {"SUCCESS": 7, "busy": 4}
    assert [point.name for point in points(conn, name="celery")] == ["celery"]
    assert [point.kind for point in points(conn, step=1e9)] == ["queue", "worker"]
    assert series(conn, time.time() + 120) == []


def test_many_write_the_same_minute_at_once(connect: Connect, conn: psycopg.Connection) -> None:
    links = [connect() for _ in range(4)]

    def work(link: psycopg.Connection) -> None:
        for _ in range(25):
            write(link, "worker", {"a": {"SUCCESS": 1}, "b": {"SUCCESS": 1}})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, links))
    assert {point.name: point.numbers["SUCCESS"] for point in points(conn, step=1e9)} == {"a": 100, "b": 100}


def test_names_are_texts_of_any_kind(conn: psycopg.Connection) -> None:
    strange = ["", "'; DROP TABLE djtasks_sample; --", "ä€😀", "{a,b}", 'a"b\\c', "NULL"]
    assert write(conn, "queue", {name: {"depth": 1} for name in strange}) == len(strange)
    assert {point.name for point in points(conn)} == set(strange)


def test_a_worker_writes_what_was_new_since_the_last_time(conn: psycopg.Connection) -> None:
    own, counts = sampler(SUCCESS=5.0, refused=0.0)
    own.write(conn)
    counts["SUCCESS"] = 7.0
    counts["FAILURE"] = 1.0
    own.write(conn)
    [point] = points(conn, step=1e9)
    assert point.numbers == {"SUCCESS": 7, "FAILURE": 1, "pool": 2, "busy": 1}


def test_what_could_not_be_written_is_in_the_next_one(connect: Connect, conn: psycopg.Connection) -> None:
    own, counts = sampler(SUCCESS=5.0)
    broken = connect()
    broken.close()
    with pytest.raises(psycopg.OperationalError):
        own.write(broken)
    counts["SUCCESS"] = 6.0
    own.write(conn)
    assert points(conn, step=1e9)[0].numbers["SUCCESS"] == 6


def test_one_worker_a_minute_measures_the_queues(connect: Connect, conn: psycopg.Connection, table: Table) -> None:
    put(conn, 3)
    put(conn, 2, queue="other")
    links = [connect() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(sampler()[0].measure, links))
    found = {point.name: point.numbers for point in points(conn, kind="queue")}
    assert {name: numbers["depth"] for name, numbers in found.items()} == {"celery": 3, "other": 2}
    assert all(0 <= numbers["oldest"] < 60 for numbers in found.values())
    # What levels would hide: that it was written more than once.
    assert table.rows("SELECT count(*) AS n FROM djtasks_sample WHERE xmax <> 0")[0]["n"] == 0


def test_nothing_is_measured_while_another_one_does_it(connect: Connect, conn: psycopg.Connection) -> None:
    put(conn, 3)
    other = connect()
    with other.transaction():
        assert samples.try_measure(other)
        sampler()[0].measure(conn)
        assert points(conn, kind="queue") == []


def test_old_samples_go(conn: psycopg.Connection) -> None:
    for ago in (0.0, 3600.0, 7000.0):
        write(conn, "worker", {"w": {"SUCCESS": 1}}, ago)
    assert prune(conn, 3500.0, 1) == 1
    assert prune(conn, 3500.0, 10) == 1
    assert len(points(conn)) == 1


# -- counting -----------------------------------------------------------------------------------------------------


def claimed(claim: int, name: str = "tests.a", eta: float | None = None) -> Claimed:
    return Claimed(claim, str(claim), name, "q", 0, 0, 0, False, b"", "", "", None, eta, None, 100.0)


def ran(claim: int, runtime: float, began: float = 101.0) -> Outcome:
    return Outcome(claim, str(claim), "SUCCESS", started=began, runtime=runtime)


def test_runs_are_counted_by_how_long_they_took() -> None:
    runs = Runs()
    held = {each: claimed(each) for each in range(1, 8)}
    for claim, runtime in enumerate((0.001, 0.01, 0.05, 1.0, 59.0, 3600.0), 1):
        runs.ended([ran(claim, runtime)], held)
    # What the worker ended itself, and what is not its own any more.
    runs.ended([ran(7, 0.0), ran(99, 1.0)], held)
    found = runs.sums()
    assert found["runs"] == 6
    assert found["runtime"] == pytest.approx(3660.061)
    assert [found[bucket] for bucket in BUCKETS] == [2, 1, 1, 0, 1, 0, 1]
    assert sum(runs.histograms()["tests.a"][1]) == 6
    assert found["waited"] == pytest.approx(6.0)


def test_a_wait_begins_when_the_task_might_have_run() -> None:
    runs = Runs()
    runs.ended([ran(1, 1.0, began=150.0)], {1: claimed(1, eta=140.0)})
    assert runs.waited == 10.0
    runs.ended([ran(2, 1.0, began=150.0)], {2: claimed(2, eta=50.0)})
    assert runs.waited == 60.0
    # The clocks of two machines need not agree.
    runs.ended([ran(3, 1.0, began=90.0)], {3: claimed(3)})
    assert runs.waited == 60.0


def test_names_without_end_are_counted_together() -> None:
    runs = Runs()
    for claim in range(MOST_NAMES + 50):
        runs.ended([ran(claim, 1.0)], {claim: claimed(claim, f"tests.{claim}")})
    assert len(runs.by_name) == MOST_NAMES + 1
    assert sum(runs.histograms()[OTHERS][1]) == 50


# -- metrics of the site ------------------------------------------------------------------------------------------


def test_the_site_s_metrics_come_from_the_tables(conn: psycopg.Connection) -> None:
    put(conn, 2)
    owner = hire(conn)
    take(conn, owner, 1)
    queues.pause(conn, ["shut"])
    state = {"running": 1, "prefetched": "?"}
    assert workers.beat(conn, owner, {"SUCCESS": 4, "refused": 1}, 3, None, state)
    page = metrics.render(metrics.collect(conn)).decode()
    name = conn.execute("SELECT name FROM djtasks_worker").fetchall()[0][0]
    for line in (
        'djtasks_queue_messages{queue="celery"} 2.0',
        'djtasks_queue_paused{queue="shut"} 1.0',
        f'djtasks_worker_slots{{worker="{name}"}} 3.0',
        f'djtasks_worker_running{{worker="{name}"}} 1.0',
        f'djtasks_worker_prefetched{{worker="{name}"}} 0.0',
        f'djtasks_worker_outcomes_total{{state="SUCCESS",worker="{name}"}} 4.0',
        f'flower_worker_online{{worker="{name}"}} 1.0',
    ):
        assert line in page.splitlines(), page


def test_a_worker_s_name_that_comes_twice_is_one_line(conn: psycopg.Connection) -> None:
    for _ in range(2):
        assert workers.beat(conn, hire(conn), {"SUCCESS": 1}, 2, None)
    page = metrics.render(metrics.collect(conn)).decode()
    assert next(line for line in page.splitlines() if line.startswith("djtasks_worker_slots{")).endswith(" 4.0")
    assert page.count("flower_worker_online{") == 1


def test_a_beat_that_says_nothing_leaves_what_was_said(conn: psycopg.Connection) -> None:
    owner = hire(conn)
    workers.beat(conn, owner, {}, 1, None, {"running": 1})
    workers.beat(conn, owner, {}, 1, None)
    assert conn.execute("SELECT state FROM djtasks_worker").fetchall() == [({"running": 1},)]
