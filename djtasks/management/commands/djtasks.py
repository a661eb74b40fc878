"""`manage.py djtasks`: the verbs for operators."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from djtasks.cli import umbrella
from djtasks.exceptions import ImproperlyConfigured


class Command(BaseCommand):
    """Thin: it parses, and calls."""

    help = "What is done to djtasks by hand; `djtasks VERB --help` says more of each verb."

    def add_arguments(self, parser: CommandParser) -> None:
        """The verbs."""
        umbrella.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it; exits with its code where that is not 0."""
        try:
            code = umbrella.run(options, self.stdout.write)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        if code:
            sys.exit(code)
