"""What an app starts by itself: a worker from a program's arguments, one inside of a program, and its own parts."""

import argparse
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management.base import CommandError

from djtasks import Celery, appstate, bootsteps
from djtasks.cli import user_options
from djtasks.exceptions import ImproperlyConfigured
from djtasks.worker.extensions import Extensions, ordered
from tests.worker.running import Workers, value
from tests.worker_app import tasks

IS_FLAG = {"is_flag": True, "flag_value": True, "default": False, "help": "100 %"}


@pytest.fixture
def app() -> Iterator[Celery]:
    """An app of a test's own."""
    made = Celery("mine")
    yield made
    made.close()


def test_a_program_runs_a_worker_with_steps_and_options_of_its_own(workers: Workers) -> None:
    worker = workers.start("-c", "1", "--tenant", "acme", "--site", "x", program=("-m", "tests.worker.app_program"))
    assert value(tasks.echo.delay("here")) == "here"
    assert worker.stop() == 0
    texts = [line.rpartition("] ")[2] for line in worker.log.splitlines()]
    said = [text for text in texts if text.startswith(("the ", "preload", "never"))]
    assert said == [
        "preload: {'site': 'x'}",
        "the second is made for Worker",
        "the first starts for acme with 1, 1 run",
        "the second starts",
        "the second stops",
        "the first stops",
    ]
    assert "raised RuntimeError('no') when it was stopped" in worker.log
    assert "--broker does nothing: tasks are rows" in worker.log
    assert worker.rows() == []


def test_a_worker_inside_of_a_program_runs_in_a_thread_until_it_is_stopped(app: Celery) -> None:
    worker = app.Worker(hostname="inner@%h", pool="threads", queues="inner,other", concurrency=1, without_gossip=True)
    assert (worker.hostname.startswith("inner@"), worker.options.queues) == (True, ("inner", "other"))
    thread = threading.Thread(target=worker.start)
    thread.start()
    try:
        assert value(tasks.echo.apply_async(["in"], queue="inner")) == "in"
    finally:
        worker.stop()
        thread.join(10)
    assert (thread.is_alive(), worker.exitcode) == (False, 0)


def test_a_worker_inside_of_a_program_has_no_options_that_are_a_commands(app: Celery) -> None:
    with pytest.raises(TypeError, match="has no option pidfile"):
        app.Worker(pidfile="x")
    with pytest.raises(ImproperlyConfigured, match="there is no pool 'treads'"):
        app.WorkController(pool="treads")


def test_an_app_starts_what_a_command_line_of_celerys_names(app: Celery, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.start(["-b", "redis://", "report"]) == 0
    assert "software -> djtasks" in capsys.readouterr().out
    with pytest.raises(CommandError, match="No nodes replied"):
        app.start(["status", "-t", "0.1"])
    with pytest.raises(CommandError, match="there is no pool 'treads'"):
        app.start(["worker", "-P", "treads"])
    with pytest.raises(ImproperlyConfigured, match="name a command, one of beat, call"):
        app.start(["-A", "worker"])
    with pytest.raises(ImproperlyConfigured, match="wants the command in its arguments"):
        app.worker_main(["-l", "INFO"])


class ClickOption:
    """What an option of click looks like."""

    def __init__(self, *flags: str, name: str, **values: Any) -> None:
        convert = SimpleNamespace(name="integer", convert=lambda text, option, context: int(text))
        self.__dict__.update({"opts": list(flags), "name": name, "type": convert, "default": None, **values})


def parsed(place: str, *arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser(exit_on_error=False)
    user_options.add_arguments(parser, place)
    given = vars(parser.parse_args(arguments))
    assert user_options.chosen(given, place) == given
    return given


def test_options_of_click_and_of_argparse_may_be_added(app: Celery) -> None:
    app.user_options["worker"] |= {
        ClickOption("--loud", name="loud", **IS_FLAG),
        ClickOption("-m", "--many", name="many", default=3, help="how many"),
        ClickOption("--each", name="each", multiple=True),
    }
    app.user_options["preload"].add(lambda parser: parser.add_argument("--site"))
    assert parsed("worker") == {"loud": False, "many": 3, "each": None, "site": None}
    given = parsed("worker", "--loud", "-m", "5", "--each", "1", "--each", "2", "--site", "x")
    assert given == {"loud": True, "many": 5, "each": [1, 2], "site": "x"}
    assert parsed("beat") == {"site": None}
    with pytest.raises(argparse.ArgumentError, match="invalid literal for int"):
        parsed("worker", "--many", "few")


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("--loud", "neither a function that takes a parser, nor an option of click"),
        (lambda parser: parser.add_argument("--help"), "conflicting option string"),
    ],
)
def test_what_can_be_no_option_is_said(app: Celery, option: Any, why: str) -> None:
    app.user_options["worker"].add(option)
    with pytest.raises(ImproperlyConfigured, match=f"cannot be an option of this command.*{why}"):
        parsed("worker")
    with pytest.raises(CommandError, match=why):
        app.start(["worker"])


class Odd(bootsteps.Step):
    """Requires one that requires it."""


class Even(bootsteps.Step):
    """The other one."""

    requires = (Odd,)


@pytest.mark.parametrize(
    ("kinds", "why"),
    [
        ([5], "takes classes made from djtasks.bootsteps.Step, not 5"),
        ([bootsteps.ConsumerStep], "no message broker to consume from"),
        ([Odd, Even], "in a circle"),
    ],
)
def test_what_can_be_no_step_is_said(kinds: list[Any], why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Odd, "requires", (Even,))
    with pytest.raises(ImproperlyConfigured, match=why):
        ordered("worker", kinds)


def test_a_step_starts_and_stops_what_it_has_made(app: Celery) -> None:
    told: list[str] = []

    class Thing:
        """Something to start and stop."""

        def start(self) -> None:
            told.append("started")

        def stop(self) -> None:
            told.append("stopped")

    class Keeper(bootsteps.StartStopStep):
        """Has one."""

        def create(self, parent: Any) -> Thing:
            told.append(parent)
            return Thing()

    app.steps["consumer"].add(Keeper)
    assert appstate.current() is app
    steps = Extensions(SimpleNamespace(consumer="the consumer"), {})
    steps.start()
    steps.stop(killed=True)
    steps.stop(killed=True)
    assert told == ["the consumer", "started", "stopped"]
