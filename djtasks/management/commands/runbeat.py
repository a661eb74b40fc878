"""`manage.py runbeat`: sends periodic tasks when they are due."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from djtasks import __version__
from djtasks.cli import beat
from djtasks.exceptions import ImproperlyConfigured


class Command(BaseCommand):
    """A beat, with Celery's options."""

    help = "Send periodic tasks when they are due. Any number of them may run. TERM and INT end it."

    def get_version(self) -> str:
        """What `--version` says."""
        return __version__

    def add_arguments(self, parser: CommandParser) -> None:
        """Celery's options of a beat."""
        beat.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until told to stop."""
        try:
            code = beat.run(options)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        sys.exit(code)
