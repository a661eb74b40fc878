"""A program that starts a worker through its app, which has steps and options of its own; it says what it is told."""

import os
import sys
from typing import Any

from djtasks import Celery, bootsteps, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
app = Celery("program")


class Second(bootsteps.StartStopStep):
    """Starts after the first one."""

    requires = ("tests.worker.app_program:First", "__main__:First", "celery.worker.components:Pool")

    def create(self, parent: Any) -> Any:
        """Nothing to keep."""
        print("the second is made for", type(parent).__name__)

    def start(self, parent: Any) -> None:
        """Say so."""
        print("the second starts", flush=True)

    def stop(self, parent: Any) -> None:
        """Say so."""
        print("the second stops", flush=True)


class First(bootsteps.StartStopStep):
    """Knows the options."""

    def __init__(self, parent: Any, tenant: str = "", **options: Any) -> None:
        super().__init__(parent, **options)
        self.tenant = tenant
        self.concurrency = options["concurrency"]

    def start(self, parent: Any) -> None:
        """Say so."""
        print(f"the first starts for {self.tenant} with {self.concurrency}, {parent.pool.concurrency} run", flush=True)

    def stop(self, parent: Any) -> None:
        """Fail, which keeps nobody from stopping."""
        print("the first stops", flush=True)
        raise RuntimeError("no")


class Never(bootsteps.Step):
    """Is not wanted."""

    enabled = False

    def create(self, parent: Any) -> Any:
        """It comes here never."""
        print("never")


app.steps["worker"].update({First, Second, Never})
app.user_options["worker"].add(lambda parser: parser.add_argument("--tenant", default="nobody"))
app.user_options["preload"].add(lambda parser: parser.add_argument("--site"))


@signals.user_preload_options.connect
def told(sender: Any, app: Any, options: dict[str, Any], **kwargs: Any) -> None:
    """Say so."""
    print("preload:", options)


if __name__ == "__main__":
    sys.exit(app.worker_main(["-b", "redis://", "worker", *sys.argv[2:]]))
