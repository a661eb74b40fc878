"""`manage.py djtasks status`, `inspect` and `control`, with a worker that answers."""

import json
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from djtasks import app, shared_task
from djtasks.ids import new_task_id
from djtasks.panel import Panel, control_command
from djtasks.testing.worker import start_worker

pytestmark = pytest.mark.django_db(transaction=True, available_apps=None)
Command = Callable[..., tuple[int, str]]
NODE = "cli@here"
PATIENT = ("-t", "10")


@shared_task(name="tests.cli.counted")
def counted() -> None:
    """Known to the worker."""


def refused(*args: str) -> tuple[int, str]:
    """The exit code and the sentence of a command that cannot do what it was asked for."""
    with pytest.raises(CommandError) as caught:
        call_command("djtasks", *args, stdout=StringIO())
    return caught.value.returncode, str(caught.value)


@pytest.fixture
def worker(transactional_db: None) -> Iterator[str]:
    """A worker inside; returns its node's name."""
    with start_worker(pool="threads", hostname=NODE, perform_ping_check=False) as found:
        assert found.ready.wait(20)
        yield NODE


def test_status_says_who_answers(worker: str, djtasks_command: Command) -> None:
    assert djtasks_command("status", *PATIENT) == (0, f"->  {NODE}: OK\n\n1 node online.\n")
    code, said = djtasks_command("status", *PATIENT, "--json", "-d", NODE)
    assert (code, json.loads(said)) == (0, {NODE: {"ok": "pong"}})


def test_inspect_asks_with_arguments_and_answers_as_text_or_json(worker: str, djtasks_command: Command) -> None:
    later = counted.apply_async(countdown=600)
    code, said = djtasks_command("inspect", *PATIENT, "ping")
    assert (code, said) == (0, f"->  {NODE}: OK\n    pong\n\n1 node online.\n")
    code, said = djtasks_command("inspect", *PATIENT, "-j", "query_task", later.id, new_task_id())
    assert json.loads(said)[NODE][later.id][0] == "scheduled"
    code, said = djtasks_command("inspect", *PATIENT, "registered", "name")
    assert "* tests.cli.counted [name=tests.cli.counted]" in said
    assert "- empty -" in djtasks_command("inspect", *PATIENT, "active")[1]
    code, said = djtasks_command("inspect", *PATIENT, "-j", "conf", "yes")
    assert json.loads(said)[NODE]["worker_enable_remote_control"] is True
    assert "query_task [id1" in djtasks_command("inspect", "--list")[1]


def test_control_tells_and_says_what_was_answered(worker: str, djtasks_command: Command) -> None:
    code, said = djtasks_command("control", *PATIENT, "add_consumer", "slow")
    assert (code, said) == (0, f"->  {NODE}: OK\n    add consumer slow\n")
    code, said = djtasks_command("control", *PATIENT, "--json", "rate_limit", "tests.cli.counted", "9/m")
    assert (code, json.loads(said)) == (0, [{NODE: {"ok": "new rate limit set successfully"}}])
    assert djtasks_command("control", *PATIENT, "time_limit", "tests.cli.counted", "5", "9")[0] == 0
    assert counted.time_limit == 9
    assert djtasks_command("control", *PATIENT, "pool_grow", "2") == (0, f"->  {NODE}: OK\n    pool will grow\n")
    assert djtasks_command("control", *PATIENT, "pool_shrink", "2")[0] == 0
    # It was obeyed by nobody.
    code, said = djtasks_command("control", *PATIENT, "autoscale", "4", "1")
    assert (code, "Autoscale not enabled" in said) == (1, True)
    later = counted.apply_async(countdown=600)
    assert djtasks_command("control", "revoke", later.id) == (0, f"{later.id}: prevented\n")
    assert djtasks_command("control", "terminate", "KILL", later.id) == (0, f"{later.id}: done\n")
    assert "nothing that is there" in djtasks_command("control", "revoke_by_stamped_headers", "a=b")[1]
    assert "revoke id1" in djtasks_command("control", "--list")[1]


