"""Runs the cases with one of the two libraries and prints what came of them as JSON: `python run.py celery|djtasks`."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

if __name__ == "__main__":
    os.environ["DIFFERENTIAL"] = sys.argv[1]
    if sys.argv[1] == "djtasks":
        import_module("django").setup()

from tests.differential import cases
from tests.differential.pure import FACTS

#: A task's id, which is another one each time.
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
Runner = Callable[[Any], Any]


@contextmanager
def celery_worker() -> Iterator[Runner]:
    """A worker in a thread, on a broker in memory."""
    testing = import_module("celery.contrib.testing.worker")
    with testing.start_worker(cases.app, pool="solo", perform_ping_check=False, loglevel="CRITICAL"):
        yield lambda result: None


@contextmanager
def djtasks_worker() -> Iterator[Runner]:
    """What waits is run in this process; nothing of it stays."""
    drain = import_module("djtasks.testing").drain
    transaction = import_module("django.db.transaction")
    with transaction.atomic():
        yield lambda result: drain()
        transaction.set_rollback(True)


def shown(value: Any) -> Any:
    """A result as JSON can carry it: of an exception its class and its arguments."""
    if isinstance(value, BaseException):
        return [type(value).__name__, [str(each) for each in value.args]]
    return value


def wait_for(count: int) -> None:
    """Wait until so much has been told; not for ever: it shows in what is compared."""
    until = time.monotonic() + 10
    while len(cases.told) < count and time.monotonic() < until:
        time.sleep(0.01)


def main() -> None:
    """Print what came of the cases."""
    outcomes = {}
    with (celery_worker if cases.LIBRARY == "celery" else djtasks_worker)() as run:
        for name, task, args, kwargs, options in cases.CALLS:
            cases.told.clear()
            result = task.apply_async(args, kwargs, **options)
            run(result)
            value = result.get(timeout=30, propagate=False)
            wait_for(cases.TELLING.get(name, 0))
            if options.get("ignore_result"):
                outcomes[name] = [None, shown(value), []]
                continue
            # Of several links none need be the first.
            told = sorted(cases.told, key=repr) if name in cases.TELLING else list(cases.told)
            outcomes[name] = [str(result.state), shown(value), told]
    facts = {name: fact() for name, fact in FACTS.items()}
    print(ID.sub("ID", json.dumps({"calls": outcomes, "facts": facts}, default=repr, sort_keys=True)))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
