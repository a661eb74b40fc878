"""`app.conf`: the settings under Celery's names, to be read and to be changed."""

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from django.conf import LazySettings
from django.utils.module_loading import import_string

from djtasks.conf import did_you_mean, layers, overlay, reread, settings
from djtasks.conf.options import FIELDS, KINDS
from djtasks.exceptions import ImproperlyConfigured
from djtasks.masking import MASK


class Conf:
    """The settings, under Celery's names of any time or under ours: `app.conf.task_time_limit`.

    What is set acts at once, in this process and in those that it forks from then on. Celery's settings that mean
    nothing here can be set, and are None.
    """

    __slots__ = ("_before",)

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        """`before` is called before anything is read."""
        object.__setattr__(self, "_before", before)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        self._before()
        return _read(name)

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

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name, self) is not self

    def __iter__(self) -> Iterator[str]:
        return iter(name.lower() for name in KINDS)

    def keys(self) -> list[str]:
        """The names of all settings that act here."""
        return list(self)

    def __setattr__(self, name: str, value: object) -> None:
        self.update({name: value})

    __setitem__ = __setattr__

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set all of these, or none of them. Raises ImproperlyConfigured for a value that does not fit, AttributeError
        for what is no setting.
        """
        changes = {}
        for key, value in dict(*args, **kwargs).items():
            if (name := _name(key)) is not None:
                changes[name] = value
        overlay(changes)

    def humanize(self, with_defaults: bool = False) -> str:
        """The settings as lines of text; without `with_defaults`, those that are not at their defaults."""
        found = table(with_defaults)
        return "\n".join(f"{name}: {MASK if value is MASK else repr(value)}" for name, value in found.items())


def table(with_defaults: bool = False) -> dict[str, Any]:
    """The settings by Celery's names, without secrets: those that are not at their defaults, or all."""
    found = {}
    for name in KINDS:
        field, value = FIELDS[name], getattr(settings, name)
        default = field.default_factory() if callable(field.default_factory) else field.default
        if with_defaults or value != default:
            found[name.lower()] = MASK if _secret(name) else _without_secrets(value)
    return found


def _secret(name: str) -> bool:
    return any(word in name.upper() for word in ("SECRET", "PASSWORD", "TOKEN", "_KEY"))


def _without_secrets(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    hide = {key for key in value if isinstance(key, str) and _secret(key)}
    return {key: MASK if key in hide else _without_secrets(each) for key, each in value.items()}


def _name(key: str) -> str | None:
    try:
        return layers.name_of(key)
    except ImproperlyConfigured as error:
        near = did_you_mean(key)
        raise AttributeError(f"{error}" + (f"; did you mean {near.lower()!r}?" if near else "")) from None


def _read(key: str) -> Any:
    name = _name(key)
    return None if name is None else getattr(settings, name)


def from_object(obj: Any, silent: bool = False, force: bool = False, namespace: str | None = None) -> None:
    """Read settings from `obj`, an object, a dict, or "module" or "module:attribute", beneath `DJTASKS`.

    It is read when the first setting is asked for, or at once with `force`. With a `namespace` of CELERY, those that
    begin with CELERY_. Raises ImproperlyConfigured, ImportError; with `silent` what cannot be imported is empty.
    """

    def source() -> Mapping[str, Any]:
        try:
            found = _imported(obj) if isinstance(obj, str) else obj
        except ImportError:
            if silent:
                return {}
            raise
        return layers.known(_as_mapping(found, namespace or ""), namespace or "")

    if force:
        source()
    layers.beneath(source)
    reread()


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError:
        if attribute or "." not in module:
            raise
        return import_string(module)
    return getattr(found, attribute) if attribute else found


def _as_mapping(obj: Any, namespace: str) -> Mapping[str, Any]:
    if isinstance(obj, Mapping):
        return obj
    names: Sequence[str] = dir(obj)
    if isinstance(obj, LazySettings | ModuleType):
        names = [name for name in names if name.isupper() or not namespace]
    return {name: getattr(obj, name) for name in names if not name.startswith("_")}


def from_envvar(variable: str, silent: bool = False, force: bool = False) -> bool:
    """Read settings from the module that an environment variable names. Whether it names one.

    Raises ImproperlyConfigured when it does not, unless `silent`.
    """
    module = os.environ.get(variable)
    if not module:
        if silent:
            return False
        raise ImproperlyConfigured(f"the environment variable {variable!r} is not set: it is to name a module")
    from_object(module, silent=silent, force=force)
    return True


def from_cmdline(argv: Sequence[str], namespace: str = "celery") -> None:
    """Set what arguments as `worker.concurrency=3` or `task_time_limit=60` say.

    Raises ImproperlyConfigured for what does not fit, AttributeError for what is no setting.
    """
    changes = {}
    for argument in argv:
        key, equals, text = argument.partition("=")
        if not equals:
            raise ImproperlyConfigured(f"{argument!r} is no setting: write name=value")
        name = _name(key.strip().replace(".", "_").removeprefix(f"{namespace}_"))
        if name is not None:
            changes[name] = _typed(name, text.strip())
    overlay(changes)


def _typed(name: str, text: str) -> Any:
    """What `text` says, in the first form that the setting takes."""
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "none": None}
    forms: list[Callable[[str], Any]] = [lambda said: words[said.lower()], int, float, str, lambda s: s.split(",")]
    for form in forms:
        try:
            value = form(text)
            KINDS[name].read(value)
        except (KeyError, ValueError):
            continue
        return value
    return text


def add_defaults(source: Any) -> None:
    """Lay settings beneath all others: a dict, or a function that returns one."""

    def read() -> Mapping[str, Any]:
        return layers.known(source() if callable(source) else source)

    layers.beneath(read, default=True)
    reread()