def test_a_command_of_a_projects_own_takes_its_arguments_in_order(worker: str, djtasks_command: Command) -> None:
    @control_command(args=[("times", int)], variadic="words", signature="<times> [word …]")
    def shout(state: Any, times: int, words: Any = ()) -> dict[str, Any]:
        """Shout."""
        return {"ok": " ".join(words).upper() * times}

    try:
        assert "HOHO" in djtasks_command("control", *PATIENT, "shout", "2", "ho")[1]
        assert refused("control", "shout", "two")[0] == 64
    finally:
        del Panel.data["shout"], Panel.meta["shout"]


def test_control_shutdown_says_who_was_told(worker: str, djtasks_command: Command) -> None:
    assert djtasks_command("control", "shutdown") == (0, f"They end what runs, and stop: {NODE}.\n")


def test_nobody_answers_is_exit_code_69() -> None:
    assert refused("status", "-t", "0.1") == (69, "No nodes replied within time constraint")
    assert refused("inspect", "-t", "0.1", "active")[0] == 69
    assert refused("control", "-t", "0.1", "cancel_consumer", "x")[0] == 69
    assert refused("control", "shutdown") == (69, "no worker lives that could be told")
    assert refused("inspect", "-d", "a@b,c@d", "ping") == (69, "no worker has the name a@b, c@d; there is none")


def test_the_tables_answer_for_a_worker_that_does_not(djtasks_command: Command) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO djtasks_worker (incarnation, name, host, pid, pid_started, boot_id, pid_namespace, pool,"
            " concurrency, queues, counters, heartbeat, started) VALUES (7, 'dead@here', '', 1, '', '', '', 'prefork',"
            """ 2, '["celery"]', '{}', now() - interval '1 hour', now())"""
        )
    code, said = djtasks_command("inspect", "-t", "0", "active_queues")
    assert (code, "dead@here: OK" in said, "as the tables say: dead@here" in said) == (0, True, True)
    assert "0 nodes online" in said


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("inspect",), "which command? There are active"),
        (("inspect", "actve"), "did you mean 'active'?"),
        (("inspect", "shutdown"), "no inspect command 'shutdown'"),
        (("control", "ping"), "no control command 'ping'"),
        (("control", "make_coffee"), "see --list"),
        (("control", "pool_grow", "1000000"), "n must be a whole number from 1 to 1024"),
        (("control", "pool_grow", "many"), "pool_grow takes [N=1]"),
        (("control", "autoscale", "1", "2"), "must not be above max"),
        (("control", "rate_limit"), "see --list"),
        (("control", "rate_limit", "x", "often"), "rate_limit"),
        (("control", "heartbeat", "now"), "now is too much: heartbeat takes no arguments"),
        (("control", "add_consumer", ""), "a queue must be the name"),
        (("control", "revoke"), "it takes an id"),
        (("control", "terminate", "NOSUCH", "id"), "there is no signal"),
        (("inspect", "conf", "perhaps"), "true or false"),
        (("inspect", "-t", "-1", "ping"), "timeout must be seconds"),
        (("status", "-t", "nan"), "timeout must be seconds"),
    ],
)
def test_what_makes_no_sense_is_a_sentence_and_exit_code_64(args: tuple[str, ...], sentence: str) -> None:
    code, said = refused(*args)
    assert (code, sentence in said) == (64, True), said


def test_what_was_said_is_kept_with_who_said_it(worker: str, djtasks_command: Command) -> None:
    djtasks_command("control", *PATIENT, "cancel_consumer", "slow")
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, by <> '' FROM djtasks_command")
        assert cursor.fetchall() == [("cancel_consumer", True)]
    assert app.control.inspect(NODE, timeout=10).ping() == {"ok": "pong"}
