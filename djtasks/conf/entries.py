"""How a setting is written down: its name, type, default, what it may be, and its documentation in one entry."""

from dataclasses import field
from typing import Any, NamedTuple

from djtasks.conf.kinds import Kind


class Entry(NamedTuple):
    """The documentation of one setting, as the settings page prints it."""

    name: str
    type: str
    default: Any
    wants: str
    help: str
    #: The names Celery had for it before its settings were in lower case.
    formerly: tuple[str, ...]


def option(default: Any, kind: Kind, help: str, *formerly: str) -> Any:
    """One setting; `formerly` are Celery's old names for it."""
    metadata = {"kind": kind, "help": help, "formerly": formerly}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)
