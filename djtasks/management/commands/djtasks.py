"""`manage.py djtasks`: the verbs for operators."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError

from djtasks import __version__
from djtasks.cli import umbrella
from djtasks.cli.exits import EX_FAILURE, EX_UNAVAILABLE, EX_USAGE, Refusal
from djtasks.db.connections import LOST, reason
from djtasks.exceptions import ImproperlyConfigured

#: What argparse exits with when it cannot make sense of arguments.
_ARGPARSES = 2


class Command(BaseCommand):
    """Thin: it parses, and calls."""

    help = "What is done to djtasks by hand; `djtasks VERB --help` says more of each verb."

    def run_from_argv(self, argv: list[str]) -> None:
        """As Django does, but with Celery's exit code for what makes no sense."""
        try:
            super().run_from_argv(argv)
        except SystemExit as error:
            if error.code == _ARGPARSES:
                sys.exit(EX_USAGE)
            raise

    def get_version(self) -> str:
        """What `--version` says."""
        return __version__

    def add_arguments(self, parser: CommandParser) -> None:
        """The verbs."""
        umbrella.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it; exits with its code where that is not 0."""
        try:
            code = umbrella.run(options, self.stdout.write)
        except ImproperlyConfigured as error:
            raise CommandError(
                str(error), returncode=error.code if isinstance(error, Refusal) else EX_FAILURE
            ) from error
        except (*LOST, OperationalError, InterfaceError) as error:
            raise CommandError(
                f"the database does not answer ({reason(error)}); look at DATABASES, and at its server",
                returncode=EX_UNAVAILABLE,
            ) from error
        if code:
            sys.exit(code)
