"""`manage.py djtasks VERB`: what is done once or by hand. Each verb is a module of this package, and a line here."""

import argparse
import sys
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from django.core.management.base import CommandError, CommandParser

from djtasks.cli import (
    call,
    check,
    control,
    events,
    foreign,
    import_beat,
    import_queue,
    inspect,
    listing,
    logtool,
    multi,
    pause,
    prune,
    purge,
    report,
    requeue,
    result,
    resume,
    shell,
    status,
    upgrade,
    user_options,
)
from djtasks.cli.exits import EX_USAGE
from djtasks.cli.output import Say


class Verb(Protocol):
    """A module that is a sub-command."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser, /) -> None:
        """Its own options."""

    def run(self, given: Mapping[str, Any], say: Say, /) -> int:
        """Do it, telling lines; returns an exit code. Raises ImproperlyConfigured for what it cannot be asked."""


VERBS: Mapping[str, Verb] = {
    "call": call,
    "check": check,
    "control": control,
    "events": events,
    "import_celery_beat": import_beat,
    "import_celery_queue": import_queue,
    "inspect": inspect,
    "list": listing,
    "logtool": logtool,
    "multi": multi,
    "pause": pause,
    "prune": prune,
    "purge": purge,
    "report": report,
    "requeue": requeue,
    "result": result,
    "resume": resume,
    "shell": shell,
    "status": status,
    "upgrade": upgrade,
}


class VerbParser(CommandParser):
    """A parser whose errors have Celery's exit code."""

    def error(self, message: str) -> NoReturn:
        """End, saying what was wrong; a CommandError where it is called from Python."""
        if not self.called_from_command_line:
            raise CommandError(f"Error: {message}", returncode=EX_USAGE)
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: error: {message}\n")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs, each with its own arguments, and Celery's options of all its commands: before the verb or after."""
    _add_common(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=VerbParser)
    for name, verb in VERBS.items():
        # A verb may have an option of the same name that means something.
        made = verbs.add_parser(name, help=verb.HELP, description=verb.HELP, conflict_handler="resolve")
        _add_common(made)
        verb.add_arguments(made)


def _add_common(parser: argparse.ArgumentParser) -> None:
    foreign.add_app(parser)
    foreign.add_arguments(parser, foreign.VERBS)
    foreign.add_no_color(parser)
    user_options.add_arguments(parser, "")


def run(given: Mapping[str, Any], say: Say) -> int:
    """Do what was asked for; returns its exit code. Raises ImproperlyConfigured."""
    foreign.use_app(given)
    user_options.tell(given)
    foreign.explain(given, foreign.VERBS, lambda text: sys.stderr.write(f"{text}\n"))
    return VERBS[given["verb"]].run(given, say)
