"""`-A proj`: where a command finds its app."""

import importlib
from types import ModuleType
from typing import Any

from djtasks.app import Celery
from djtasks.exceptions import ImproperlyConfigured


def find_app(name: str) -> Celery:
    """The app that `name` stands for: "module:attribute", or a module with one.

    In a module it is `app`, else `celery`, else that of its submodule `celery`, else any app.

    Raises ImproperlyConfigured when there is none.
    """
    module_name, _, attribute = name.partition(":")
    found = _imported(module_name)
    if attribute:
        app = getattr(found, attribute, None)
        if isinstance(app, ModuleType):
            app = _app_in(app)
    else:
        app = found if isinstance(found, Celery) else _app_in(found)
    if not isinstance(app, Celery):
        raise ImproperlyConfigured(f"-A {name}: there is no app in it; write module:attribute")
    return app


def _imported(name: str) -> Any:
    """The module of the name, or the attribute of a module when it is none."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or "?"
        if not f"{name}.".startswith(f"{missing}."):
            # It is there, and imports something that is not.
            raise
        parent, _, attribute = name.rpartition(".")
        found = getattr(importlib.import_module(parent), attribute, None) if parent and missing == name else None
        if found is None:
            raise ImproperlyConfigured(f"-A {name}: there is no module {missing!r}") from None
        return found


def _app_in(module: Any) -> Any:
    for name in ("app", "celery"):
        candidate = getattr(module, name, None)
        if isinstance(candidate, Celery):
            return candidate
    if hasattr(module, "__path__"):
        try:
            return _app_in(importlib.import_module(f"{module.__name__}.celery"))
        except ModuleNotFoundError as error:
            if error.name != f"{module.__name__}.celery":
                raise
    return next((value for value in vars(module).values() if isinstance(value, Celery)), None)
