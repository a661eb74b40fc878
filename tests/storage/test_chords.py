"""Chords: each part counts once, the last one closes, and nothing is left behind."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import psycopg
import pytest

from djtasks import ending
from djtasks.db import chords, finish, groups
from djtasks.db.chords import Cause, Complete
from djtasks.db.connections import CONFLICTS
from djtasks.db.pipe import ask
from djtasks.ending import Sequel
from djtasks.ids import new_task_id
from djtasks.messages import Chord, Claimed, Fallen, Outcome
from djtasks.worker.completer import Completer
from djtasks.worker.pulse import Pulse
from djtasks.worker.state import State
from tests.storage.rows import NODE, Table, ended, hire, message, put, take
from tests.storage.test_plans import FEW, explain, nodes, read
from tests.waits import wait_until

Connect = Callable[..., psycopg.Connection]
Closed = list[tuple[Complete, list[chords.Ended]]]
FAILED = Cause("FAILURE", b'"why"')


def open_chord(conn: psycopg.Connection, size: int, *, members: int | None = None, **fields: Any) -> str:
    """A chord of so many parts, and the messages of its members."""
    chord = new_task_id()
    with conn.transaction():
        chords.open_chords(conn, [Chord(chord, size, '{"body": true}', fields.get("body_id"))])
        for part in range(size if members is None else members):
            put(conn, chord=chord, part=part)
    return chord


def orphans(table: Table) -> int:
    """How many rows of chords and parts there are."""
    return int(table.value("SELECT (SELECT count(*) FROM djtasks_chord) + (SELECT count(*) FROM djtasks_part)"))


@pytest.fixture
def owner(conn: psycopg.Connection) -> int:
    return hire(conn)


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> Closed:
    """The chords that were closed, with their parts; each sends a body."""
    seen: Closed = []

    def close(complete: Complete, parts: Sequence[chords.Ended]) -> Sequel:
        seen.append((complete, list(parts)))
        return Sequel([message(name="tests.body")])

    monkeypatch.setattr(ending, "_closers", [close])
    return seen


def bodies(table: Table) -> int:
    """How many bodies were sent."""
    return int(table.value("SELECT count(*) FROM djtasks_message WHERE name = 'tests.body'"))


# -- counting -----------------------------------------------------------------------------------------------------


def test_the_last_part_closes_its_chord_with_the_results_in_the_headers_order(
    conn: psycopg.Connection, owner: int, table: Table, closed: Closed
) -> None:
    chord = open_chord(conn, 3)
    held = take(conn, owner)
    for each in (held[2], held[0]):
        ending.end(conn, owner, [ended(each, result=b"%d" % (each.part or 0))], NODE)
    assert chords.progress(conn, [chord]) == {chord: (2, 3, None)}
    assert closed == []
    done = ending.end(conn, owner, [ended(held[1], result=b"1")], NODE)
    ((complete, parts),) = closed
    assert (complete.id, complete.body, complete.failed) == (chord, '{"body": true}', None)
    assert [(each.part, each.task, each.failed, each.result) for each in parts] == [
        (number, each.id, False, b"%d" % number) for number, each in enumerate(held)
    ]
    assert [each.name for each in done.successors] == ["tests.body"]
    assert (bodies(table), orphans(table)) == (1, 0)


def test_a_whole_header_that_ends_in_one_batch_closes_its_chord_once(
    conn: psycopg.Connection, owner: int, table: Table, closed: Closed
) -> None:
    open_chord(conn, 50)
    ending.end(conn, owner, [ended(each) for each in take(conn, owner)], NODE)
    assert (len(closed), len(closed[0][1]), bodies(table), orphans(table)) == (1, 50, 1, 0)


def test_the_lowest_failed_part_is_kept(conn: psycopg.Connection, owner: int, closed: Closed) -> None:
    open_chord(conn, 4)
    held = take(conn, owner)
    for number, state in ((3, "REVOKED"), (1, "FAILURE"), (2, "FAILURE"), (0, "SUCCESS")):
        ending.end(conn, owner, [ended(held[number], state)], NODE)
    ((complete, parts),) = closed
    assert complete.failed == 1
    assert [each.failed for each in parts] == [False, True, True, True]


def test_what_is_ignored_counts_and_is_no_failure(conn: psycopg.Connection, owner: int, closed: Closed) -> None:
    open_chord(conn, 1)
    (held,) = take(conn, owner)
    ending.end(conn, owner, [ended(held, "IGNORED", result=None, store=False)], NODE)
    ((complete, parts),) = closed
    assert (complete.failed, parts[0].failed, parts[0].result) == (None, False, None)


def test_a_result_that_is_not_stored_is_there_for_the_body(
    conn: psycopg.Connection, owner: int, table: Table, closed: Closed
) -> None:
    open_chord(conn, 1)
    (held,) = take(conn, owner)
    ending.end(conn, owner, [ended(held, result=b"7", store=False)], NODE)
    assert closed[0][1][0].result == b"7"
    assert table.results() == 0


def test_a_part_that_is_replaced_does_not_count_and_its_replacement_does(
    conn: psycopg.Connection, owner: int, table: Table, closed: Closed
) -> None:
    chord = open_chord(conn, 1)
    (held,) = take(conn, owner)
    follower = tuple(message(id=held.id, chord=chord, part=0))
    outcome = ended(held, "IGNORED", result=None, store=False, replaced=True, successors=(follower,))
    ending.end(conn, owner, [outcome], NODE)
    assert closed == []
    (again,) = take(conn, owner)
    assert (again.id, again.chord, again.part) == (held.id, chord, 0)
    ending.end(conn, owner, [ended(again)], NODE)
    assert (len(closed), orphans(table)) == (1, 0)


def test_an_end_that_is_refused_or_repeated_counts_once(
    conn: psycopg.Connection, owner: int, table: Table, closed: Closed
) -> None:
    chord = open_chord(conn, 2)
    first, second = take(conn, owner)
    ending.end(conn, owner + 1, [ended(first)], NODE)
    for _ in range(3):
        ending.end(conn, owner, [ended(first)], NODE)
    assert chords.progress(conn, [chord])[chord][0] == 1
    for _ in range(2):
        ending.end(conn, owner, [ended(second)], NODE)
    assert (len(closed), bodies(table), orphans(table)) == (1, 1, 0)


def test_two_messages_of_the_same_part_count_once(conn: psycopg.Connection, owner: int, closed: Closed) -> None:
    chord = open_chord(conn, 2, members=1)
    put(conn, chord=chord, part=0)
    for each in take(conn, owner):
        ending.end(conn, owner, [ended(each)], NODE)
    assert chords.progress(conn, [chord]) == {chord: (1, 2, None)}
    assert closed == []


def test_a_part_of_a_chord_that_is_gone_is_dropped(
    conn: psycopg.Connection, owner: int, table: Table, closed: Closed
) -> None:
    put(conn, chord=new_task_id(), part=0)
    (held,) = take(conn, owner)
    assert ending.end(conn, owner, [ended(held)], NODE).accepted == {held.id}
    assert (closed, orphans(table), table.results()) == ([], 0, 1)


def test_parts_and_other_messages_end_in_one_batch(
    conn: psycopg.Connection, owner: int, table: Table, closed: Closed
) -> None:
    open_chord(conn, 2)
    open_chord(conn, 1)
    put(conn, 2)
    held = take(conn, owner)
    assert ending.end(conn, owner, [ended(each) for each in held], NODE).accepted == {each.id for each in held}
    assert (len(closed), bodies(table), orphans(table), table.results()) == (2, 2, 0, 5)


def test_a_chord_that_grows_waits_for_what_was_added(
    conn: psycopg.Connection, owner: int, table: Table, closed: Closed
) -> None:
    chord = open_chord(conn, 1)
    assert chords.grow(conn, chord, 2) == 1
    put(conn, chord=chord, part=1)
    put(conn, chord=chord, part=2)
    held = take(conn, owner)
    ending.end(conn, owner, [ended(each) for each in held[:2]], NODE)
    assert closed == []
    ending.end(conn, owner, [ended(held[2])], NODE)
    assert [each.part for each in closed[0][1]] == [0, 1, 2]
    assert chords.grow(conn, chord, 1) is None
    assert orphans(table) == 0


# -- what never runs ----------------------------------------------------------------------------------------------


def test_what_falls_ends_as_its_cause_did_and_counts_as_failed(
    conn: psycopg.Connection, owner: int, table: Table, closed: Closed
) -> None:
    chord = open_chord(conn, 2, members=1)
    put(conn)
    member, before = sorted(take(conn, owner), key=lambda each: each.chord is None)
    ending.end(conn, owner, [ended(member)], NODE)
    fallen = tuple(Fallen(new_task_id(), "tests.last", "celery", chord=chord, part=1))
    done = ending.end(conn, owner, [ended(before, "FAILURE", result=b'"why"', fallen=(fallen,))], NODE)
    assert done.fallen[:1] == [fallen[0]]
    ((complete, parts),) = closed
    assert (complete.failed, parts[1].task, parts[1].result) == (1, fallen[0], b'"why"')
    found = table.result(fallen[0])
    assert found is not None
    assert (found["state"], bytes(found["result"]), found["name"]) == ("FAILURE", b'"why"', "tests.last")
    assert orphans(table) == 0


def test_a_failure_goes_through_chords_within_chords_in_one_transaction(
    conn: psycopg.Connection, owner: int, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer, bodies_of = new_task_id(), [new_task_id() for _ in range(3)]
    chords.open_chords(conn, [Chord(outer, 3, "{}", new_task_id())])
    inner = [open_chord(conn, 1, body_id=each) for each in bodies_of]
    order = []

    def close(complete: Complete, parts: Sequence[chords.Ended]) -> Sequel:
        order.append(complete.id)
        if complete.id == outer:
            return Sequel()
        fallen = Fallen(complete.body_id or "", "tests.body", chord=outer, part=inner.index(complete.id))
        return Sequel(fallen=[(FAILED, [fallen])])

    monkeypatch.setattr(ending, "_closers", [close])
    held = take(conn, owner)
    ending.end(conn, owner, [ended(each, "FAILURE") for each in held], NODE)
    assert order == [*sorted(inner), outer]
    assert orphans(table) == 0
    assert {row["id"] for row in table.rows("SELECT id::text FROM djtasks_result")} >= set(bodies_of)


def test_a_body_that_is_a_chord_is_opened_by_the_end_of_its_header(
    conn: psycopg.Connection, owner: int, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = new_task_id()

    def close(complete: Complete, parts: Sequence[chords.Ended]) -> Sequel:
        if complete.id == second:
            return Sequel([message(name="tests.body")])
        made = [message(chord=second, part=part) for part in range(2)]
        return Sequel(made, [Chord(second, 2, "{}")])

    monkeypatch.setattr(ending, "_closers", [close])
    open_chord(conn, 2)
    ending.end(conn, owner, [ended(each) for each in take(conn, owner)], NODE)
    assert chords.progress(conn, [second]) == {second: (0, 2, None)}
    ending.end(conn, owner, [ended(each) for each in take(conn, owner)], NODE)
    assert (bodies(table), orphans(table)) == (1, 0)


def test_what_fell_keeps_the_end_that_it_had(conn: psycopg.Connection, owner: int, table: Table) -> None:
    put(conn)
    (held,) = take(conn, owner)
    ending.end(conn, owner, [ended(held)], NODE)
    chords.fall(conn, FAILED, [Fallen(held.id, "tests.add")])
    found = table.result(held.id)
    assert found is not None
    assert found["state"] == "SUCCESS"


# -- two sessions -------------------------------------------------------------------------------------------------


def run(work: Callable[[], object]) -> threading.Thread:
    """Do it in a thread."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def waits_for_a_lock(table: Table, conn: psycopg.Connection) -> bool:
    """Whether the session waits for another one's transaction."""
    return bool(table.value("SELECT cardinality(pg_blocking_pids(%s)) > 0", conn.info.backend_pid))


