"""`djtasks resume`: let workers take from queues again."""

import argparse
from collections.abc import Mapping
from typing import Any

from djtasks import queues
from djtasks.cli.output import Say
from djtasks.cli.pause import add_queues, named, tell

HELP = "Let workers take from paused queues again."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which queues."""
    add_queues(parser, "all that are paused")


def run(given: Mapping[str, Any], say: Say) -> int:
    """Resume them."""
    wanted = named(given)
    if wanted is None:
        wanted = sorted(queues.paused())
    resumed = queues.resume(*wanted, by=given.get("by") or "") if wanted else []
    tell("Resumed", resumed, given, say)
    return 0
