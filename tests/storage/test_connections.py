"""Connections: private ones share nothing with Django's, say who they are, and come back after a loss."""

from collections.abc import Callable

import psycopg
import pytest
from django.db import connection, connections, transaction

from djtasks.db.connections import Link, borrow, open_private, rows
from tests.storage.rows import Table, message, put

Connect = Callable[..., psycopg.Connection]


def shown(conn: psycopg.Connection, setting: str) -> str:
    """The value of a setting in this session."""
    found = conn.execute(f"SHOW {setting}".encode()).fetchone()
    assert found is not None
    return str(found[0])


def test_a_private_connection_has_the_settings_that_our_plans_stand_on(conn: psycopg.Connection) -> None:
    wanted = {
        "default_transaction_isolation": "read committed",
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "plan_cache_mode": "force_generic_plan",
        "jit": "off",
        "statement_timeout": "0",
        "lock_timeout": "0",
        "idle_in_transaction_session_timeout": "20s",
        "application_name": "djtasks test",
    }
    assert {setting: shown(conn, setting) for setting in wanted} == wanted
    assert conn.autocommit


#: A timeout is the caller's; how durable a commit is, is the project's to say.
OWN = "-c work_mem=5MB -c synchronous_commit=off -c lock_timeout=2s -c statement_timeout=3s"


def test_a_project_s_own_options_are_kept_beside_ours(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {**connection.settings_dict.get("OPTIONS", {}), "options": OWN, "application_name": "site"}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    conn = connect("worker x@y")
    assert shown(conn, "work_mem") == "5MB"
    assert shown(conn, "synchronous_commit") == "off"
    assert (shown(conn, "lock_timeout"), shown(conn, "statement_timeout")) == ("0", "0")
    assert shown(conn, "enable_seqscan") == "off"
    assert shown(conn, "application_name") == "djtasks worker x@y"


def test_behind_a_transaction_pooling_proxy_nothing_is_set_and_nothing_prepared(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, table: Table
) -> None:
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
    conn = connect()
    assert shown(conn, "enable_seqscan") == "on"
    assert conn.prepare_threshold is None
    for _ in range(10):
        put(conn)
    found = conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert found == (0,)
    assert table.messages() == 10


def test_a_private_connection_sees_and_touches_nothing_of_the_caller_s_transaction(conn: psycopg.Connection) -> None:
    with transaction.atomic():
        made = message()
        put(connection, id=made.id)
        assert rows(connection, "SELECT count(*) FROM djtasks_message") == [(1,)]
        assert rows(conn, "SELECT count(*) FROM djtasks_message") == [(0,)]


def test_a_session_of_ours_that_forgets_its_transaction_is_ended_by_the_server(conn: psycopg.Connection) -> None:
    # No worker that hangs may hold a lock, and with it what a dead one held, for longer than a host's death may take.
    assert shown(conn, "idle_in_transaction_session_timeout") == "20s"


def test_the_server_ends_a_session_whose_peer_takes_no_answer_any_more(conn: psycopg.Connection) -> None:
    # A claim holds its locks until the last byte of its answer is out.
    wanted = {"tcp_user_timeout": "12000", "tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2"}
    assert {setting: shown(conn, setting) for setting in wanted} == wanted


def test_the_lent_connection_is_django_s_own() -> None:
    assert borrow() is connections["default"]
    assert borrow("other") is connections["other"]


# -- a link -------------------------------------------------------------------------------------------------------


def test_a_link_is_opened_when_it_is_first_needed_and_kept(table: Table) -> None:
    link = Link("test link")
    assert not link.opened
    conn = link.connection()
    assert link.opened
    assert link.connection() is conn
    link.close()
    assert not link.opened
    assert conn.closed


def test_a_link_that_was_lost_is_opened_again_and_counts_its_losses(conn: psycopg.Connection) -> None:
    link = Link("test link")
    first = link.connection()
    conn.execute("SELECT pg_terminate_backend(%s, 5000)", [first.info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        first.execute("SELECT 1")
    link.lost()
    second = link.connection()
    assert second is not first
    assert link.losses == 1
    assert rows(second, "SELECT 1") == [(1,)]
    link.close()


def test_closing_a_link_that_is_broken_or_was_never_opened_is_no_error(conn: psycopg.Connection) -> None:
    link = Link("test link")
    link.close()
    link.lost()
    conn.execute("SELECT pg_terminate_backend(%s, 5000)", [link.connection().info.backend_pid])
    link.close()
    link.close()


def test_a_server_that_is_not_there_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "PORT", 1)
    with pytest.raises(psycopg.OperationalError):
        open_private("test")
