"""Tasks that were defined for another backend, and are enqueued with `.using(backend=…)` for one of ours.

Workers have to know them, and no row may have anything imported: known are those of the `tasks` modules that
autodiscovery has imported.
"""

from collections.abc import Iterable
from types import ModuleType

from djtasks.backends.backend import PostgresBackend
from djtasks.backends.compat import Task, task_backends
from djtasks.registry import tasks
from djtasks.routing import backends


def adopt(modules: Iterable[ModuleType]) -> None:
    """Know the tasks of these modules. Raises InvalidTaskBackend when TASKS are wrong."""
    ours = [backend for alias in backends() if isinstance(backend := task_backends[alias], PostgresBackend)]
    if not ours:
        return
    for module in modules:
        for task in list(vars(module).values()):
            if isinstance(task, Task) and task.module_path not in tasks:
                ours[0].adopt(task)
