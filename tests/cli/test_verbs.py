"""The verbs of `manage.py djtasks`: what they say, and how they exit."""

import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from djtasks import AsyncResult, queues
from djtasks.cli.umbrella import VERBS
from djtasks.conf.options import KINDS, Settings
from djtasks.ids import new_task_id
from djtasks.models import Message, Result
from djtasks.registry import tasks
from tests.admin.conftest import a_message, a_result
from tests.rules.celerys_settings import SETTINGS

pytestmark = pytest.mark.django_db
#: For verbs that have a connection of their own.
committed = pytest.mark.django_db(transaction=True, available_apps=None)
Command = Callable[..., tuple[int, str]]


def refused(*args: str) -> tuple[int, str]:
    """The exit code and the sentence of a command that cannot do what it was asked for."""
    with pytest.raises(CommandError) as caught:
        call_command("djtasks", *args, stdout=StringIO())
    return caught.value.returncode, str(caught.value)


def a_letter(dead: str | None, **fields: Any) -> Result:
    """The result of a task that did not succeed, with what it was called with."""
    kept = {"body": b"[[1], {}]", "body_content_type": "application/json", "body_content_encoding": "", "headers": None}
    return a_result(dead=dead, **{"state": "FAILURE", **kept, **fields})


def served(name: str, host: str, age: float = 0.0, queue: str = "celery") -> None:
    """The row of a worker whose heart beat so many seconds ago."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO djtasks_worker (incarnation, name, host, pid, pid_started, boot_id, pid_namespace, pool,"
            " concurrency, queues, counters, heartbeat, started) VALUES (%s, %s, %s, 1, '', '', '', 'prefork', 2,"
            " %s::jsonb, '{}', now() - %s * interval '1 second', now())",
            [abs(hash(name)) % 2**60, name, host, json.dumps([queue]), age],
        )


# -- call and result ----------------------------------------------------------------------------------------------


@committed
def test_call_enqueues_with_all_that_was_said_and_says_the_id(djtasks_command: Command) -> None:
    code, said = djtasks_command(
        *("call", "shop.send", "-a", "[1, 2]", "-k", '{"to": "me"}', "--queue", "mail", "--priority", "7"),
        *("--eta", "2096-01-01T12:00:00+00:00", "--expires", "3e9"),
    )
    row = Message.objects.get()
    assert (code, said.strip()) == (0, str(row.pk))
    assert (row.name, row.queue, row.priority) == ("shop.send", "mail", 7)
    assert row.eta is not None
    assert row.eta.year == 2096
    assert row.expires is not None
    assert json.loads(bytes(row.body))[:2] == [[1, 2], {"to": "me"}]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-a", "[1,"), "--args must be JSON"),
        (("-a", "{}"), "--args must be an array"),
        (("-k", "[]"), "--kwargs must be an object"),
        (("--eta", "soon"), "--eta must be a time as"),
        (("--eta", "2031-02-31T00:00"), "--eta 2031-02-31T00:00"),
        (("--expires", "nan"), "--expires must be a number"),
        (("--countdown", "-1"), "not enqueued"),
        (("--queue", "\0"), "not enqueued"),
        (("--serializer", "yam"), "not enqueued"),
        (("--priority", "1000000"), "not enqueued"),
    ],
)
def test_call_says_what_cannot_be_called_and_writes_nothing(options: tuple[str, ...], said: str) -> None:
    code, text = refused("call", "shop.send", *options)
    assert (code, said in text) == (64, True), text
    assert not Message.objects.exists()


def test_result_says_what_a_task_returned(djtasks_command: Command) -> None:
    good = a_result(result=b'{"n": 1}')
    assert djtasks_command("result", str(good.pk)) == (0, "{'n': 1}\n")
    code, said = djtasks_command("result", str(good.pk), "--json")
    assert (code, json.loads(said)["result"]) == (0, {"n": 1})


def test_result_fails_when_the_task_did_and_shows_its_traceback(djtasks_command: Command) -> None:
    body = json.dumps({"exc_type": "ValueError", "exc_module": "builtins", "exc_message": ["no"]}).encode()
    bad = a_result(state="FAILURE", result=body, traceback="Traceback: here")
    code, said = djtasks_command("result", str(bad.pk))
    assert (code, said.strip()) == (1, "FAILURE: ValueError: no")
    assert djtasks_command("result", str(bad.pk), "--traceback") == (1, "Traceback: here\n")


def test_result_does_not_wait_for_a_task_that_nobody_knows_nor_longer_than_it_was_told() -> None:
    code, said = refused("result", new_task_id())
    assert (code, "nobody knows a task" in said) == (69, True)
    code, said = refused("result", str(a_message().pk), "--timeout", "0")
    assert (code, "has not ended; it is PENDING" in said) == (69, True)


# -- queues ---------------------------------------------------------------------------------------------------------


@committed
def test_purge_asks_first_and_throws_away_what_waits_in_the_queues(
    djtasks_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for queue in ("mail", "mail", "news", "celery"):
        a_message(queue=queue, lane=queue)
    monkeypatch.setattr("sys.stdin", StringIO("n\n"))
    assert djtasks_command("purge", "-Q", "mail")[0] == 1
    assert Message.objects.count() == 4
    assert (
        djtasks_command("purge", "-f", "-Q", "mail,news", "-X", "news")[1] == "Purged 2 messages from 1 queue: mail\n"
    )
    monkeypatch.setattr("sys.stdin", StringIO("y\n"))
    assert djtasks_command("purge")[1].endswith("Purged 1 message from 1 queue: celery\n")
    assert json.loads(djtasks_command("purge", "-f", "--json")[1]) == {"purged": 0, "queues": ["celery"]}
    assert Message.objects.get().queue == "news"


def test_list_names_every_queue_with_what_is_in_it(djtasks_command: Command) -> None:
    a_message(queue="mail", lane="mail")
    served("w1@here", "here", queue="news")
    queues.pause("idle")
    found = {row["queue"]: row for row in json.loads(djtasks_command("list", "bindings", "--json")[1])}
    assert set(found) == {"celery", "idle", "mail", "news"}
    assert (found["mail"]["messages"], found["news"]["workers"], found["idle"]["paused"]) == (1, 1, True)
    assert "mail" in djtasks_command("list")[1]


def test_pause_and_resume_say_which_queues_they_have_changed(djtasks_command: Command) -> None:
    a_message(queue="mail", lane="mail")
    a_message(queue="later", eta=timezone.now() + timedelta(days=1))
    served("w1@here", "here", queue="news")
    assert djtasks_command("pause", "mail", "--by", "anna") == (0, "Paused 1 queue: mail\n")
    assert djtasks_command("pause", "--all")[1] == "Paused 3 queues: celery, later, news\n"
    assert djtasks_command("pause", "--all")[1] == "Paused no queue: they are so already\n"
    assert json.loads(djtasks_command("resume", "later", "mail", "--json")[1]) == {"resumed": ["later", "mail"]}
    assert queues.paused() == {"celery", "news"}
    assert djtasks_command("resume", "--all")[1] == "Resumed 2 queues: celery, news\n"
    assert djtasks_command("resume", "--all")[1] == "Resumed no queue: they are so already\n"
    for wrong in ((), ("mail", "--all")):
        assert refused("pause", *wrong) == (64, "name queues, or say --all")


# -- health ---------------------------------------------------------------------------------------------------------


def test_check_passes_and_fails_by_its_exit_code(djtasks_command: Command) -> None:
    assert djtasks_command("check", "--worker", "any")[0] == 69
    served("w1@there", "there", age=1)
    served("w2@there", "there", age=1000)
    assert djtasks_command("check", "--worker", "any")[0] == 0
    assert djtasks_command("check", "--worker", "w1@there")[0] == 0
    code, said = djtasks_command("check", "--worker", "w2@there", "--json")
    assert (code, json.loads(said)["worker"]["ok"]) == (69, False)
    # Without a name it is one of this host that must live.
    assert djtasks_command("check", "--worker")[0] == 69
    assert djtasks_command("check", "--beat") == (69, "beat: FAILED (there is none)\n")


def test_check_measures_how_long_what_might_run_has_waited(djtasks_command: Command) -> None:
    old = timezone.now() - timedelta(seconds=100)
    a_message(queue="celery", lane="celery", created=old)
    a_message(queue="later", lane="later", created=old, eta=timezone.now())
    a_message(queue="idle", lane="idle", created=old)
    queues.pause("idle")
    assert djtasks_command("check", "--queue-age", "60")[0] == 69
    assert djtasks_command("check", "--queue-age", "600")[0] == 0
    assert djtasks_command("check", "--queue-age", "60", "-Q", "later,idle,empty")[0] == 0


def test_check_is_one_statement(djtasks_command: Command, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        djtasks_command("check", "--worker", "any", "--beat", "--queue-age", "60")


@pytest.mark.parametrize("options", [(), ("--queue-age", "nan"), ("--worker", "--max-age", "-1")])
def test_check_says_what_it_cannot_be_asked(options: tuple[str, ...]) -> None:
    assert refused("check", *options)[0] == 64


# -- old rows ---------------------------------------------------------------------------------------------------------


@committed
def test_prune_deletes_what_is_older_than_it_was_told(djtasks_command: Command) -> None:
    old = timezone.now() - timedelta(seconds=100)
    a_result(done=old)
    a_letter("failed", done=old)
    kept = a_result()
    code, said = djtasks_command("prune", "--results", "60", "--dead", "60", "--json")
    found = json.loads(said)
    assert (code, found["results"], found["dead"]) == (0, 1, 1)
    assert Result.objects.get().pk == kept.pk
    assert refused("prune", "--results", "-1")[0] == 64


def test_requeue_runs_dead_letters_and_failures_again_that_fit(djtasks_command: Command) -> None:
    wanted = a_letter("rejected", name="shop.send", queue="mail")
    other = a_letter("failed", name="shop.other", queue="mail")
    failed = a_letter(None, name="shop.send", queue="news")
    code, said = djtasks_command("requeue", "--dead", "--task", "shop.send", "--dry-run")
    assert (code, Message.objects.count(), str(wanted.pk) in said) == (0, 0, True)
    assert djtasks_command("requeue", "--dead", "--task", "shop.send") == (0, "1 requeued\n")
    assert Message.objects.get().pk == wanted.pk
    assert djtasks_command("requeue", "--failed", "--queue", "news")[1] == "1 requeued\n"
    assert set(Result.objects.values_list("pk", flat=True)) == {other.pk}
    assert Message.objects.filter(pk=failed.pk).exists()
    assert djtasks_command("requeue", "--dead", "--limit", "1")[1] == "1 requeued\n"
    assert djtasks_command("requeue", "--dead", "--failed") == (0, "There is none.\n")


def test_requeue_by_id_says_what_became_of_each(djtasks_command: Command) -> None:
    letter, unknown = a_letter("failed"), new_task_id()
    code, said = djtasks_command("requeue", str(letter.pk), unknown, "--json")
    assert (code, json.loads(said)) == (1, {str(letter.pk): "requeued", unknown: "unknown"})


@pytest.mark.parametrize(
    "options",
    [(), ("x", "--dead"), (new_task_id(), "--task", "x"), ("--dead", "--since", "soon"), ("--dead", "--limit", "0")],
)
def test_requeue_says_what_it_cannot_be_asked(options: tuple[str, ...]) -> None:
    assert refused("requeue", *options)[0] == 64


# -- the others -------------------------------------------------------------------------------------------------------


def test_report_shows_versions_and_workers_and_no_secret(djtasks_command: Command) -> None:
    served("w1@there", "there")
    with override_settings(DJTASKS={"SECURITY_KEY_PASSWORD": "geheim"}):
        said = djtasks_command("report")[1]
    assert "djtasks:" in said
    assert "PostgreSQL 1" in said
    assert "w1@there" in said
    assert "geheim" not in said
    assert json.loads(djtasks_command("report", "--json")[1])["workers"][0]["name"] == "w1@there"


def test_shell_knows_the_app_and_its_tasks(djtasks_command: Command) -> None:
    line = "_ = [app.tasks is celery.tasks, type(AsyncResult).__name__, callable(group)]"
    assert djtasks_command("shell", "-c", line, "--json") == (0, '[true, "type", true]\n')
    assert refused("shell", "--json")[0] == 64


@committed
def test_shell_reads_from_a_pipe(djtasks_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("app.send_task('shop.send', (1,))\n"))
    assert djtasks_command("shell", "--python")[0] == 0
    assert Message.objects.get().name == "shop.send"


def test_logtool_reads_the_log_of_a_worker(djtasks_command: Command, tmp_path: Path) -> None:
    begin, ids = "[2026-01-31 09:30:00,123: {}/MainProcess] ", [new_task_id() for _ in range(3)]
    info, error = begin.format("INFO"), begin.format("ERROR")
    trace = "Traceback (most recent call last):\n  File 'x'\nValueError: no"
    lines = [
        *(f"{info}Task shop.send[{task_id}] received" for task_id in ids),
        f"{info}Task shop.send[{ids[0]}] succeeded in 0.1s: None",
        f"{error}Task shop.send[{ids[1]}] raised unexpected: ValueError('no')\n{trace}",
        f"{info}celery@here ready.",
    ]
    path = tmp_path / "worker.log"
    path.write_text("\n".join(lines) + "\n")

    def read(what: str) -> Any:
        return json.loads(djtasks_command("logtool", what, str(path), "--json")[1])

    assert read("stats") == {"shop.send": {"received": 3, "succeeded": 1, "raised": 1}}
    assert read("traces") == {trace: 1}
    assert len(read("errors")) == 1
    assert read("incomplete") == [f"shop.send[{ids[2]}]"]
    assert read("debug") == [f"{info}celery@here ready."]
    assert "3 received" in djtasks_command("logtool", "stats", str(path))[1]
    assert refused("logtool", "stats", str(tmp_path / "none"))[0] == 64


def test_upgrade_writes_the_settings_that_celerys_make(djtasks_command: Command, tmp_path: Path) -> None:
    path = tmp_path / "celeryconfig.py"
    path.write_text(
        "from datetime import timedelta\n"
        "BROKER_URL = 'redis://'\nCELERYD_CONCURRENCY = 4\nCELERY_TASK_RESULT_EXPIRES = timedelta(hours=1)\n"
        "CELERY_DEFAULT_QUEUE = 'mail'\n"
    )
    code, said = djtasks_command("upgrade", "settings", str(path))
    found: dict[str, Any] = {}
    exec(said, found)  # noqa: S102 -- it is to be Python
    assert code == 0, said
    assert found["DJTASKS"] == {"WORKER_CONCURRENCY": 4, "RESULT_EXPIRES": 3600.0, "TASK_DEFAULT_QUEUE": "mail"}
    assert "# Not needed any more: BROKER_URL" in said


def test_upgrade_names_what_is_to_be_written_by_hand_or_does_not_fit(djtasks_command: Command, tmp_path: Path) -> None:
    path = tmp_path / "celeryconfig.py"
    path.write_text("class Queue: pass\ntask_queues = [Queue()]\nworker_concurrency = -1\n")
    code, said = djtasks_command("upgrade", "settings", str(path), "--json")
    found = json.loads(said)
    assert (code, list(found["by_hand"]), len(found["problems"])) == (1, ["TASK_QUEUES"], 1)
    path.write_text("raise OSError('no')")
    assert "OSError: no" in refused("upgrade", "settings", str(path))[1]


def test_upgrade_reads_the_celery_settings_of_django(djtasks_command: Command) -> None:
    with override_settings(CELERY_TASK_TIME_LIMIT=60, CELERY_BROKER_URL="redis://"):
        code, said = djtasks_command("upgrade", "settings", "--json")
    found = json.loads(said)
    assert (code, found["DJTASKS"], found["not_needed"]) == (0, {"TASK_TIME_LIMIT": 60}, ["CELERY_BROKER_URL"])


@pytest.mark.parametrize(("option", "acts"), [((), False), (("--django",), True)])
def test_upgrade_names_what_it_leaves_out(
    djtasks_command: Command, tmp_path: Path, option: tuple[str, ...], acts: bool
) -> None:
    path = tmp_path / "settings.py"
    path.write_text("import os\nDEBUG = True\nCELERY_TASK_ALWAYS_EAGER = True\nCELERY_OF_OUR_OWN = 1\n")
    _, said = djtasks_command("upgrade", "settings", str(path), *option, "--json")
    found = json.loads(said)
    lost = [] if acts else ["CELERY_TASK_ALWAYS_EAGER"]
    assert found["DJTASKS"] == ({"TASK_ALWAYS_EAGER": True} if acts else {})
    assert found["unknown"] == ["CELERY_OF_OUR_OWN", *lost]
    assert f"--django): {', '.join(found['unknown'])}" in djtasks_command("upgrade", "settings", str(path), *option)[1]


@pytest.mark.parametrize("style", ["old", "django"])
def test_upgrade_knows_every_name_that_a_setting_of_celerys_has_had(
    djtasks_command: Command, tmp_path: Path, style: str
) -> None:
    named = {name.upper(): old if style == "old" else (f"CELERY_{name.upper()}",) for name, old in SETTINGS.items()}
    acting = {name: old for name, old in named.items() if name in KINDS and old}
    lines = [f"{name} = {getattr(Settings(), ours)!r}" for ours, old in acting.items() for name in old]
    lines += [f"{name} = 'x'" for ours, old in named.items() if ours not in KINDS for name in old]
    path = tmp_path / "old.py"
    path.write_text("\n".join(["import datetime", *lines]))
    code, said = djtasks_command("upgrade", "settings", str(path), "--json", *(["--django"] * (style == "django")))
    found = json.loads(said)
    assert (code, found["by_hand"], found["problems"]) == (0, {}, [])
    assert sorted(found["DJTASKS"]) == sorted(acting)
    assert found["not_needed"] == sorted(name for ours, old in named.items() if ours not in KINDS for name in old)


# -- all of them ------------------------------------------------------------------------------------------------------


def test_options_of_celerys_that_mean_nothing_are_accepted_and_explained(
    djtasks_command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    before = djtasks_command("-b", "redis://", "--result-backend", "x", "list", "--json")
    after = djtasks_command("list", "--json", "--loader", "app", "--config", "celeryconfig")
    assert before == after
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(" does nothing: ")[0] for line in said] == [
        *("--broker", "--result-backend", "--loader", "--config")
    ]


def test_an_app_may_be_named_before_the_verb_and_after() -> None:
    assert "there is no module" in refused("-A", "no_such_module", "list")[1]
    assert "there is no module" in refused("list", "-A", "no_such_module")[1]


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_says_in_one_sentence_what_it_is_for(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        call_command("djtasks", verb, "--help")
    assert caught.value.code == 0
    assert " ".join(VERBS[verb].HELP.split())[:60] in " ".join(capsys.readouterr().out.split())


def test_a_result_of_a_verb_is_one_of_ours(djtasks_command: Command) -> None:
    said = json.loads(djtasks_command("call", "celery.accumulate", "-a", "[1]", "--json")[1])
    assert said["name"] in tasks
    assert AsyncResult(said["id"]).state == "PENDING"
