"""An app that can be broken while a worker runs, as by a bad deployment."""

import os
from pathlib import Path

from django.apps import AppConfig


class FragileConfig(AppConfig):
    """Does not start while a file is there."""

    name = "tests.fragile_app"

    def ready(self) -> None:
        """Raise RuntimeError while the file that FRAGILE names is there."""
        if Path(os.environ["FRAGILE"]).exists():
            raise RuntimeError("the new code is broken")
