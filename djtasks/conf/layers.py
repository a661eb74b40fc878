"""What an app lays over and beneath `DJTASKS`, and the one dict that it all makes.

    add_defaults  <  config_from_object  <  DJTASKS  <  conf.update

What lies beneath is read when the settings are, so that an app can be made before Django has settings.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings as django_settings

from djtasks.conf.foreign import IGNORED, LATER
from djtasks.conf.kinds import Unfit
from djtasks.conf.options import FORMERLY, KINDS
from djtasks.exceptions import ImproperlyConfigured

Source = Callable[[], Mapping[str, Any]]

_defaults: list[Source] = []
_sources: list[Source] = []
_changes: dict[str, Any] = {}


def raw() -> Any:
    """`DJTASKS` with what lies over and beneath it; what is no dict as it stands."""
    own = getattr(django_settings, "DJTASKS", {})
    if not (_defaults or _sources or _changes) or not isinstance(own, Mapping):
        return own
    merged: dict[str, Any] = {}
    for source in (*_defaults, *_sources):
        merged |= source()
    return {**merged, **own, **_changes}


def name_of(key: str, namespace: str = "") -> str | None:
    """The setting that `key` is, in Celery's words of any time, or in ours; None when it is none that acts here.

    Raises ImproperlyConfigured when there is nothing of the name.
    """
    upper = key.upper()
    for candidate in (upper.removeprefix(f"{namespace.upper()}_") if namespace else upper, upper):
        if candidate in KINDS:
            return candidate
        if candidate in FORMERLY:
            return FORMERLY[candidate]
        if _foreign(candidate):
            return None
    raise ImproperlyConfigured(f"{key!r} is not a setting")


def _foreign(name: str) -> bool:
    bare = name.removeprefix("CELERY_").removeprefix("CELERYD_").removeprefix("CELERYBEAT_")
    return not {name, bare, f"WORKER_{bare}", f"BEAT_{bare}", f"TASK_{bare}"}.isdisjoint(IGNORED | LATER)


def known(mapping: Mapping[str, Any], namespace: str = "") -> dict[str, Any]:
    """The settings that `mapping` holds under names of any time; the rest, which is somebody else's, is left out.

    Raises ImproperlyConfigured when old and new names stand side by side.
    """
    found: dict[str, Any] = {}
    old: dict[str, str] = {}
    new: list[str] = []
    for key, value in mapping.items():
        if namespace and not key.upper().startswith(f"{namespace.upper()}_"):
            continue
        try:
            name = name_of(key, namespace)
        except ImproperlyConfigured:
            continue
        if name is None:
            continue
        found[name] = value
        if not namespace and key in FORMERLY:
            old[key] = name.lower()
        elif not namespace:
            new.append(key)
    if old and new:
        renames = ", ".join(f"{key} is {name}" for key, name in sorted(old.items()))
        raise ImproperlyConfigured(f"old and new names of settings are mixed: {renames}; write all in the new style")
    return found


def beneath(source: Source, default: bool = False) -> None:
    """Lay what `source` is going to answer beneath `DJTASKS`; with `default` beneath all other sources."""
    (_defaults if default else _sources).append(source)


def over(changes: Mapping[str, Any]) -> None:
    """Lay these settings over `DJTASKS`. Raises ImproperlyConfigured for a value that does not fit; none is taken."""
    for name, value in changes.items():
        try:
            KINDS[name].read(value)
        except Unfit as error:
            raise ImproperlyConfigured(f"{name.lower()} {error}") from None
    _changes.update(changes)


def state() -> tuple[list[Source], list[Source], dict[str, Any]]:
    """All that lies over and beneath now; for `restore`."""
    return list(_defaults), list(_sources), dict(_changes)


def restore(was: tuple[Iterable[Source], Iterable[Source], Mapping[str, Any]]) -> None:
    """Go back to what `state()` told."""
    _defaults[:], _sources[:] = was[0], was[1]
    _changes.clear()
    _changes.update(was[2])
