"""Pipes: many statements in one round trip, each with an answer of its own."""

import selectors
from typing import Any

import psycopg
import pytest
from django.db import connection, connections

from djtasks.db.connections import direct
from djtasks.db.pipe import Pipe, Question, Statement, ask
from djtasks.worker.database import Database

ECHO = Statement("SELECT %(text)s::text, %(number)s::bigint + 1, %(data)s::bytea, %(nothing)s::text")
DIVIDE = Statement("SELECT 1 / %(by)s::integer")
PID = Statement("SELECT pg_backend_pid()")


def echo(text: str = "a") -> Question:
    return Question(ECHO, {"text": text, "number": 2**40, "data": b"\0\xff", "nothing": None})


def test_questions_are_answered_in_their_order_each_with_its_own_rows(conn: psycopg.Connection[Any]) -> None:
    questions = [echo(text) for text in "äbc"]
    ask(conn, *questions)
    assert [question.answer() for question in questions] == [[(text, 2**40 + 1, b"\0\xff", None)] for text in "äbc"]


def test_one_that_fails_leaves_the_others_alone(conn: psycopg.Connection[Any]) -> None:
    questions = [echo(), Question(DIVIDE, {"by": 0}), echo("b")]
    ask(conn, *questions)
    with pytest.raises(psycopg.errors.DivisionByZero):
        questions[1].answer()
    assert questions[0].answer()
    assert questions[2].answer()
    assert conn.execute("SELECT 1").fetchall() == [(1,)]


def test_a_statement_that_cannot_be_prepared_can_be_asked_again(conn: psycopg.Connection[Any]) -> None:
    statement = Statement("SELECT count(*) FROM not_there_yet")
    for _ in range(2):
        question = Question(statement, {})
        ask(conn, question)
        assert isinstance(question.error, psycopg.errors.UndefinedTable)
    conn.execute("CREATE TEMP TABLE not_there_yet ()")
    question = Question(statement, {})
    ask(conn, question)
    assert question.answer() == [(0,)]


def test_a_session_that_has_forgotten_its_statements_is_asked_again(conn: psycopg.Connection[Any]) -> None:
    ask(conn, echo())
    conn.execute("DEALLOCATE ALL")
    questions = [echo("a"), echo("b")]
    ask(conn, *questions)
    assert [question.answer()[0][0] for question in questions] == ["a", "b"]


def test_what_text_cannot_carry_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(psycopg.DataError, match="NUL"):
        echo("a\0b")


def test_answers_are_heard_of_as_they_come(conn: psycopg.Connection[Any]) -> None:
    heard: list[Question] = []
    sent = Pipe(conn)
    questions = [Question(PID, {}, heard.append), Question(DIVIDE, {"by": 0}, heard.append)]
    sent.send(*questions)
    assert sent.busy
    sent.settle()
    assert heard == questions
    assert not sent.busy


def test_a_lost_connection_fails_all_that_was_asked(conn: psycopg.Connection[Any]) -> None:
    heard: list[Question] = []
    sent = Pipe(conn)
    sent.send(Question(Statement("SELECT pg_terminate_backend(pg_backend_pid())"), {}, heard.append))
    sent.send(Question(PID, {}, heard.append))
    with pytest.raises(psycopg.OperationalError) as lost:
        sent.settle()
    sent.fail(lost.value)
    assert len(heard) == 2
    assert all(isinstance(question.error, psycopg.OperationalError) for question in heard)


@pytest.mark.django_db(transaction=True)
def test_where_statements_are_to_be_seen_there_is_no_way_around_djangos_cursor() -> None:
    assert direct(connections["default"]) is connection.connection
    with connection.execute_wrapper(lambda execute, *rest: execute(*rest)):
        assert direct(connections["default"]) is None
    connection.force_debug_cursor = True
    try:
        assert direct(connections["default"]) is None
    finally:
        connection.force_debug_cursor = False


def test_rows_count_for_nothing_until_the_statement_is_committed(conn: psycopg.Connection[Any]) -> None:
    conn.execute("CREATE TEMP TABLE slow (id integer)")
    conn.execute(
        "CREATE FUNCTION pg_temp.leave() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END$$"
    )
    conn.execute(
        "CREATE CONSTRAINT TRIGGER leaves AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION pg_temp.leave()"
    )
    sent = Pipe(conn)
    question = Question(Statement("INSERT INTO slow VALUES (1) RETURNING id"), {})
    sent.send(question)
    with pytest.raises(psycopg.OperationalError) as lost:
        sent.settle()
    sent.fail(lost.value)
    with pytest.raises(psycopg.OperationalError):
        question.answer()


def test_a_large_question_and_a_large_answer_do_not_wait_for_each_other(conn: psycopg.Connection[Any]) -> None:
    large = "x" * 5_000_000
    questions = [echo(large) for _ in range(3)]
    ask(conn, *questions)
    assert all(question.answer()[0][0] == large for question in questions)


def test_nothing_is_prepared_where_the_next_statement_may_reach_another_session(conn: psycopg.Connection[Any]) -> None:
    ask(conn, echo(), prepares=False)
    assert conn.execute("SELECT name FROM pg_prepared_statements WHERE name LIKE 'djtasks%'").fetchall() == []
    ask(conn, echo())
    assert len(conn.execute("SELECT name FROM pg_prepared_statements WHERE name LIKE 'djtasks%'").fetchall()) == 1


def test_what_was_asked_on_a_session_that_closed_behind_our_back_is_in_doubt(db: None) -> None:
    database = Database("test", selectors.DefaultSelector(), lambda _: None)
    heard: list[Question] = []
    try:
        database.ask(Question(PID, {}, heard.append))
        database.connection().close()
        assert database.attempt(lambda conn: conn.execute("SELECT 1"))
        assert [type(question.error) for question in heard] == [psycopg.OperationalError]
        assert database.losses == 1
    finally:
        database.close()
