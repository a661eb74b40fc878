"""An app that can be broken while a worker runs, as by a bad deployment."""

import errno
import os
import time
from pathlib import Path
from typing import Any

from django.apps import AppConfig

from djtasks import signals


def hang(**_: Any) -> None:
    """Never come to take a task, while a file is there that says so."""
    path = Path(os.environ["FRAGILE"] + ".hangs")
    while path.exists():
        time.sleep(0.01)


def fork() -> int:
    """Refuse, while a file is there, as a system does that has no process left."""
    if Path(os.environ["FRAGILE"] + ".full").exists():
        raise BlockingIOError(errno.EAGAIN, "no process is left")
    return forks()


forks = os.fork


class FragileConfig(AppConfig):
    """Does not start while a file is there."""

    name = "tests.fragile_app"

    def ready(self) -> None:
        """Raise RuntimeError while the file that FRAGILE names is there."""
        signals.worker_process_init.connect(hang)
        os.fork = fork
        if Path(os.environ["FRAGILE"]).exists():
            raise RuntimeError("the new code is broken")
