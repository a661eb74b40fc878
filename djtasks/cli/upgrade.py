"""`djtasks upgrade settings`: the DJTASKS dict that a project's Celery settings make."""

import argparse
import ast
import runpy
from collections.abc import Iterator, Mapping
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings

from djtasks.cli.exits import EX_FAILURE, EX_OK, Usage
from djtasks.cli.output import Say, add_json, as_json
from djtasks.conf import layers, problems
from djtasks.exceptions import ImproperlyConfigured, safe_repr

HELP = (
    "Write the DJTASKS dict that Celery's settings make, with old names as new ones, to be put into Django's settings."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to read."""
    add = parser.add_argument
    add("what", choices=("settings",), help="there is one thing to upgrade")
    add("source", nargs="?", metavar="FILE", help="a Python file, or a module (default: Django's settings)")
    add("--namespace", metavar="PREFIX", help="what its names begin with (default: CELERY for Django's settings)")
    add("--django", action="store_true", help="as --namespace CELERY")
    add("--compat", action="store_true", help="accepted, and not needed: no file is changed")
    add("--no-backup", action="store_true", help="accepted, and not needed: no file is changed")
    add_json(parser)


def run(given: Mapping[str, Any], say: Say) -> int:
    """Write it; 1 when something has to be written by hand. Raises Usage for what cannot be read."""
    source, namespace = given.get("source"), given.get("namespace") or ""
    if given.get("django") or not source:
        namespace = namespace or "CELERY"
    names = {key: value for key, value in _read(source).items() if key[:1].isalpha() and not key.startswith("DJTASKS")}
    begins = layers.PREFIXES if namespace == "CELERY" else (f"{namespace}_",)
    if not source and not any(key.startswith(begins) for key in names):
        say(f"Django's settings have no name that begins with {namespace}_; name a file of Celery's settings")
    found, needless, unknown = _sorted_out(names, namespace)
    good = {key: value for key, value in found.items() if _literal(value) is not None}
    odd = {key: value for key, value in found.items() if key not in good}
    wrong = [each for each in problems(good) if each.level == "error"]
    if given.get("json"):
        by_hand = {key: safe_repr(value, 200) for key, value in odd.items()}
        texts = [each.text for each in wrong]
        say(
            as_json(
                {"DJTASKS": good, "by_hand": by_hand, "not_needed": needless, "unknown": unknown, "problems": texts}
            )
        )
    else:
        for line in _lines(good, odd, needless, unknown):
            say(line)
        for each in wrong:
            say(f"# !!! {each.text} {each.hint}")
    return EX_FAILURE if odd or wrong else EX_OK


def _read(source: str | None) -> dict[str, Any]:
    """The names of a module, of a file, or of Django's settings."""
    if source is None:
        return {name: getattr(django_settings, name) for name in dir(django_settings) if name.isupper()}
    try:
        if source.endswith(".py") or "/" in source:
            return runpy.run_path(str(Path(source)))
        return dict(vars(import_module(source)))
    except Exception as error:
        # Whatever a module raises that is not made for this.
        raise Usage(f"{source} cannot be read: {type(error).__name__}: {error}") from None


def _literal(value: Any) -> str | None:
    """How it is written in Python; None for what is no literal."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    text = repr(value)
    try:
        return text if ast.literal_eval(text) == value else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _sorted_out(names: Mapping[str, Any], namespace: str) -> tuple[dict[str, Any], list[str], list[str]]:
    """What acts here, by our names; the names of what does not; and those that only look like settings.

    Raises Usage where two names contradict.
    """
    if namespace == "CELERY":
        # Django's settings have others between them, and may have Celery's in the style of any time.
        found = layers.celerys_in(names)
        for one, other in found.clashes:
            raise Usage(f"{one} and {other} are one setting, with different values; take one of them out")
        return found.values, sorted(found.foreign.values()), sorted(found.strange)
    prefix = f"{namespace.upper()}_" if namespace else ""
    ours = [name for name in names if name.upper().startswith(prefix)]
    try:
        # A module of Celery's own has all its names in one style.
        known = layers.known(names, namespace)
    except ImproperlyConfigured as error:
        raise Usage(str(error)) from None
    begins = prefix or layers.PREFIXES
    needless: list[str] = []
    unknown: list[str] = []
    for name in sorted(ours):
        try:
            if layers.name_of(name, namespace) is None:
                needless.append(name)
        except ImproperlyConfigured:
            if name.upper().startswith(begins):
                unknown.append(name)
    return known, needless, unknown


def _lines(good: Mapping[str, Any], odd: Mapping[str, Any], needless: list[str], unknown: list[str]) -> Iterator[str]:
    yield "DJTASKS = {"
    for key, value in sorted(good.items()):
        yield f'    "{key}": {_literal(value)},'
    for key, value in sorted(odd.items()):
        yield f"    # to be written by hand, as docs/reference/settings.md says: {key} = {safe_repr(value, 200)}"
    yield "}"
    if needless:
        yield f"# Not needed any more: {', '.join(needless)}"
    if unknown:
        yield f"# Left out, as no settings of Celery's (those of Django's settings want --django): {', '.join(unknown)}"
