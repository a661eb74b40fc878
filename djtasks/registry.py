"""Task names to tasks, and how the modules that define them are found and imported.

The registry fills as modules are imported; nothing in it needs Django to be set up.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from django.apps import apps
from django.utils.module_loading import import_string

from djtasks import signals
from djtasks.conf import settings
from djtasks.conf.kinds import is_storable
from djtasks.exceptions import InvalidTaskError, NotRegistered, safe_repr

#: Names that begin so belong to the machinery and are left out of listings.
HIDDEN = ("celery.", "djtasks.")


def check_name(name: Any) -> None:
    """Raise TypeError unless `name` can be a task's: a text, which PostgreSQL can hold."""
    if not isinstance(name, str) or not name or not is_storable(name):
        shown = safe_repr(name, 200)
        raise TypeError(f"a task's name must be a text without NUL and lone surrogates, not {shown}")


class TaskRegistry(dict[str, Any]):
    """A dict of task name to task."""

    def __missing__(self, name: str) -> Any:
        raise NotRegistered(name)

    def register(self, task: Any) -> Any:
        """Put `task` (a task, or the class of one) under its name, and return it. A later one takes the place.

        Raises InvalidTaskError when it has no name, TypeError when it has one that no task can have.
        """
        if isinstance(task, type):
            task = task()
        name = getattr(task, "name", None)
        if not isinstance(name, str) or not name:
            raise InvalidTaskError(f"the task class {type(task).__name__!r} needs a 'name': a text that tells it apart")
        check_name(name)
        self[name] = task
        return task

    def unregister(self, task: Any) -> None:
        """Take out a task, given by itself or by its name. Raises NotRegistered."""
        name = getattr(task, "name", task)
        try:
            del self[name]
        except KeyError:
            raise NotRegistered(name) from None

    def names(self) -> list[str]:
        """The names of all tasks in order, without those of the machinery."""
        return sorted(name for name in self if not name.startswith(HIDDEN))

    def regular(self) -> dict[str, Any]:
        """The tasks that `names()` lists."""
        return {name: self[name] for name in self.names()}


#: The tasks of this process.
tasks = TaskRegistry()


def autodiscover(
    packages: Iterable[str] | Callable[[], Iterable[str]] | None = None, related_name: str | None = "tasks"
) -> list[ModuleType]:
    """Import the module `related_name` of each package; those that were found, in order.

    `packages` are package names or entries of INSTALLED_APPS (or a function that returns them); None means all
    installed apps. With `related_name` None the packages themselves are imported. A package without such a module is
    passed over; an ImportError inside a module is raised, as is that of a package which does not exist.
    """
    if packages is None:
        packages = [config.name for config in apps.get_app_configs()]
    elif callable(packages):
        packages = packages()
    elif isinstance(packages, str):
        raise TypeError(f"packages must be a list of names; write [{packages!r}]")
    return [module for package in packages if (module := _related(package, related_name)) is not None]


def _related(package: str, related_name: str | None) -> ModuleType | None:
    try:
        parent = import_module(package)
    except ModuleNotFoundError as error:
        # "polls.apps.PollsConfig" is an entry of INSTALLED_APPS, and no package.
        if error.name != package or "." not in package:
            raise
        package = getattr(import_string(package), "name", package)
        parent = import_module(package)
    if related_name is None:
        return parent
    if not hasattr(parent, "__path__") or find_spec(name := f"{package}.{related_name}") is None:
        return None
    return import_module(name)


def import_default_modules(sender: object = None) -> list[ModuleType]:
    """Import the modules of IMPORTS and INCLUDE, after telling the receivers of `import_modules`.

    What a module or a receiver raises is raised.
    """
    if signals.import_modules.receivers:
        for _receiver, answer in signals.import_modules.send(sender):
            if isinstance(answer, Exception):
                raise answer
    return [import_module(name) for name in (*settings.IMPORTS, *settings.INCLUDE)]
