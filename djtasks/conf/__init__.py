"""The settings: `DJTASKS` in Django's settings, checked once and read as plain attributes.

    from djtasks.conf import settings
    settings.TASK_TIME_LIMIT

Nothing is read before the first attribute is asked for, so the import works before Django is set up. What was read is
forgotten when a test overrides Django's settings.
"""

from collections.abc import Mapping
from typing import Any, NoReturn, cast

from django.conf import settings as django_settings
from django.core.signals import setting_changed

from djtasks.conf import layers
from djtasks.conf.entries import Entry
from djtasks.conf.foreign import IGNORED
from djtasks.conf.options import KINDS, Settings, describe
from djtasks.conf.problems import Problem, did_you_mean, of_celery, problems
from djtasks.exceptions import ImproperlyConfigured

__all__ = [
    "IGNORED",
    "Entry",
    "Problem",
    "Settings",
    "describe",
    "did_you_mean",
    "faults",
    "load",
    "overlay",
    "problems",
    "reread",
    "settings",
]


def load(raw: Mapping[str, Any]) -> Settings:
    """The settings that `raw`, a `DJTASKS` dict, makes.

    Raises ImproperlyConfigured, which names every error and its cure.
    """
    _refuse(problems(raw))
    return _made(raw)


def _refuse(found: list[Problem]) -> None:
    if errors := [problem for problem in found if problem.level == "error"]:
        lines = [f"{problem.text} {problem.hint}" for problem in errors]
        raise ImproperlyConfigured(lines[0] if len(lines) == 1 else "\n".join(["DJTASKS:", *lines]))


def _made(raw: Mapping[str, Any]) -> Settings:
    return Settings(**{key: KINDS[key].read(value) for key, value in raw.items() if key in KINDS})


class _Lazy:
    """Stands for a `Settings`: its attributes become attributes of this object at the first miss."""

    def __getattr__(self, name: str) -> Any:
        if not name.isupper():
            raise AttributeError(f"djtasks has no setting {name!r}")
        values = read()
        if name not in KINDS:
            near = did_you_mean(name)
            raise AttributeError(f"djtasks has no setting {name!r}" + (f"; did you mean {near!r}?" if near else ""))
        self.__dict__.update({key: getattr(values, key) for key in KINDS})
        return getattr(values, name)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"cannot set {name!r}: change DJTASKS in Django's settings (in a test: override_settings)")

    def __repr__(self) -> str:
        return "<djtasks settings>"


def read() -> Settings:
    """The settings as Django's settings have them at this moment.

    Raises ImproperlyConfigured, or Django's own error when Django has no settings.
    """
    merged = layers.raw()
    _refuse(faults(merged))
    return _made(merged)


def faults(merged: Any = None) -> list[Problem]:
    """All that is wrong with the settings as they are now, in `DJTASKS`, beneath it and over it."""
    merged = layers.raw() if merged is None else merged
    if not isinstance(merged, Mapping):
        return problems(merged)
    return [*problems(merged, layers.names(merged)), *of_celery(layers.celerys())]


settings: Settings = cast("Settings", _Lazy())


def overlay(changes: Mapping[str, Any]) -> None:
    """Let these settings, under our names, act instead of what `DJTASKS` says, from now on and in this process.

    What was forked before goes on with what it had. Raises ImproperlyConfigured for what does not fit, also when only
    the whole does not; then all is as it was.
    """
    was = layers.state()
    layers.over(changes)
    # Before Django has read its settings nothing may ask for them.
    if django_settings.configured:
        try:
            read()
        except ImproperlyConfigured:
            layers.restore(was)
            raise
    reread()


def reread() -> None:
    """Forget what was read: the next attribute that is asked for reads anew."""
    vars(settings).clear()


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "DJTASKS" or setting.startswith(layers.PREFIXES):
        vars(settings).clear()


setting_changed.connect(_forget, dispatch_uid="djtasks.conf")
