"""What is not to be said too often."""

import threading
from collections.abc import Iterator

import psycopg
import pytest

from djtasks.db.connections import open_private
from djtasks.db.throttles import may_speak

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def conn() -> Iterator[psycopg.Connection]:
    with open_private("test") as conn:
        yield conn


def test_the_second_time_is_held_back_and_the_next_one_says_how_many_were(conn: psycopg.Connection) -> None:
    assert may_speak(conn, "a", 60) == 0
    assert may_speak(conn, "a", 60) is None
    assert may_speak(conn, "a", 60) is None
    assert may_speak(conn, "b", 60) == 0
    conn.execute("UPDATE djtasks_throttle SET until = now() - interval '1 second'")
    assert may_speak(conn, "a", 60) == 2
    assert may_speak(conn, "a", 60) is None


def test_of_many_at_the_same_time_one_may_speak(conn: psycopg.Connection) -> None:
    answers: list[int | None] = []
    start = threading.Barrier(8)

    def ask() -> None:
        with open_private("test") as own:
            start.wait()
            answers.append(may_speak(own, "a", 60))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer is None for answer in answers) == [False] + [True] * 7


def test_what_is_long_over_is_forgotten(conn: psycopg.Connection) -> None:
    may_speak(conn, "old", 1)
    conn.execute("UPDATE djtasks_throttle SET until = now() - interval '8 days'")
    may_speak(conn, "new", 1)
    assert conn.execute("SELECT key FROM djtasks_throttle").fetchall() == [("new",)]
