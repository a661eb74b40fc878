"""What `status`, `inspect` and `control` have in common: options, arguments of commands, and answers as text."""

import argparse
import difflib
import pprint
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from djtasks.cli.exits import EX_FAILURE, EX_OK, Unavailable, Usage
from djtasks.cli.output import Say, add_json, as_json, names
from djtasks.db import inspection
from djtasks.db.connections import borrow
from djtasks.panel import Panel
from djtasks.registry import import_default_modules
from djtasks.worker import commands as _commands  # noqa: F401

NOBODY = "No nodes replied within time constraint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Celery's options; they stand before the command, or behind its last argument."""
    add = parser.add_argument
    add("-d", "--destination", type=names, metavar="A,B", help="only these workers, by the names of their nodes")
    add("-t", "--timeout", type=float, default=1.0, metavar="SECONDS", help="wait so long for answers (default: 1)")
    add_json(parser)


def add_command(parser: argparse.ArgumentParser) -> None:
    """A command and its arguments."""
    add_arguments(parser)
    parser.add_argument("--list", action="store_true", help="say which commands there are")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="what to ask or tell; --list says what there is")
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT", help="the command's own arguments")


@contextmanager
def refusing() -> Iterator[None]:
    """What cannot be asked is a mistake of the caller's."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise Usage(str(error)) from None


def meant(given: Mapping[str, Any]) -> list[str] | None:
    """The nodes that are meant; None for all. Raises Unavailable for names that no worker has."""
    wanted: list[str] | None = given.get("destination")
    if wanted is None:
        return None
    known = sorted({node.name for node in inspection.nodes(borrow())})
    if unknown := [name for name in wanted if name not in known]:
        there = f"there are {', '.join(known)}" if known else "there is none"
        raise Unavailable(f"no worker has the name {', '.join(unknown)}; {there}")
    return wanted


def chosen(given: Mapping[str, Any], kind: str, more: Sequence[str] = ()) -> str:
    """The command. Raises Usage for one that there is not."""
    import_default_modules()
    known = sorted({*Panel.names(kind), *more})
    command = given.get("command")
    if command is None:
        raise Usage(f"which command? There are {', '.join(known)}")
    info = Panel.info(command)
    if command not in known and (info is None or info.type != kind):
        near = difflib.get_close_matches(str(command), known, n=1)
        cure = f"did you mean {near[0]!r}?" if near else "see --list"
        raise Usage(f"there is no {kind} command {command!r}; {cure}")
    return str(command)


def listed(kind: str, more: Mapping[str, str]) -> str:
    """The commands of a type, with their arguments and what they do."""
    import_default_modules()
    found = dict(more)
    for name in Panel.names(kind):
        info = Panel.meta[name]
        found[f"{name} {info.signature}" if info.signature else name] = info.help
    return "\n".join(f"  {name}\n      {text}" for name, text in sorted(found.items()))


def arguments_of(command: str, words: Sequence[str]) -> dict[str, Any]:
    """The arguments of a command, from words in order. Raises Usage."""
    info = Panel.info(command)
    if info is None:
        return {}
    takes = f"{command} takes {info.signature or 'no arguments'}"
    found: dict[str, Any] = {}
    for (name, kind), word in zip(info.args, words, strict=False):
        try:
            found[name] = word if kind is None else kind(word)
        except ValueError as error:
            raise Usage(f"{name}: {error}; {takes}") from None
    rest = list(words[len(info.args) :])
    if info.variadic:
        found[info.variadic] = rest
    elif rest:
        raise Usage(f"{' '.join(rest)} is too much: {takes}")
    return found


def tell(answers: Mapping[str, Any], say: Say, *, bodies: bool = True) -> None:
    """The answers, as Celery writes them."""
    for node, answer in answers.items():
        head, body = _pretty(answer)
        say(f"->  {node}: {head}")
        if bodies and body:
            say(textwrap.indent(body, "    "))


def online(answers: Mapping[str, Any]) -> str:
    """How many there are."""
    return f"\n{len(answers)} node{'' if len(answers) == 1 else 's'} online."


def _pretty(answer: Any) -> tuple[str, str]:
    if isinstance(answer, Mapping):
        if "ok" in answer:
            return "OK", str(answer["ok"])
        if "error" in answer:
            return "ERROR", str(answer["error"])
    if isinstance(answer, list):
        lines = [f"* {each if isinstance(each, str) else pprint.pformat(each, width=100)}" for each in answer]
        return "OK", "\n".join(lines) or "- empty -"
    return "OK", answer if isinstance(answer, str) else pprint.pformat(answer, width=100)


def code_of(answers: Mapping[str, Any]) -> int:
    """The exit code: a failure when nobody could do it."""
    failed = [isinstance(answer, Mapping) and "error" in answer and "ok" not in answer for answer in answers.values()]
    return EX_FAILURE if failed and all(failed) else EX_OK


def said(found: Any, given: Mapping[str, Any], say: Say) -> bool:
    """Whether JSON was wanted, and said."""
    if given.get("json"):
        say(as_json(found))
        return True
    return False
