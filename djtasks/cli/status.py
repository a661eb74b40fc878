"""`djtasks status`: which workers are there."""

import argparse
from collections.abc import Mapping
from typing import Any

from djtasks.cli import remote
from djtasks.cli.exits import EX_OK, Unavailable
from djtasks.cli.output import Say
from djtasks.inspecting import Inspect

HELP = "Say which workers answer."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Celery's options."""
    remote.add_arguments(parser)


def run(given: Mapping[str, Any], say: Say) -> int:
    """Ask them. Raises Unavailable when nobody answers."""
    destination = remote.meant(given)
    with remote.refusing():
        answers = Inspect(destination, timeout=given["timeout"]).ping()
    if not answers:
        raise Unavailable(remote.NOBODY)
    if not remote.said(answers, given, say):
        remote.tell(answers, say, bodies=False)
        say(remote.online(answers))
    return EX_OK
