"""What an app can start, besides manage.py: `app.worker_main(argv)`, `app.start(argv)`, `app.Worker(…)`."""

import sys
import threading
from collections.abc import Sequence
from typing import Any, Final

from django.core.management import call_command

from djtasks.cli import worker as command
from djtasks.cli.umbrella import VERBS
from djtasks.exceptions import ImproperlyConfigured
from djtasks.worker.worker import EX_REPLACE, Worker

#: Celery's commands that have one of manage.py's to themselves.
_OWN: Final = {"worker": "runworker", "beat": "runbeat"}
#: Options that stand before a command, with a value behind them.
_GLOBAL: Final = frozenset({"-A", "--app", "-b", "--broker", "--result-backend", "--loader", "--config", "--workdir"})


def start(app: Any, argv: Sequence[str] | None = None) -> int:
    """Do what a command line of Celery's says, as `["worker", "-l", "INFO"]`; returns its exit code.

    Raises CommandError for what cannot be started, ImproperlyConfigured where no command is named.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    place = _verb(arguments)
    if place is None:
        known = ", ".join(sorted({*_OWN, *VERBS}))
        raise ImproperlyConfigured(f"name a command, one of {known}: app.start(['worker', '-l', 'INFO'])")
    before, verb, after = arguments[:place], arguments[place], arguments[place + 1 :]
    app.set_current()
    line = [_OWN[verb], *before, *after] if verb in _OWN else ["djtasks", *before, verb, *after]
    try:
        call_command(*line, skip_checks="--skip-checks" in line)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0


def worker_main(app: Any, argv: Sequence[str] | None = None) -> int:
    """Run a worker, as `["worker", "-l", "INFO"]` says; returns its exit code. Raises as `start` does."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    place = _verb(arguments)
    if place is None or arguments[place] != "worker":
        raise ImproperlyConfigured("app.worker_main() wants the command in its arguments: ['worker', '-l', 'INFO']")
    return start(app, arguments)


def _verb(arguments: Sequence[str]) -> int | None:
    skip = False
    for place, argument in enumerate(arguments):
        if skip:
            skip = False
        elif argument in _OWN or argument in VERBS:
            return place
        else:
            skip = argument in _GLOBAL
    return None


class WorkController:
    """A worker inside of a program: `start` runs it until it is told to stop, in the main thread or in another one.

    In the main thread it takes signals, as `runworker` does. In another one it takes none, writes no banner and leaves
    logging alone.
    """

    def __init__(self, app: Any, hostname: str | None = None, **options: Any) -> None:
        """`options` are those of `runworker`, in Celery's names: queues may be a text with commas.

        Raises ImproperlyConfigured, TypeError for an option that there is not.
        """
        self.app = app
        given = {"hostname": hostname, **options}
        for name in ("queues", "exclude_queues", "include"):
            if isinstance(given.get(name), str):
                given[name] = command.names(given[name])
        if unknown := given.keys() - command.option_names():
            names = ", ".join(sorted(unknown))
            raise TypeError(f"a worker in a program has no option {names}; `manage.py runworker --help` names them")
        app.set_current()
        self.options = command.worker_options(given)
        #: What `start` has ended with; None before.
        self.exitcode: int | None = None
        self._worker: Worker | None = None
        self._stopped = threading.Event()

    @property
    def hostname(self) -> str:
        """The node's name."""
        return self.options.hostname

    def start(self) -> int:
        """Run it; returns its exit code. Raises ImproperlyConfigured."""
        embedded = threading.current_thread() is not threading.main_thread()
        self._worker = command.make(self.options, embedded=embedded)
        if self._stopped.is_set():
            self._worker.stop()
        code = self._worker.run()
        # To start anew is for whoever has started it.
        self.exitcode = 0 if code == EX_REPLACE else code
        return self.exitcode

    def stop(self, *, in_sighandler: bool = False, exitcode: int | None = None) -> None:
        """Let it end what runs, and then itself; from any thread."""
        self._stopped.set()
        if self._worker is not None:
            self._worker.stop()

    def __repr__(self) -> str:
        return f"<Worker: {self.hostname}>"
