"""What one can do to a task through its result, beside waiting for it.

The functions that do it stand above results, and hand themselves over here when they are imported.
"""

from collections.abc import Callable
from typing import Any

_actions: dict[str, Callable[..., Any]] = {}


def hand_over(revoke: Callable[..., Any], revoke_by_stamped_headers: Callable[..., Any]) -> None:
    """These are what a result revokes with."""
    _actions.update({"revoke": revoke, "revoke_by_stamped_headers": revoke_by_stamped_headers})


def revoke(results: Any, **options: Any) -> Any:
    """Revoke the tasks of several results at once, or of one."""
    return _actions["revoke"](results, **options)


class Revocable:
    """The part of AsyncResult that revokes its task."""

    __slots__ = ()

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | int | None = None,
        wait: bool = False,
        timeout: float | None = None,
        *,
        workflow: bool = False,
        immediately: bool = False,
    ) -> Any:
        """Let the task not run, or, with `terminate`, not go on; see `app.control.revoke`, also for what is returned.

        With `wait` returns what Celery's workers would answer. `connection` and `timeout` mean nothing here.
        """
        return revoke(
            self,
            terminate=terminate,
            signal=signal or "SIGTERM",
            workflow=workflow,
            immediately=immediately,
            reply=wait,
        )

    def revoke_by_stamped_headers(
        self,
        headers: Any,
        connection: Any = None,
        terminate: bool = False,
        signal: str | int | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Let tasks not run that have one of these stamps, whichever they are; `app.control` has the same."""
        return _actions["revoke_by_stamped_headers"](
            headers, terminate=terminate, signal=signal or "SIGTERM", reply=wait
        )
