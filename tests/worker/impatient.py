"""`manage.py` with a worker that waits for a lost database for a moment only, when it is to end."""

import os
import sys

from django.core.management import execute_from_command_line

from djtasks.worker import shutdown

shutdown.DATABASE_END = 1.0

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
    execute_from_command_line(["manage.py", *sys.argv[1:]])
