"""The Celery-shaped facade: `app.task`, `app.send_task`, `app.conf` … It owns nothing; there is one set of tasks."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, NoReturn, Unpack

from django.apps import apps

from djtasks import registry, result
from djtasks.calls import CallOptions, check_arguments
from djtasks.conf import settings
from djtasks.current import get_current_task, get_current_worker_task
from djtasks.decorators import TaskDecorator, register_task, task_name
from djtasks.publisher import publish
from djtasks.registry import TaskRegistry
from djtasks.signals import import_modules
from djtasks.task import Task


class Conf:
    """The settings under Celery's lower-case names, or under ours: `app.conf.task_time_limit`. They cannot be set."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(settings, name.upper())

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError as error:
            raise KeyError(str(error)) from None

    def get(self, name: str, default: Any = None) -> Any:
        """The setting, or `default` when there is none of the name."""
        try:
            return self[name]
        except KeyError:
            return default

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"cannot set {name!r}: set {name.upper()!r} in DJTASKS, in Django's settings")

    def update(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises AttributeError: settings stand in Django's settings."""
        raise AttributeError("app.conf cannot be changed: put the settings in DJTASKS, in Django's settings")


class Celery:
    """An app as Celery's. All apps share the tasks of the process; `broker` and `backend` mean nothing here."""

    Task = Task
    AsyncResult = result.AsyncResult

    def __init__(self, main: str | None = None, broker: Any = None, backend: Any = None, **options: Any) -> None:
        """`main` stands for `__main__` in the names of tasks; Celery's other `options` mean nothing here."""
        self.main = main
        self.conf = Conf()

    @property
    def task(self) -> TaskDecorator:
        """The decorator: `@app.task`, `@app.task(bind=True)`."""
        return TaskDecorator(self.gen_task_name)

    @property
    def tasks(self) -> TaskRegistry:
        """All tasks, by name. Asking for one that is not there raises NotRegistered."""
        return registry.tasks

    @property
    def current_task(self) -> Any:
        """The task that runs now, or None."""
        return get_current_task()

    @property
    def current_worker_task(self) -> Any:
        """The task that a worker runs now, through any function calls of tasks inside it; or None."""
        return get_current_worker_task()

    def gen_task_name(self, name: str, module: str) -> str:
        """The name of a task whose function has this name, in this module."""
        return task_name(name, self.main if module == "__main__" and self.main else module)

    def register_task(self, task: Any, **options: Any) -> Any:
        """Register a task of a class of one's own, given as instance or class, with these options; the instance."""
        made = register_task(task, self.gen_task_name)
        for option, value in options.items():
            setattr(made, option, value)
        return made

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> result.AsyncResult[Any]:
        """Enqueue a task by its name; it need not be known here, and its arguments are not checked.

        Raises as `Task.apply_async` does. It is enqueued in eager mode too, with a RuntimeWarning.
        """
        registry.check_name(name)
        if settings.TASK_ALWAYS_EAGER:
            warnings.warn("send_task() enqueues although TASK_ALWAYS_EAGER is on", RuntimeWarning, stacklevel=2)
        args, kwargs = check_arguments(args, kwargs)
        return publish(name, args, kwargs, options, registry.tasks.get(name))

    def autodiscover_tasks(
        self,
        packages: Iterable[str] | Callable[[], Iterable[str]] | None = None,
        related_name: str | None = "tasks",
        force: bool = False,
    ) -> list[ModuleType]:
        """Import the module `related_name` of each package (None: of each installed app); those that were found.

        Before Django is set up, and without `force`, they are left for a worker to import when it starts. The apps'
        `tasks` modules need no call of this: they are imported when Django starts.
        """
        if force or apps.ready:
            return registry.autodiscover(packages, related_name)

        def discover(**kwargs: Any) -> None:
            registry.autodiscover(packages, related_name)

        import_modules.connect(discover, weak=False)
        return []

    def __repr__(self) -> str:
        return f"<Celery {self.main or 'djtasks'}>"


#: The app of who needs none of their own.
app = Celery("djtasks")
Task._app = app