def test_last_parts_that_end_at_the_same_time_close_their_chord_once(
    connect: Connect, conn: psycopg.Connection, owner: int, table: Table, closed: Closed
) -> None:
    other = connect()
    chord = open_chord(conn, 2)
    first, second = take(conn, owner)
    with conn.transaction():
        assert finish.finish_parts(conn, owner, [ended(first)], NODE) == ({first.id}, [])
        thread = run(lambda: ending.end(other, owner, [ended(second)], NODE))
        wait_until(lambda: waits_for_a_lock(table, other), "the second one waits for the first")
    thread.join(10)
    assert [(complete.id, len(parts)) for complete, parts in closed] == [(chord, 2)]
    assert (bodies(table), orphans(table)) == (1, 0)


def test_a_part_whose_end_is_undone_has_not_counted(
    connect: Connect, conn: psycopg.Connection, owner: int, table: Table, closed: Closed
) -> None:
    other = connect()
    chord = open_chord(conn, 2)
    first, second = take(conn, owner)
    with conn.transaction(force_rollback=True):
        finish.finish_parts(conn, owner, [ended(first)], NODE)
        thread = run(lambda: ending.end(other, owner, [ended(second)], NODE))
        wait_until(lambda: waits_for_a_lock(table, other), "the second one waits for the first")
    thread.join(10)
    assert chords.progress(conn, [chord]) == {chord: (1, 2, None)}
    ending.end(conn, owner, [ended(first)], NODE)
    assert (len(closed), orphans(table)) == (1, 0)


