"""Parts of a project's own that start and stop with a worker.

    from djtasks import bootsteps

    class Metrics(bootsteps.StartStopStep):
        def start(self, worker):
            self.client = connect()

        def stop(self, worker):
            self.client.close()

    app.steps["worker"].add(Metrics)

A step of `app.steps["consumer"]` is given what claims and finishes instead of the worker. All start, those that they
require first, once the pool runs and before the first task is taken, and stop in the opposite order.
"""

from collections.abc import Collection
from typing import Any


class Step:
    """Something that is made with a worker."""

    #: Other steps, as classes or "module:Class", that are made and started before; Celery's own always are.
    requires: Collection[Any] = ()
    #: What it is called in the log; its class's name without one.
    name: str | None = None
    #: Whether it is made at all; see `include_if`.
    enabled = True

    def __init__(self, parent: Any, **options: Any) -> None:
        """`options` are those of the worker, and those that the project has added to its command."""

    def include_if(self, parent: Any) -> bool:
        """Whether it is wanted."""
        return self.enabled

    def create(self, parent: Any) -> Any:
        """Make what it is about."""

    def include(self, parent: Any) -> bool:
        """Make it, if it is wanted; whether it is."""
        if not self.include_if(parent):
            return False
        self.create(parent)
        return True

    def __repr__(self) -> str:
        return f"<step: {self.name or type(self).__name__}>"


class StartStopStep(Step):
    """Something that starts and stops: what `create` returns, or whatever `start` and `stop` do."""

    #: What `create` has returned.
    obj: Any = None

    def include(self, parent: Any) -> bool:
        """Make it, if it is wanted; whether it is."""
        if not self.include_if(parent):
            return False
        self.obj = self.create(parent)
        return True

    def start(self, parent: Any) -> Any:
        """The worker starts."""
        if self.obj is not None:
            self.obj.start()

    def stop(self, parent: Any) -> Any:
        """The worker stops, and nothing runs any more."""
        if self.obj is not None:
            self.obj.stop()

    def terminate(self, parent: Any) -> Any:
        """The same, where what ran was killed."""
        if self.obj is not None:
            getattr(self.obj, "terminate", self.obj.stop)()
        else:
            self.stop(parent)


class ConsumerStep(StartStopStep):
    """Celery's, which reads other messages from the broker. There is none: a worker that is to have one is refused."""
