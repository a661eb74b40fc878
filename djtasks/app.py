"""The Celery-shaped facade: `app.task`, `app.send_task`, `app.conf` … It owns nothing; there is one set of tasks."""

import logging
import os
import platform
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any, Unpack

import django
from django.apps import apps
from django.utils.module_loading import import_string

from djtasks import appconf, appstate, codeschedules, group_result, registry, result, result_set
from djtasks.appconf import Conf
from djtasks.calls import CallOptions, check_arguments
from djtasks.canvas.signature import Signature, signature
from djtasks.conf import faults, settings
from djtasks.control import Control
from djtasks.current import get_current_task, get_current_worker_task
from djtasks.decorators import TaskDecorator, register_task, task_name
from djtasks.events import Events
from djtasks.events.connection import BrokerConnection
from djtasks.exceptions import AlwaysEagerIgnored
from djtasks.publisher import publish
from djtasks.registry import TaskRegistry
from djtasks.security import setup_security
from djtasks.signals import Signal, import_modules
from djtasks.task import Task

logger = logging.getLogger("djtasks")


class Celery:
    """An app as Celery's. All apps share the tasks of the process; `broker` and `backend` mean nothing here."""

    #: The class of tasks that name none.
    Task: type[Any] = Task
    AsyncResult = result.AsyncResult
    GroupResult = group_result.GroupResult
    ResultSet = result_set.ResultSet
    control = Control()
    events = Events()

    def __init__(
        self,
        main: str | None = None,
        broker: Any = None,
        backend: Any = None,
        *,
        include: Iterable[str] | None = None,
        config_source: Any = None,
        changes: Mapping[str, Any] | None = None,
        namespace: str | None = None,
        task_cls: Any = None,
        strict_typing: bool = True,
        set_as_current: bool = True,
        **options: Any,
    ) -> None:
        """`main` stands for `__main__` in the names of tasks, `include` are modules that a worker imports,
        `config_source` and `changes` are settings, `task_cls` is the class of tasks that name none, and without
        `strict_typing` their calls are not checked. Celery's other `options` mean nothing here.
        """
        self.main = main
        self.namespace = namespace
        self.strict_typing = strict_typing
        self.conf = Conf(self._before_settings)
        self.include = tuple(include or ())
        self.finalized = self.configured = False
        #: Parts of workers (`djtasks.bootsteps`), and options of commands: functions that are given the parser, or
        #: options of click.
        self.steps: dict[str, set[Any]] = {"worker": set(), "consumer": set()}
        self.user_options: dict[str, set[Any]] = {"preload": set(), "worker": set(), "beat": set()}
        self.on_configure, self.on_after_configure = Signal(), Signal()
        self.on_after_finalize, self.on_after_fork = Signal(), Signal()
        if task_cls is not None:
            self.Task = import_string(task_cls.replace(":", ".")) if isinstance(task_cls, str) else task_cls
        if self.include:
            import_modules.connect(self._import_included)
        if config_source is not None:
            self.config_from_object(config_source)
        if changes:
            self.conf.update(changes)
        appstate.apps.add(self)
        if set_as_current:
            self.set_current()

    # -- settings -----------------------------------------------------------------------------------------------

    def config_from_object(
        self, obj: Any, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Read settings from an object, a dict, "module" or "module:attribute"; what `DJTASKS` says stands over them.

        With a `namespace` of "CELERY" those of its names that begin with CELERY_. They are read when the first one is
        asked for, or at once with `force`. Raises ImportError (not with `silent`), ImproperlyConfigured.
        """
        appconf.from_object(obj, silent, force, namespace or self.namespace)

    def config_from_envvar(self, variable_name: str, silent: bool = False, force: bool = False) -> bool:
        """Read settings from the module that an environment variable names. Whether it names one.

        Raises ImproperlyConfigured when it does not, unless `silent`.
        """
        return appconf.from_envvar(variable_name, silent, force)

    def config_from_cmdline(self, argv: Sequence[str], namespace: str = "celery") -> None:
        """Set what arguments as `worker.concurrency=3` say. Raises ImproperlyConfigured, AttributeError."""
        appconf.from_cmdline(argv, namespace)

    def add_defaults(self, fun: Any) -> None:
        """Lay settings beneath all others: a dict, or a function that returns one."""
        appconf.add_defaults(fun)

    def _before_settings(self) -> None:
        if appstate.ready and not self.configured:
            self.configured = True
            self.on_configure.send(self)
            self.on_after_configure.send(self, source=self.conf)

    # -- one app among others -----------------------------------------------------------------------------------

    def set_current(self) -> None:
        """Make it `current_app`."""
        appstate.set_current(self)

    def set_default(self) -> None:
        """Make it `current_app` as long as no other is."""
        appstate.set_default(self)

    def finalize(self, auto: bool = False) -> None:
        """Tell the receivers of `on_after_configure` and `on_after_finalize`, once: when Django is set up, or here."""
        self._before_settings()
        if not self.finalized:
            self.finalized = True
            self.on_after_finalize.send(self)

    def close(self) -> None:
        """Let another app be the current one. Its tasks stay."""
        import_modules.disconnect(self._import_included)
        appstate.apps.discard(self)
        if appstate.current() is self:
            appstate.set_current(None)

    def __enter__(self) -> "Celery":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def bugreport(self) -> str:
        """What is worth to be told beside the description of a fault: versions, and settings without secrets."""
        software = f"software -> djtasks:{version('djtasks')} Django:{version('Django')} psycopg:{version('psycopg')}"
        system = f"platform -> system:{platform.system()} arch:{platform.machine()} py:{platform.python_version()}"
        return f"{software}\n{system}\nsettings ->\n{self.conf.humanize()}\n"

    def _import_included(self, **kwargs: Any) -> None:
        for name in self.include:
            import_module(name)

    # -- what it starts -----------------------------------------------------------------------------------------

    def worker_main(self, argv: Sequence[str] | None = None) -> int:
        """Run a worker, as ["worker", "-l", "INFO"] says (None: the process's own arguments); returns its exit code.

        Raises CommandError for what cannot be started, ImproperlyConfigured where no worker is asked for.
        """
        code: int = self._program("worker_main")(self, argv)
        return code

    def start(self, argv: Sequence[str] | None = None) -> int:
        """Do what a command line of Celery's says: "worker", "beat", or a verb of `manage.py djtasks`.

        Returns its exit code. Raises CommandError, ImproperlyConfigured.
        """
        code: int = self._program("start")(self, argv)
        return code

    def WorkController(self, *args: Any, **options: Any) -> Any:
        """A worker inside of a program; `start()` runs it, `stop()` ends it. `options` are those of `runworker`."""
        return self._program("WorkController")(self, *args, **options)

    Worker = WorkController

    @staticmethod
    def _program(name: str) -> Any:
        if not apps.ready:
            # As Celery does for a project of Django's, whose program is not manage.py.
            django.setup()
        return getattr(import_module(appstate.programs), name)

    # -- tasks --------------------------------------------------------------------------------------------------

    @property
    def task(self) -> TaskDecorator:
        """The decorator: `@app.task`, `@app.task(bind=True)`."""
        return TaskDecorator(self.gen_task_name, self, self.Task, self.strict_typing)

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
        made = register_task(task, self.gen_task_name, self)
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

        Raises as `Task.apply_async` does. It is enqueued in eager mode too, with an AlwaysEagerIgnored warning.
        """
        registry.check_name(name)
        if settings.TASK_ALWAYS_EAGER:
            warnings.warn(AlwaysEagerIgnored(str(AlwaysEagerIgnored.__doc__)), stacklevel=2)
        args, kwargs = check_arguments(args, kwargs)
        return publish(name, args, kwargs, options, registry.tasks.get(name))

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **opts: Any,
    ) -> str:
        """Let a task run again and again; returns the name of the periodic task, by default the signature's repr.

        `schedule` is a number of seconds, a timedelta, or one of `schedule`, `crontab`, `solar` and `clocked`; `sig` a
        signature or a task. `opts` are options of `apply_async`, and what an entry of BEAT_SCHEDULE may say besides
        (catch_up, overlap …). Beat learns of it when it starts. Raises TypeError, ValueError for what does not fit.
        """
        return codeschedules.add_periodic_task(schedule, sig, args, kwargs, name, opts)

    def setup_security(
        self,
        allowed_serializers: Collection[str] | None = None,
        key: str | None = None,
        key_password: str | bytes | None = None,
        cert: str | None = None,
        store: str | None = None,
        digest: str | None = None,
        serializer: str | None = None,
    ) -> None:
        """See that calls are signed, and that nothing else is read (`djtasks.security.setup_security`)."""
        setup_security(allowed_serializers, key, key_password, cert, store, digest, serializer)

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

    def signature(self, *args: Any, **kwargs: Any) -> Signature:
        """A signature: see `djtasks.signature`."""
        return signature(*args, **kwargs)

    def connection(self, *args: Any, **kwargs: Any) -> BrokerConnection:
        """What Celery's monitors hand to `app.events.Receiver`; arguments mean nothing here."""
        return BrokerConnection()

    connection_for_read = connection_for_write = connection

    def now(self) -> datetime:
        """The time, in the zone of the settings."""
        return datetime.now(settings.TIMEZONE or UTC)

    def __repr__(self) -> str:
        return f"<Celery {self.main or 'djtasks'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _app_named, (self.main,)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"app.{name}: djtasks does not have it")


def _app_named(main: str | None) -> Celery:
    """The app of the name in this process, for one that was pickled in another; else the current one."""
    current: Celery = appstate.current()
    return next((each for each in (current, *appstate.apps) if each.main == main), current)


def _after_fork() -> None:
    for each in tuple(appstate.apps):
        if each.on_after_fork.receivers:
            each.on_after_fork.send(each)


os.register_at_fork(after_in_child=_after_fork)


#: The app of who needs none of their own.
app = Celery("djtasks", set_as_current=False)
appstate.set_default(app)


def set_up() -> None:
    """Django is set up: fit what has been defined so far to the settings, and tell the apps' receivers."""
    appstate.ready = True
    if any(problem.level == "error" for problem in faults()):
        # The system check says which.
        return
    for task in tuple(registry.tasks.values()):
        try:
            task.annotate()
        except Exception as error:
            # Whatever a project's own annotations raise: the system check says it again, and stops the commands.
            logger.error("TASK_ANNOTATIONS cannot be applied to %s: %s", task.name, error)
            appstate.problems.append(f"{task.name}: {error}")
    for each in tuple(appstate.apps):
        each.finalize()