def test_a_chord_that_grows_while_its_last_part_ends_is_not_complete(
    connect: Connect, conn: psycopg.Connection, owner: int, closed: Closed, table: Table
) -> None:
    other = connect()
    chord = open_chord(conn, 1)
    (held,) = take(conn, owner)
    with conn.transaction():
        assert chords.grow(conn, chord, 1) == 1
        thread = run(lambda: ending.end(other, owner, [ended(held)], NODE))
        wait_until(lambda: waits_for_a_lock(table, other), "the end waits for the growth")
        put(conn, chord=chord, part=1)
    thread.join(10)
    assert closed == []
    assert chords.progress(conn, [chord]) == {chord: (1, 2, None)}


def test_many_sessions_count_every_part_of_many_chords_and_close_each_once(
    connect: Connect, conn: psycopg.Connection, owner: int, table: Table, closed: Closed
) -> None:
    opened = {open_chord(conn, 12) for _ in range(10)}
    held = take(conn, owner)
    # Each session ends a part of every chord, in an order of its own.
    shares = [sorted((each for each in held if each.part == part), key=lambda each: each.id) for part in range(12)]
    conflicts = []

    def work(session: psycopg.Connection, share: list[Claimed]) -> None:
        outcomes = [ended(each, "FAILURE" if each.part == 5 else "SUCCESS") for each in share]
        for _ in range(20):
            try:
                ending.end(session, owner, outcomes, NODE)
                return
            except CONFLICTS as error:
                conflicts.append(error)

    threads = [run(partial(work, connect(), share)) for share in shares]
    for thread in threads:
        thread.join(20)
    assert {complete.id for complete, _ in closed} >= opened
    assert len({complete.id for complete, _ in closed}) == len(opened)
    assert all((complete.failed, len(parts)) == (5, 12) for complete, parts in closed)
    assert (bodies(table), orphans(table), table.results()) == (10, 0, 120)
    # Chords are locked in the order of their ids, so nobody meets anybody.
    assert conflicts == []


