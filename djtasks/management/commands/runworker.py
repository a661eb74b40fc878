"""`manage.py runworker`: consumes queues and runs their tasks."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from djtasks import __version__
from djtasks.cli import worker
from djtasks.exceptions import ImproperlyConfigured, SecurityError


class Command(BaseCommand):
    """A worker, with Celery's options."""

    help = "Consume queues and run their tasks. TERM ends it when what runs is done; QUIT ends it at once."

    def get_version(self) -> str:
        """What `--version` says."""
        return __version__

    def add_arguments(self, parser: CommandParser) -> None:
        """Celery's options of a worker."""
        worker.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until told to stop, and exit with the worker's code."""
        try:
            code = worker.run(options)
        except (ImproperlyConfigured, SecurityError) as error:
            raise CommandError(str(error)) from error
        sys.exit(code)
