"""Every option of Celery's commands is taken by ours: it acts, or one line says why it need not."""

import argparse

import pytest
from django.core.management import load_command_class

from djtasks import __version__
from djtasks.cli import foreign

#: Of `celery --help`, `celery worker --help` and `celery beat --help`, version 5.7.0.
GLOBAL = """
    -A --app -b --broker --result-backend --loader --config --workdir -C --no-color -q --quiet --version --skip-checks
"""
WORKER = """
    -n --hostname -D --detach -S --statedb -l --loglevel -O --optimization --prefetch-multiplier --disable-prefetch
    -c --concurrency -P --pool -E --task-events --events --time-limit --soft-time-limit --max-tasks-per-child
    --pool-start-method --max-memory-per-child --purge --discard -Q --queues -X --exclude-queues -I --include
    --without-gossip --without-mingle --without-heartbeat --heartbeat-interval --autoscale -B --beat -s
    --schedule-filename --schedule --scheduler -f --logfile --pidfile --uid --gid --umask --executable
"""
BEAT = """
    --detach -s --schedule -S --scheduler --max-interval --enable-remote-control --no-enable-remote-control
    -n --hostname -l --loglevel -f --logfile --pidfile --uid --gid --umask --executable
"""
COMMANDS = {"runworker": GLOBAL + WORKER, "runbeat": GLOBAL + BEAT, "djtasks": GLOBAL}


def options_of(command: str) -> set[str]:
    parser: argparse.ArgumentParser = load_command_class("djtasks", command).create_parser("manage.py", command)
    return set(parser._option_string_actions)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_celerys_is_taken(command: str) -> None:
    assert set(COMMANDS[command].split()) <= options_of(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_version_is_that_of_djtasks(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_command_class("djtasks", command).create_parser("manage.py", command).parse_args(["--version"])
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(
    "options",
    [foreign.VERBS, foreign.EVENTS, foreign.WORKERS, foreign.BEATS],
    ids=["verbs", "events", "worker", "beat"],
)
def test_those_that_do_nothing_say_why_in_a_line_each(options: foreign.Options) -> None:
    said: list[str] = []
    foreign.explain(dict.fromkeys(options, "x"), options, said.append)
    assert len(said) == len(options)
    for line, (flags, _, why) in zip(said, options.values(), strict=True):
        assert line == f"{flags[-1]} does nothing: {why}"
        assert "\n" not in line
        assert len(why) > 15