def test_transactions_that_fall_onto_each_others_chords_meet_and_one_is_undone_whole(
    connect: Connect, conn: psycopg.Connection, owner: int, table: Table, closed: Closed
) -> None:
    other = connect()
    one, two = open_chord(conn, 2, members=1), open_chord(conn, 2, members=1)
    held = {each.chord: each for each in take(conn, owner)}
    conn.execute("SET deadlock_timeout = '10ms'")
    other.execute("SET deadlock_timeout = '10ms'")
    barrier = threading.Barrier(2)
    conflicts = []

    def outcome_of(chord: str, behind: str) -> Outcome:
        fallen = tuple(Fallen(new_task_id(), "tests.last", chord=behind, part=1))
        return ended(held[chord], "FAILURE", fallen=(fallen,))

    def work(session: psycopg.Connection, outcome: Outcome) -> None:
        for attempt in range(10):
            try:
                with session.transaction():
                    _, complete = finish.finish_parts(session, owner, [outcome], NODE)
                    if not attempt:
                        barrier.wait(10)
                    complete += chords.fall(session, FAILED, [Fallen._make(each) for each in outcome.fallen])
                    done = ending.Ended(set(), [], [])
                    for each in chords.take(session, complete):
                        parts = chords.ended(session, [each.id])[each.id]
                        ending.follow(session, ending._closers[0](each, parts), done)
                return
            except CONFLICTS as error:
                conflicts.append(error)

    threads = [run(lambda: work(conn, outcome_of(one, two))), run(lambda: work(other, outcome_of(two, one)))]
    for thread in threads:
        thread.join(10)
    assert len(conflicts) == 1
    assert {complete.id for complete, _ in closed} == {one, two}
    assert (bodies(table), orphans(table)) == (2, 0)


