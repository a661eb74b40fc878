"""Tasks of `django.tasks` in workflows: their calls as signatures."""

from typing import Any

from djtasks.canvas.signature import Signature
from djtasks.exceptions import safe_repr
from djtasks.registry import tasks


def signature_of(task: Any, *args: Any, **kwargs: Any) -> Signature:
    """A call of a task of `django.tasks` as data, for chains, groups and chords beside those of any other task.

    Priority, queue, `run_after` and backend are those of `task`. Raises TypeError for what is no such task, for one
    that djtasks does not run, and for arguments that JSON cannot carry.
    """
    path = getattr(task, "module_path", None)
    if not isinstance(path, str):
        raise TypeError(f"signature_of() takes a task of django.tasks, not {safe_repr(task, 200)}")
    runner: Any = tasks.get(path)
    if not hasattr(type(runner), "signature_of"):
        raise TypeError(
            f"{path} is run by the backend {task.backend!r}, and not by djtasks: take .using(backend=…) with the alias"
            " of a backend of djtasks"
        )
    made: Signature = runner.signature_of(task, args, kwargs)
    return made
