"""What an app lays over and beneath `DJTASKS`, and the one dict that it all makes.

    add_defaults  <  CELERY_* of Django's settings  <  config_from_object  <  DJTASKS  <  conf.update

What lies beneath is read when the settings are, so that an app can be made before Django has settings.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from django.conf import settings as django_settings

from djtasks.conf.foreign import FORMERLY_IGNORED, IGNORED
from djtasks.conf.kinds import Unfit
from djtasks.conf.options import FORMERLY, KINDS
from djtasks.exceptions import ImproperlyConfigured

Source = Callable[[], Mapping[str, Any]]

_defaults: list[Source] = []
_sources: list[Source] = []
_changes: dict[str, Any] = {}

#: With this one of DJTASKS the CELERY_* of Django's settings are left to Celery.
SWITCH = "READ_CELERY_SETTINGS"
#: What Celery's names begin with in Django's settings, now and formerly.
PREFIXES = ("CELERY_", "CELERYD_", "CELERYBEAT_")
_BROKER = "BROKER_"


class Celerys(NamedTuple):
    """What Django's settings say under Celery's names; all by our names."""

    values: dict[str, Any]
    #: What each is called there.
    names: dict[str, str]
    #: What does nothing here, and what it is called there.
    foreign: dict[str, str]
    #: Two names of one setting that say different things.
    clashes: list[tuple[str, str]]
    #: What begins like a setting of Celery's, and is none.
    strange: list[str]


def raw() -> Any:
    """`DJTASKS` with what lies over and beneath it; what is no dict as it stands."""
    own = getattr(django_settings, "DJTASKS", {})
    if not isinstance(own, Mapping):
        return own
    found = celerys().values
    if not (_defaults or _sources or _changes or found):
        return own
    merged: dict[str, Any] = {}
    for source in _defaults:
        merged |= source()
    merged |= found
    for source in _sources:
        merged |= source()
    return {**merged, **own, **_changes}


def celerys() -> Celerys:
    """The settings of Celery's that stand in Django's as CELERY_…, unless DJTASKS says that they are not ours."""
    own = getattr(django_settings, "DJTASKS", {})
    if not isinstance(own, Mapping) or own.get(SWITCH) is False:
        return celerys_in({})
    keys = [key for key in dir(django_settings) if key.startswith((*PREFIXES, _BROKER))]
    result = celerys_in({key: getattr(django_settings, key) for key in keys})
    for name in own.keys() & result.values.keys():
        # Said anew: what it was does not matter any more.
        del result.values[name], result.names[name]
    result.clashes[:] = [names for names in result.clashes if name_of(names[0], "CELERY") not in own]
    return result


def celerys_in(mapping: Mapping[str, Any]) -> Celerys:
    """The settings of Celery's among these, which have its prefixes; the rest is left out."""
    result = Celerys({}, {}, {}, [], [])
    for key, value in mapping.items():
        if key.startswith(PREFIXES):
            _sort(key, value, result)
        elif key.startswith(_BROKER) and key in IGNORED:
            result.foreign[key] = key
    return result


def names(merged: Mapping[str, Any]) -> dict[str, str]:
    """What those settings of `merged` are called that Django's settings have under names of Celery's."""
    found = celerys()
    return {name: shown for name, shown in found.names.items() if merged.get(name) is found.values[name]}


def _sort(key: str, value: Any, result: Celerys) -> None:
    try:
        name = name_of(key, "CELERY")
    except ImproperlyConfigured:
        result.strange.append(key)
        return
    if name is None:
        result.foreign[foreign_name(key)] = key
    elif name in result.values and result.values[name] != value:
        result.clashes.append((result.names[name], key))
    else:
        result.values[name] = value
        result.names[name] = key


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
        if foreign_name(candidate):
            return None
    raise ImproperlyConfigured(f"{key!r} is not a setting")


def foreign_name(name: str) -> str:
    """The setting without a meaning here that `name` is, in Celery's words of any time; "" when it is none."""
    bare = name.removeprefix("CELERY_").removeprefix("CELERYD_").removeprefix("CELERYBEAT_")
    guesses = (FORMERLY_IGNORED.get(name, ""), name, bare, f"WORKER_{bare}", f"BEAT_{bare}", f"TASK_{bare}")
    return next((each for each in guesses if each in IGNORED), "")


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
