"""`djtasks inspect`: ask workers something."""

import argparse
from collections.abc import Mapping
from typing import Any

from djtasks.cli import remote
from djtasks.cli.exits import EX_OK, Unavailable
from djtasks.cli.output import Say
from djtasks.inspecting import Inspect

HELP = "Ask workers what they do. It changes nothing; `djtasks inspect --list` says what can be asked."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Celery's options."""
    remote.add_command(parser)


def run(given: Mapping[str, Any], say: Say) -> int:
    """Ask. Raises Usage for what cannot be asked, Unavailable when nobody answers."""
    if given.get("list"):
        say(remote.listed("inspect", {}))
        return EX_OK
    command = remote.chosen(given, "inspect")
    arguments = remote.arguments_of(command, given["arguments"])
    inspect = Inspect(remote.meant(given), timeout=given["timeout"])
    with remote.refusing():
        answers = inspect.call(command, **arguments)
    if not answers:
        raise Unavailable(remote.NOBODY)
    if not remote.said(answers, given, say):
        remote.tell(answers, say)
        if inspect.from_tables:
            say(f"\nNo answer, and so as the tables say: {', '.join(sorted(inspect.from_tables))}.")
        say(remote.online({name: answer for name, answer in answers.items() if name not in inspect.from_tables}))
    return remote.code_of(answers)
