"""Limits of the cluster: how many of a key run, how often one starts, whoever asks and whatever breaks off."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from djtasks import shared_task
from djtasks.db import finish, limits, messages, rates
from djtasks.db.connections import open_private
from djtasks.keys import Definition
from djtasks.messages import Again, Claimed, Outcome
from djtasks.registry import tasks
from djtasks.worker import governor
from tests.storage.rows import Table, ended, fences, hire, message, put, take
from tests.waits import wait_until

Connect = Callable[..., psycopg.Connection]
TWO = Definition(2, None)


def admit(conn: psycopg.Connection, most: int | None = 2, rate: float | None = None, key: str = "k") -> int:
    """Admit for a key; returns how many lanes were opened."""
    return admit_all(conn, {key: Definition(most, rate)})


def admit_all(conn: psycopg.Connection, wanted: Mapping[str, Definition | None]) -> int:
    """Admit for several keys."""
    with conn.transaction():
        return len(limits.admit(conn, wanted))


# -- how many run -------------------------------------------------------------------------------------------------


def test_a_message_with_a_limit_waits_without_a_lane_until_it_is_admitted(
    conn: psycopg.Connection, table: Table
) -> None:
    ids = put(conn, 3, limit_key="k")
    assert table.waiting() == []
    assert {row["reason"] for row in table.rows("SELECT reason FROM djtasks_message")} == {"limit"}
    assert admit(conn) == 2
    assert table.waiting() == ids[:2]
    assert admit(conn) == 0


def test_one_message_alone_waits_for_its_limit_too(conn: psycopg.Connection, table: Table) -> None:
    put(conn, 1, limit_key="k")
    assert table.waiting() == []


def test_the_higher_priority_and_the_older_is_let_in_first(conn: psycopg.Connection, table: Table) -> None:
    [low, old], [high] = put(conn, 2, limit_key="k"), put(conn, 1, limit_key="k", priority=5)
    assert admit(conn) == 2
    assert table.waiting() == [high, low]
    assert old not in table.waiting()


def test_the_end_of_a_message_frees_its_place(conn: psycopg.Connection, table: Table) -> None:
    ids = put(conn, 3, limit_key="k")
    admit(conn)
    owner = hire(conn)
    first, _ = take(conn, owner)
    finish.finish(conn, owner, [ended(first)], None)
    assert admit(conn) == 1
    assert table.waiting() == [ids[2]]


def test_keys_do_not_touch_one_another(conn: psycopg.Connection, table: Table) -> None:
    put(conn, 3, limit_key="a")
    put(conn, 3, limit_key="b")
    assert admit_all(conn, {"b": TWO, "a": Definition(1, None)}) == 3
    keys = Counter(
        row["limit_key"] for row in table.rows("SELECT limit_key FROM djtasks_message WHERE lane IS NOT NULL")
    )
    assert keys == {"a": 1, "b": 2}


def test_what_is_put_back_into_its_lane_keeps_its_place(conn: psycopg.Connection) -> None:
    put(conn, 3, limit_key="k")
    admit(conn)
    owner = hire(conn)
    found = take(conn, owner)
    messages.release(conn, owner, fences(found[:1]))
    messages.crashed(conn, owner, fences(found[1:]))
    assert admit(conn) == 0


def test_what_is_set_aside_for_its_rate_keeps_its_place(conn: psycopg.Connection) -> None:
    put(conn, 3, limit_key="k")
    admit(conn)
    owner = hire(conn)
    rates.park(conn, owner, fences(take(conn, owner)))
    assert admit(conn) == 0


def test_a_name_that_nobody_knows_holds_no_place_and_waits_for_one_when_it_is_known(
    conn: psycopg.Connection, table: Table
) -> None:
    put(conn, 3, limit_key="k")
    admit(conn)
    owner = hire(conn)
    messages.park_unknown(conn, owner, fences(take(conn, owner)))
    assert admit(conn) == 1
    assert len(messages.adopt(conn, ["tests.add"], ["celery"])) == 2
    assert len(table.waiting()) == 1
    assert admit(conn) == 1


@pytest.mark.parametrize("countdown", [None, 3600.0])
def test_a_retry_gives_its_place_to_others(conn: psycopg.Connection, table: Table, countdown: float | None) -> None:
    first, second = put(conn, 2, limit_key="k")
    assert admit(conn, 1) == 1
    owner = hire(conn)
    [held] = take(conn, owner)
    again = Outcome(held.claim, held.id, "RETRY", store=False, again=Again(countdown=countdown))
    messages.again(conn, owner, [again], "w")
    row = table.message(first)
    assert row is not None
    assert (row["lane"], row["reason"]) == (None, "limit" if countdown is None else "eta")
    assert admit(conn, 1) == 1
    # The older one is first again, unless it has to wait.
    assert table.waiting() == [first if countdown is None else second]


def test_a_due_eta_waits_for_its_limit(conn: psycopg.Connection, table: Table) -> None:
    [task_id] = put(conn, 1, limit_key="k", countdown=3600.0)
    row = table.message(task_id)
    assert row is not None
    assert row["reason"] == "eta"
    conn.execute("UPDATE djtasks_message SET eta = now() - interval '1 second'")
    limited: dict[str, str] = {}
    assert messages.promote(conn, limited=limited) == ["celery"]
    assert limited == {"k": "tests.add"}
    assert table.waiting() == []
    assert admit(conn) == 1


def test_a_lowered_limit_lets_nobody_in_and_a_raised_one_does(conn: psycopg.Connection) -> None:
    put(conn, 9, limit_key="k")
    assert admit(conn, 3) == 3
    assert admit(conn, 1) == 0
    assert admit(conn, 4) == 1


def test_a_key_whose_task_is_unknown_goes_by_its_row(conn: psycopg.Connection) -> None:
    put(conn, 3, limit_key="k")
    assert admit_all(conn, {"k": None}) == 0
    assert admit(conn, 1) == 1
    conn.execute("UPDATE djtasks_limit SET most = 2")
    assert admit_all(conn, {"k": None}) == 1


def test_an_admission_waits_for_one_that_has_not_seen_its_messages(connect: Connect, table: Table) -> None:
    first, second = connect(), connect()
    put(first, 1, limit_key="k")
    admit(first)
    put(first, 1, limit_key="k")
    with ThreadPoolExecutor(1) as pool:
        with first.transaction():
            assert len(limits.admit(first, {"k": TWO})) == 1
            put(second, 1, limit_key="k")
            later = pool.submit(admit, second, 3)
            table.wait_until_blocked(second)
        assert later.result(10) == 1


def test_eight_that_admit_at_once_let_in_no_more_than_the_limit(connect: Connect, table: Table) -> None:
    conns = [connect() for _ in range(8)]
    put(conns[0], 500, limit_key="k")

    def work(conn: psycopg.Connection) -> int:
        owner, most = hire(conn), 0
        for _ in range(60):
            admit(conn, 3)
            found = take(conn, owner, 2)
            held = table_count(conn)
            most = max(most, held)
            if found:
                finish.finish(conn, owner, [ended(each) for each in found], None)
        return most

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(work, conns)) <= 3
    assert table.results() > 0


def table_count(conn: psycopg.Connection) -> int:
    """How many hold a place."""
    found = conn.execute(
        "SELECT count(*) FROM djtasks_message WHERE limit_key IS NOT NULL AND lane IS NOT NULL"
    ).fetchone()
    assert found is not None
    return int(found[0])


def test_the_waiting_keys_are_read_in_pages(conn: psycopg.Connection) -> None:
    for key in ("a", "b", "c"):
        put(conn, 5, limit_key=key, name=f"tests.{key}")
    assert limits.waiting(conn, limit=2) == [("a", "tests.a"), ("b", "tests.b")]
    assert limits.waiting(conn, "b", 2) == [("c", "tests.c")]
    assert limits.waiting(conn, "c") == []


def test_rows_of_limits_that_nobody_uses_go(conn: psycopg.Connection, table: Table) -> None:
    put(conn, 1, limit_key="used")
    admit_all(conn, {"used": TWO, "idle": TWO})
    assert limits.prune(conn, 3600) == 0
    conn.execute("UPDATE djtasks_limit SET changed = now() - interval '2 hours'")
    assert limits.prune(conn, 3600) == 1
    assert table.value("SELECT key FROM djtasks_limit") == "used"


@pytest.fixture
def swept() -> Iterator[str]:
    """The name of a task of which two of a key may run."""
    before = dict(tasks)
    yield shared_task(name="tests.swept", concurrency_key="{0}", max_concurrency=2)(lambda key: None).name
    tasks.clear()
    tasks.update(before)


def test_maintenance_lets_in_what_a_crash_has_left_out(conn: psycopg.Connection, table: Table, swept: str) -> None:
    keys = [f"k{number}" for number in range(450)]
    messages.enqueue(conn, [message(name=swept, limit_key=key) for key in keys for _ in range(3)])
    put(conn, 1, limit_key="unknown")
    governor.sweep(conn, lambda: True)
    assert len(table.waiting()) == 900
    governor.sweep(conn, lambda: True)
    assert len(table.waiting()) == 900


def test_one_worker_at_a_time_maintains(connect: Connect, table: Table, swept: str) -> None:
    first, second = connect(), connect()
    messages.enqueue(first, [message(name=swept, limit_key="k")])
    with first.transaction():
        assert limits.try_sweep(first)
        governor.sweep(second, lambda: True)
        assert table.waiting() == []
    governor.sweep(second, lambda: True)
    assert len(table.waiting()) == 1


# -- how often one starts -----------------------------------------------------------------------------------------


def test_the_first_of_a_rate_starts_at_once_and_the_next_when_it_is_due(conn: psycopg.Connection) -> None:
    put(conn, 3, limit_key="k")
    assert admit(conn, None, 0.1) == 1
    assert admit(conn, None, 0.1) == 0
    due = limits.next_due(conn)
    assert due is not None
    assert 9 < due <= 10
    take(conn, hire(conn))
    conn.execute("UPDATE djtasks_limit SET next_at = now()")
    with conn.transaction():
        assert limits.admit_due(conn) == ["celery"]


def test_a_late_look_makes_up_for_a_moment_and_not_for_more(conn: psycopg.Connection) -> None:
    put(conn, 500, limit_key="k")
    assert admit(conn, None, 100.0) == 1
    conn.execute("UPDATE djtasks_limit SET next_at = now() - interval '1 hour'")
    assert 10 <= admit(conn, None, 100.0) <= 12


def test_what_no_worker_takes_does_not_pile_up_to_start_at_once(conn: psycopg.Connection, table: Table) -> None:
    put(conn, 100, limit_key="k")
    for _ in range(30):
        admit(conn, None, 20.0)
        conn.execute("UPDATE djtasks_limit SET next_at = now() - interval '1 minute'")
    assert len(table.waiting()) == 3
    admit(conn, None, 20.0)
    left = limits.next_due(conn)
    assert left is not None
    assert 0 < left <= 0.1


def test_a_rate_that_nobody_waits_for_asks_nobody_to_look(conn: psycopg.Connection) -> None:
    put(conn, 1, limit_key="k")
    assert admit(conn, None, 1000.0) == 1
    take(conn, hire(conn))

    def due() -> bool:
        left = limits.next_due(conn)
        return left is None or left < 0

    wait_until(due, "the next may start")
    with conn.transaction():
        assert limits.admit_due(conn) == []
    assert limits.next_due(conn) is None


def test_a_rate_and_a_number_of_one_key_hold_both(conn: psycopg.Connection) -> None:
    put(conn, 9, limit_key="k")
    assert admit(conn, 2, 1000.0) == 1
    conn.execute("UPDATE djtasks_limit SET next_at = now() - interval '1 second'")
    assert admit(conn, 2, 1000.0) == 1
    conn.execute("UPDATE djtasks_limit SET next_at = now() - interval '1 second'")
    assert admit(conn, 2, 1000.0) == 0


def test_one_that_is_looked_after_already_is_left_to_the_other(connect: Connect) -> None:
    first, second = connect(), connect()
    put(first, 2, limit_key="k")
    admit(first, None, 0.1)
    take(first, hire(first))
    first.execute("UPDATE djtasks_limit SET next_at = now()")
    with first.transaction():
        assert len(limits.admit_due(first)) == 1
        with second.transaction():
            assert limits.admit_due(second) == []


# -- against a model ----------------------------------------------------------------------------------------------


class Cluster(RuleBasedStateMachine):
    """Messages of two keys, in any order of enqueues, claims, ends, losses, retries and admissions."""

    def __init__(self) -> None:
        super().__init__()
        self.conn = open_private("test model")
        for name in ("djtasks_message", "djtasks_result", "djtasks_limit", "djtasks_worker"):
            self.conn.execute(f"DELETE FROM {name}".encode())
        self.most = {"a": 1, "b": 3}
        self.held: list[Claimed] = []
        self.made = self.ends = 0

    @initialize()
    def hire(self) -> None:
        self.owner = hire(self.conn)

    @rule(key=st.sampled_from("ab"), count=st.integers(1, 4), priority=st.integers(0, 2))
    def enqueue(self, key: str, count: int, priority: int) -> None:
        put(self.conn, count, limit_key=key, priority=priority)
        self.made += count

    @rule(keys=st.sets(st.sampled_from("ab"), min_size=1))
    def admit(self, keys: set[str]) -> None:
        admit_all(self.conn, {key: Definition(self.most[key], None) for key in keys})

    @rule(room=st.integers(1, 5))
    def claim(self, room: int) -> None:
        self.held += take(self.conn, self.owner, room)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        how = data.draw(st.sampled_from(["finish", "release", "crash", "rate", "name", "again", "again later"]))
        each = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        conn, fence = self.conn, [(each.claim, each.id)]
        if how == "finish":
            assert finish.finish(conn, self.owner, [ended(each)], None)
            self.ends += 1
        elif how.startswith("again"):
            countdown = 3600.0 if how == "again later" else None
            outcome = Outcome(each.claim, each.id, "RETRY", store=False, again=Again(countdown=countdown))
            assert messages.again(conn, self.owner, [outcome], "w")
        else:
            write = {
                "release": messages.release,
                "crash": messages.crashed,
                "rate": rates.park,
                "name": messages.park_unknown,
            }[how]
            assert write(conn, self.owner, fence)

    @rule()
    def come_due(self) -> None:
        self.conn.execute("UPDATE djtasks_message SET eta = now() WHERE reason = 'eta'")
        messages.promote(self.conn)
        messages.adopt(self.conn, ["tests.add"], ["celery"])

    @rule()
    def pull(self) -> None:
        first = 10**12 + self.made * 1000 + len(self.held) + self.ends * 10**6
        self.held += rates.claim(self.conn, self.owner, first, {"tests.add": 2}, ["celery"], 2)

    @invariant()
    def no_more_run_than_may(self) -> None:
        running = Counter(each.limit_key for each in self.held)
        assert all(count <= self.most[str(key)] for key, count in running.items())

    @invariant()
    def nothing_is_lost(self) -> None:
        found = self.conn.execute("SELECT count(*) FROM djtasks_message").fetchone()
        assert found is not None
        assert found[0] == self.made - self.ends

    def teardown(self) -> None:
        # All that is left ends, if everybody is let in again and again.
        self.come_due()
        for _ in range(self.made * 2 + 4):
            self.admit({"a", "b"})
            self.claim(5)
            self.pull()
            while self.held:
                each = self.held.pop()
                assert finish.finish(self.conn, self.owner, [ended(each)], None)
                self.ends += 1
            self.come_due()
        assert self.made == self.ends
        self.conn.close()


TestCluster = Cluster.TestCase
TestCluster.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestCluster = pytest.mark.usefixtures("db")(TestCluster)
