"""The current app: the last one that was made so, or the default one. Which class an app is, is no business of this."""

from typing import Any
from weakref import WeakSet

from djtasks.proxies import Proxy

#: All apps of the process.
apps: "WeakSet[Any]" = WeakSet()
_default: Any = None
_current: Any = None
#: Whether Django is set up, so that tasks can be fitted to the settings.
ready = False
#: The module with what apps can start: functions that are given the app. Named by what lies above, at Django's setup.
programs = ""
#: What was wrong when they were, for the system check.
problems: list[str] = []


def set_default(app: Any) -> None:
    """Let `app` be the current one as long as no other is."""
    global _default
    _default = app


def set_current(app: Any) -> None:
    """Let `app` be the current one; None: the default one."""
    global _current
    _current = app


def current() -> Any:
    """The current app."""
    return _default if _current is None else _current


current_app: Any = Proxy(current)
