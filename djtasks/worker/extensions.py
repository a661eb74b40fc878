"""The steps of a project's own: made, started and stopped with a worker."""

import logging
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from djtasks.appstate import current
from djtasks.bootsteps import ConsumerStep, Step
from djtasks.exceptions import ImproperlyConfigured, safe_repr

logger = logging.getLogger("djtasks.worker")


class Extensions:
    """The steps of the current app, for one worker. Belongs to the thread that runs it."""

    def __init__(self, worker: Any, options: Mapping[str, Any]) -> None:
        """Make them. Raises ImproperlyConfigured for what is no step."""
        self._made: list[tuple[Any, Any]] = []
        self._started: list[tuple[Any, Any]] = []
        for place, parent in (("worker", worker), ("consumer", worker.consumer)):
            for kind in ordered(place, current().steps[place]):
                step = kind(parent, **options)
                if step.include(parent):
                    self._made.append((step, parent))

    def start(self) -> None:
        """Start them; what one raises ends the worker."""
        for step, parent in self._made:
            if hasattr(step, "start"):
                self._started.append((step, parent))
                step.start(parent)

    def stop(self, killed: bool) -> None:
        """Stop those that were started, the last one first; what one raises is logged."""
        while self._started:
            step, parent = self._started.pop()
            try:
                (step.terminate if killed and hasattr(step, "terminate") else step.stop)(parent)
            except Exception as error:
                logger.error("%r raised %s when it was stopped", step, safe_repr(error), exc_info=True)


def ordered(place: str, kinds: Iterable[Any]) -> list[type[Step]]:
    """Those that others require first. Raises ImproperlyConfigured."""
    named = {f"{getattr(kind, '__module__', '')}:{getattr(kind, '__qualname__', '')}": kind for kind in kinds}
    for kind in named.values():
        if not isinstance(kind, type) or not issubclass(kind, Step):
            raise ImproperlyConfigured(
                f"app.steps[{place!r}] takes classes made from djtasks.bootsteps.Step, not {safe_repr(kind, 200)}"
            )
        if issubclass(kind, ConsumerStep):
            raise ImproperlyConfigured(
                f"{kind.__qualname__} is a ConsumerStep, and there is no message broker to consume from: make a task"
                " of what it does, or a StartStopStep with a thread of its own"
            )
    graph: dict[Any, list[Any]] = {}
    for kind in sorted(named.values(), key=lambda kind: (kind.__module__, kind.__qualname__)):
        wanted = [named.get(each) if isinstance(each, str) else each for each in kind.requires]
        graph[kind] = [each for each in wanted if each in named.values()]
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        names = " -> ".join(kind.__qualname__ for kind in error.args[1])
        raise ImproperlyConfigured(f"steps require each other in a circle: {names}") from None
