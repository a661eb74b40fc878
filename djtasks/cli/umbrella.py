"""`manage.py djtasks VERB`: what is done once or by hand. Each verb is a module of this package."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from djtasks.cli import import_beat, import_queue

Say = Callable[[str], Any]


class Verb(NamedTuple):
    """One sub-command."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    #: Does it, telling lines; returns an exit code. Raises ImproperlyConfigured for what it cannot be asked.
    run: Callable[[Mapping[str, Any], Say], int]


VERBS: Mapping[str, Verb] = {
    "import_celery_beat": Verb(import_beat.HELP, import_beat.add_arguments, import_beat.run),
    "import_celery_queue": Verb(import_queue.HELP, import_queue.add_arguments, import_queue.run),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs, each with its own arguments."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, verb in VERBS.items():
        verb.add_arguments(verbs.add_parser(name, help=verb.help, description=verb.help))


def run(given: Mapping[str, Any], say: Say) -> int:
    """Do what was asked for; returns its exit code. Raises ImproperlyConfigured."""
    return VERBS[given["verb"]].run(given, say)
