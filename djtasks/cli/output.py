"""What verbs have in common: how they say things, to people and as JSON, and options that several have."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from djtasks.cli.exits import Usage
from djtasks.conf.kinds import Unfit, queue_name
from djtasks.exceptions import safe_repr

Say = Callable[[str], Any]


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("-j", "--json", action="store_true", help="answer with JSON")


def as_json(found: Any) -> str:
    """JSON of anything: what JSON has no word for is its repr."""
    try:
        return json.dumps(found, default=safe_repr, ensure_ascii=False)
    except (TypeError, ValueError):
        # Keys that are no texts, or what contains itself.
        return json.dumps(safe_repr(found), ensure_ascii=False)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns of text, as wide as what stands in them."""
    lines = [tuple(head), *(tuple("-" if cell is None else str(cell) for cell in row) for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def names(text: str) -> list[str]:
    """A list of names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def checked_queues(wanted: Iterable[str]) -> list[str]:
    """These names of queues. Raises Usage for what can be none."""
    found = list(dict.fromkeys(wanted))
    for name in found:
        try:
            queue_name(name)
        except Unfit as error:
            raise Usage(f"--queues: each {error}") from None
    return found


def age(seconds: float | None) -> str:
    """A time span for people."""
    return "-" if seconds is None else str(timedelta(seconds=round(max(0.0, seconds))))


def chosen(options: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Those of these options that were given."""
    return {key: options[key] for key in keys if options.get(key) is not None}
