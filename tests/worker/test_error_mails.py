"""E-mails about failures, from real workers; and that none of them, nor anything else, tells a secret."""

import email.policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest

from tests.signals_app import tasks
from tests.worker.running import RunningWorker, Workers, ended, error, query, wait_until

SECRET = "4111-1111-1111-1111"
APPS = "tests.worker_app,tests.signals_app"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mails"


@pytest.fixture(autouse=True)
def _nothing_was_said() -> None:
    query("TRUNCATE djtasks_throttle")


def launch(workers: Workers, folder: Path, *options: str, **settings: Any) -> RunningWorker:
    environment = {"MAILS": str(folder)}
    return workers.launch("-l", "INFO", *options, apps=APPS, environment=environment, **settings)


def mails(folder: Path) -> list[EmailMessage]:
    """The mails that were sent, in no order."""
    parser = BytesParser(policy=email.policy.default)
    found = []
    for path in folder.glob("*.log") if folder.exists() else ():
        for part in path.read_bytes().split(b"-" * 79 + b"\n"):
            if part.strip():
                found.append(parser.parsebytes(part))
    return found  # type: ignore[return-value]


def test_a_failure_is_mailed_to_admins_without_what_is_sensitive(workers: Workers, folder: Path) -> None:
    worker = launch(workers, folder, "-c", "1", "-n", "w1@here", LOG_ARGUMENTS=True).ready()
    result = tasks.charge.delay("ann", card=SECRET)
    assert error(result) == "ValueError: ******** of ann is refused"
    wait_until(lambda: mails(folder), "the mail was sent")
    mail = mails(folder)[0]
    assert mail["To"] == "ann@example.org"
    assert mail["Subject"] == (
        f"[Django] [tests.signals_app.tasks.charge@w1@here] Error: Task tests.signals_app.tasks.charge ({result.id}):"
        " ValueError('******** of ann is refused')"
    )
    text = mail.get_content()
    for part in (
        f"Task tests.signals_app.tasks.charge ({result.id}) failed on w1@here.",
        "Arguments: ['ann']",
        "Keyword arguments: {'card': ********}",
        "Queue: celery",
        "Traceback (most recent call last):",
        "ValueError: ******** of ann is refused",
    ):
        assert part in text
    everywhere = [*(path.read_text() for path in folder.iterdir()), worker.log]
    everywhere += [str(row) for row in query("SELECT result::text, traceback, headers FROM djtasks_result")]
    assert [place for place in everywhere if SECRET in place] == []


def test_of_many_failures_under_four_workers_one_is_mailed(workers: Workers, folder: Path) -> None:
    # All of them at once: none of them knows what the others have sent but through the database.
    started = [launch(workers, folder / f"{number}", "-c", "1") for number in range(4)]
    for worker in started:
        worker.ready()
    results = [tasks.charge.delay("ann", SECRET) for _ in range(80)]
    for result in results:
        ended(result)
    for worker in started:
        assert worker.stop() == 0
    assert len({result.worker for result in results}) > 1
    sent = [mail for number in range(4) for mail in mails(folder / f"{number}")]
    assert len(sent) == 1
    assert query("SELECT held FROM djtasks_throttle") == [(79,)]


def test_the_next_mail_says_how_many_there_were_meanwhile(workers: Workers, folder: Path) -> None:
    launch(workers, folder, "-c", "1").ready()
    for _ in range(3):
        ended(tasks.charge.delay("ann", SECRET))
    wait_until(lambda: query("SELECT 1 FROM djtasks_throttle WHERE held = 2"), "two were held back")
    query("UPDATE djtasks_throttle SET until = now() - interval '1 second'")
    ended(tasks.charge.delay("ann", SECRET))
    wait_until(lambda: len(mails(folder)) == 2, "the second mail was sent")
    assert any("It failed like this 2 times more since the last e-mail" in mail.get_content() for mail in mails(folder))


def test_what_is_expected_or_unwanted_is_not_mailed_and_what_the_worker_ends_is(workers: Workers, folder: Path) -> None:
    worker = launch(
        workers,
        folder,
        "-c",
        "1",
        TASK_ERROR_EMAILS=True,
        TASK_ERROR_EMAILS_TO=["ops@example.org"],
        TASK_ERROR_EMAILS_EVERY=0,
    ).ready()
    for result in (tasks.expected.delay(), tasks.quiet.delay(), tasks.break_down.delay(5), tasks.break_down.delay(6)):
        assert ended(result) == "FAILURE"
    overrun = tasks.overrun_unheard.delay()
    wait_until(lambda: len(mails(folder)) == 3, "they were sent")
    assert worker.stop() == 0
    found = sorted(mail["Subject"].split("Error: ")[1] for mail in mails(folder))
    assert [subject.split(" ")[1] for subject in found] == [
        "tests.signals_app.tasks.break_down",
        "tests.signals_app.tasks.break_down",
        "tests.signals_app.tasks.overrun_unheard",
    ]
    assert f"({overrun.id}): TimeLimitExceeded(0.3)" in found[2]
    assert {mail["To"] for mail in mails(folder)} == {"ops@example.org"}


def test_mails_that_cannot_be_sent_stop_nothing(workers: Workers, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    worker = launch(workers, blocked, "-c", "1").ready()
    result = tasks.charge.delay("ann", SECRET)
    assert ended(result) == "FAILURE"
    worker.says(f"The e-mail about task tests.signals_app.tasks.charge[{result.id}] was not sent")
    assert ended(tasks.add.delay(1)) == "SUCCESS"
    assert worker.stop() == 0