# -- batches on their way without waiting -------------------------------------------------------------------------


class Hands:
    """A worker's hands, and its pipe."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self.conn = conn
        self.state = State(hire(conn))
        self.completer = Completer(self.state, NODE, lambda held, error: ended(held, "FAILURE", keep=True))

    def take(self) -> list[Claimed]:
        """Claim what waits."""
        found = take(self.conn, self.state.incarnation)
        self.state.take(found)
        return found

    def launch(self) -> bool:
        """Write a batch as a consumer does; whether one went."""
        if questions := self.completer.launch():
            ask(self.conn, *questions)
        return bool(questions)


@pytest.fixture
def hands(conn: psycopg.Connection) -> Hands:
    return Hands(conn)


def test_parts_go_on_their_way_without_waiting(hands: Hands, table: Table, closed: Closed) -> None:
    one, two = open_chord(hands.conn, 4), open_chord(hands.conn, 4)
    put(hands.conn)
    held = hands.take()
    for each in held[:3] + held[4:6] + held[8:]:
        hands.completer.add(ended(each, "FAILURE" if each.part == 1 else "SUCCESS"))
    assert hands.launch()
    assert not hands.completer.pending
    assert chords.progress(hands.conn, [one, two]) == {one: (3, 4, 1), two: (2, 4, 1)}
    assert (table.results(), len(hands.state.held), closed) == (6, 3, [])


def test_what_completes_a_chord_is_kept_back_and_written_at_once(hands: Hands, table: Table, closed: Closed) -> None:
    open_chord(hands.conn, 3)
    other = open_chord(hands.conn, 4)
    put(hands.conn)
    held = hands.take()
    done: list[str] = []
    for each in held[:5] + held[7:]:
        hands.completer.add(ended(each), partial(done.append, each.id))
    assert hands.launch()
    assert [each.id for each in hands.completer.outcomes] == [each.id for each in held[:3]]
    assert (table.results(), done) == (3, [held[3].id, held[4].id, held[7].id])
    assert hands.completer.due(idle=False)
    assert not hands.launch()
    hands.completer.flush(hands.conn)
    assert (len(closed), bodies(table), table.results(), len(done)) == (1, 1, 6, 6)
    assert not hands.completer.pending
    assert hands.state.counters["SUCCESS"] == 6
    assert chords.progress(hands.conn, [other])[other][0] == 2


def test_a_part_of_a_chord_that_is_gone_goes_with_the_others(hands: Hands, table: Table, closed: Closed) -> None:
    chord = open_chord(hands.conn, 2)
    (held, _) = hands.take()
    put(hands.conn, chord=new_task_id(), part=0)
    (lost,) = hands.take()
    for each in (held, lost):
        hands.completer.add(ended(each))
    assert hands.launch()
    assert (table.results(), table.value("SELECT count(*) FROM djtasks_part")) == (2, 1)
    assert chords.progress(hands.conn, [chord])[chord][0] == 1


def test_parts_whose_answer_was_lost_are_written_again_and_count_once(hands: Hands, table: Table) -> None:
    chord = open_chord(hands.conn, 4)
    for each in hands.take()[:3]:
        hands.completer.add(ended(each))
    questions = hands.completer.launch()
    landed, questions[0].answered = questions[0].answered, None
    ask(hands.conn, *questions)
    assert landed is not None
    questions[0].error = psycopg.OperationalError("lost")
    landed(questions[0])
    assert hands.completer.pending
    assert not hands.launch()
    hands.completer.flush(hands.conn)
    assert chords.progress(hands.conn, [chord])[chord][0] == 3
    assert (hands.completer.pending, hands.state.counters["SUCCESS"], table.results()) == (False, 3, 3)


def test_two_batches_that_complete_a_chord_together_do_not_both_go(
    hands: Hands, connect: Connect, table: Table, closed: Closed
) -> None:
    chord = open_chord(hands.conn, 2)
    first, second = hands.take()
    other = connect()
    with other.transaction():
        finish.finish_parts(other, hands.state.incarnation, [ended(first)], NODE)
        hands.completer.add(ended(second))
        thread = run(hands.launch)
        wait_until(lambda: waits_for_a_lock(table, hands.conn), "the second batch waits for the first")
    thread.join(10)
    assert table.result(second.id) is None
    assert chords.progress(hands.conn, [chord]) == {chord: (1, 2, None)}
    hands.completer.flush(hands.conn)
    assert (len(closed), len(closed[0][1]), orphans(table)) == (1, 2, 0)


# -- plans --------------------------------------------------------------------------------------------------------


@pytest.fixture
def full(conn: psycopg.Connection) -> str:
    """Many chords with parts, and the id of one of them that misses two."""
    conn.execute(
        "INSERT INTO djtasks_chord (id, size, ended, body) SELECT gen_random_uuid(), 22, 20, '{}'"
        " FROM generate_series(1, 2000)"
    )
    conn.execute(
        "INSERT INTO djtasks_part (chord, part, task) SELECT c.id, n, gen_random_uuid()"
        " FROM djtasks_chord c, generate_series(0, 19) n"
    )
    conn.execute(
        "INSERT INTO djtasks_message (id, name, queue, body, lane)"
        " SELECT gen_random_uuid(), 'tests.add', 'other', 'body', 'other' FROM generate_series(1, 20000)"
    )
    return str(conn.execute("SELECT id::text FROM djtasks_chord LIMIT 1").fetchone()[0])  # type: ignore[index]


@pytest.mark.parametrize("analyzed", [False, True])
def test_every_statement_reads_its_rows_by_key(full: str, analyzed: bool, conn: psycopg.Connection, owner: int) -> None:
    put(conn, 10, chord=full, part=20)
    held = take(conn, owner)
    if analyzed:
        conn.execute("ANALYZE djtasks_chord, djtasks_part, djtasks_message")
    ids = [each.id for each in held]
    outcome: dict[str, Any] = {
        "owner": owner,
        "worker": NODE,
        "ids": ids,
        "claims": [each.claim for each in held],
        **dict.fromkeys(("states", "content_types", "content_encodings"), ["SUCCESS"] * 10),
        **dict.fromkeys(("results", "tracebacks"), [None] * 10),
        **dict.fromkeys(("stores", "counts"), [True] * 10),
        "keeps": [False] * 10,
        "starts": [0.0] * 10,
    }
    fallen = dict.fromkeys(("ids", "root_ids", "parent_ids", "group_ids"), ids)
    fallen |= dict.fromkeys(("names", "queues"), ["x"] * 10)
    some: dict[str, Any] = {"chords": [full] * 10, "parts": list(range(20, 30))}
    statements: list[tuple[Any, dict[str, Any]]] = [
        (finish.FINISH_PARTS, outcome),
        (finish.FINISH_OPEN, {**outcome, "chords": [full], "parts": [1]}),
        (chords.FALL, {**fallen, **some, **FAILED._asdict()}),
        (chords.TAKE, {"ids": [full]}),
        (chords.ENDED, {"chords": [full]}),
        (chords.GROW, {"chord": full, "more": 1}),
        (chords.PROGRESS, {"ids": [full]}),
    ]
    for statement, params in statements:
        plan = explain(conn, statement, params)
        assert read(plan) < FEW, (statement, plan)
        assert not any(node["Node Type"] == "Seq Scan" for node in nodes(plan)), statement


# -- what was left behind -----------------------------------------------------------------------------------------


def test_parts_of_chords_that_are_gone_are_swept_up(conn: psycopg.Connection, owner: int, table: Table) -> None:
    kept, gone = open_chord(conn, 3), open_chord(conn, 3)
    held = take(conn, owner)
    ending.end(conn, owner, [ended(each) for each in held if each.part != 1], NODE)
    conn.execute("DELETE FROM djtasks_chord WHERE id = %s", [gone])
    assert chords.prune_parts(conn) == 2
    assert [str(row["chord"]) for row in table.rows("SELECT chord FROM djtasks_part")] == [kept, kept]
    assert chords.prune_parts(conn) == 0


@pytest.mark.parametrize(
    "fields", [{"chord": "{chord}", "part": 2}, {"headers": '{{"chain": ["{chord}"]}}'}, {"root_id": "{root}"}]
)
def test_a_chord_that_waits_for_a_message_is_not_stale(
    fields: dict[str, Any], conn: psycopg.Connection, owner: int
) -> None:
    chord, root = new_task_id(), new_task_id()
    chords.open_chords(conn, [Chord(chord, 3, "{}", root_id=root)])
    conn.execute("UPDATE djtasks_chord SET created = created - interval '2 hours'")
    put(conn)
    assert chords.stale(conn, 7200) == [chord]
    assert chords.stale(conn, 8000) == []
    said = {key: text.format(chord=chord, root=root) if isinstance(text, str) else text for key, text in fields.items()}
    put(conn, **said)
    assert chords.stale(conn, 7200) == []


def test_a_chord_that_waits_for_the_body_of_another_one_is_not_stale(conn: psycopg.Connection) -> None:
    chord, before = new_task_id(), new_task_id()
    chords.open_chords(conn, [Chord(chord, 1, "{}"), Chord(before, 1, f'{{"options": {{"chord": "{chord}"}}}}')])
    conn.execute("UPDATE djtasks_chord SET created = created - interval '2 hours'")
    assert chords.stale(conn, 7200) == [before]


def test_the_maintenance_closes_a_chord_whose_part_was_removed_by_hand(
    conn: psycopg.Connection, owner: int, table: Table, closed: Closed
) -> None:
    chord = open_chord(conn, 3)
    held = take(conn, owner)
    ending.end(conn, owner, [ended(held[1])], NODE)
    conn.execute("DELETE FROM djtasks_message")
    conn.execute("UPDATE djtasks_chord SET created = created - interval '2 days'")
    pulse = Pulse(
        State(owner),
        NODE,
        tell=lambda news: None,
        concurrency=lambda: 1,
        process_group=lambda: None,
        known=tuple,
        queues=["celery"],
    )
    pulse._forsake_at = 0.0
    pulse.forsake(conn)
    ((complete, parts),) = closed
    assert (complete.id, complete.failed, [each.failed for each in parts]) == (chord, 0, [True, False, True])
    assert (bodies(table), orphans(table)) == (1, 0)


def test_saved_groups_are_deleted_when_their_time_is_over(conn: psycopg.Connection, table: Table) -> None:
    kept, old = new_task_id(), new_task_id()
    groups.save(conn, kept, b"[]", None)
    groups.save(conn, old, b"[]", -1.0)
    assert groups.prune(conn) == 1
    assert [str(row["id"]) for row in table.rows("SELECT id FROM djtasks_group")] == [kept]
