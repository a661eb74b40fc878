"""The nodes that `djtasks multi` is told of: Celery's way to write many workers' names and options on one line.

Pure: arguments in, nodes out. `multi` starts and stops them.

    3 -c 2 -c:1 10            celery1, celery2, celery3; two children each, the first ten
    image video -Q:image a    image and video, each option for all, or for whom it names
    5 -Q:1-3 a -Q:4,5 b       numbers are places in the list of nodes
"""

import os
import re
import shlex
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from djtasks.cli.exits import Usage

#: So many workers are started at once at the most: more is a slip of the finger.
MOST: Final = 1000
_ABBREVIATION = re.compile(r"%(\w)")
#: The options of `multi` itself which change names, and which the workers do not know.
_OWN = ("--cmd", "--append", "--hostname", "-n", "--prefix", "--suffix", "--range-prefix", "--executable")
_FILES = (("--pidfile", "-p"), ("--logfile", "-f"))

Options = dict[str, str | None]


class Line(NamedTuple):
    """The words behind `multi VERB`, sorted."""

    names: list[str]
    options: Options
    #: By the name, the number, or several of them, of nodes: options which only those have.
    special: dict[str, Options]
    #: What stands behind `--`.
    rest: list[str]
    #: The options, in their order, as they were written.
    written: list[str]


class Node(NamedTuple):
    """One worker."""

    #: Its whole name, with the host's.
    name: str
    #: What Celery calls `%N` and `%d` of it: the name it was given, and the host.
    short: str
    host: str
    #: The options of its `runworker`, in order, with nothing to be expanded but `%i` and `%I`.
    options: Options
    rest: tuple[str, ...]
    #: The Python that runs it; None for this one.
    executable: str | None
    #: Other words than ours before the options.
    command: tuple[str, ...] | None

    def expand(self, text: str) -> str:
        """The text with this node's abbreviations filled in. Raises Usage for one that there is not."""
        return expand(text, self.name, self.short, self.host)

    def words(self) -> list[str]:
        """The options as words of a command line."""
        found: list[str] = []
        for option, value in self.options.items():
            if not value:
                found.append(option)
            elif option.startswith("--"):
                found.append(f"{option}={value}")
            else:
                found += [option, value]
        return [*found, *self.rest]

    @property
    def pidfile(self) -> str:
        """Where its number stands: from its folder, if that is another one."""
        path = (self.options.get("--pidfile") or self.options.get("-p") or "").replace("%i", "0").replace("%I", "")
        return os.path.join(self.options.get("--workdir") or "", path)


def expand(text: str, name: str, short: str, host: str) -> str:
    """Celery's abbreviations: `%n` the node's name before the @, `%N` the same as it was given, `%p` and `%h` the
    whole name, `%d` the host's; `%i` and `%I` stay for the worker. Raises Usage for others.
    """
    values = {"n": name.partition("@")[0] or "celery", "N": short, "p": name, "h": name, "d": host}
    values |= {"i": "%i", "I": "%I"}

    def filled(found: re.Match[str]) -> str:
        if found[1] not in values:
            known = ", ".join(f"%{each}" for each in values)
            raise Usage(f"there is no abbreviation %{found[1]} ({text!r}); there are {known}")
        return values[found[1]]

    return _ABBREVIATION.sub(filled, text)


# -- the line -----------------------------------------------------------------------------------------------------


def read(words: Sequence[str]) -> Line:
    """Names and options. A short option takes the next word as its value, if that is no option; a long one has it
    behind `=`. Raises Usage.
    """
    found = Line([], {}, {}, [], [])
    queue = [word for word in words if word]
    while queue:
        word = queue.pop(0)
        if word == "--":
            found.rest.extend(queue)
            break
        if not word.startswith("-"):
            found.names.append(word)
            continue
        if word.strip("-") == "":
            raise Usage(f"{word!r} is no option; drop it")
        found.written.append(word)
        value: str | None = None
        if word.startswith("--"):
            word, equals, text = word.partition("=")
            value = text if equals else None
        elif queue and not queue[0].startswith("-") and not is_signal(word):
            value = queue.pop(0)
        option, colon, whose = word.partition(":")
        options = found.special.setdefault(whose, {}) if colon else found.options
        options[option] = value
    return found


def nodes_of(line: Line) -> list[Node]:
    """The nodes of a line, each with its own options. Raises Usage."""
    names, counted = _names(line)
    special = _by_name(line, names, counted)
    own = {option: line.options.get(option) for option in _OWN}
    host = own["--hostname"] or own["-n"] or socket.gethostname()
    prefix = (own["--range-prefix"] or "celery") if counted else (own["--prefix"] or "")
    suffix = own["--suffix"] or host
    suffix = "" if suffix in ('""', "''") else suffix
    options = {option: value for option, value in line.options.items() if option not in _OWN}
    found = []
    for name in names:
        node = _filled(name if "@" in name else f"{prefix}{name}@{suffix}")
        short = node.partition("@")[0] if "@" in name else name
        theirs = {**options, **special.get(node, special.get(short, {}))}
        found.append(_node(node, theirs, line, own))
    return found


def _filled(name: str) -> str:
    """The name of a node, in which `%h` is this host, `%n` its first part, `%d` the rest."""
    host = socket.gethostname()
    first, _, domain = host.partition(".")
    values = {"h": host, "n": first, "d": domain}
    if unknown := [found for found in _ABBREVIATION.findall(name) if found not in values]:
        raise Usage(f"there is no abbreviation %{unknown[0]} in names of nodes ({name!r}); there are %h, %n, %d")
    return _ABBREVIATION.sub(lambda found: values[found[1]], name)


def _node(name: str, options: Options, line: Line, own: Mapping[str, str | None]) -> Node:
    short, _, host = name.partition("@")
    executable = options.pop("--executable", None) or own["--executable"]
    filled: Options = {
        option: value and expand(value, name, short, host) for option, value in options.items() if not is_signal(option)
    }
    filled["-n"] = name
    for (long, brief), default in zip(_FILES, ("%n.pid", "%n%I.log"), strict=True):
        if not filled.get(long) and not filled.get(brief):
            filled.pop(brief, None)
            filled[long] = expand(default, name, short, host)
    if "-p" in filled:
        # Celery's short form, which runworker does not have.
        filled = {"--pidfile" if option == "-p" else option: value for option, value in filled.items()}
    for option in ("--pidfile", "--logfile", "-f", "--workdir"):
        if value := filled.get(option):
            filled[option] = os.path.expanduser(value)
    append = expand(own["--append"], name, short, host) if own["--append"] else ""
    rest = (*line.rest, *_split("--append", append))
    command = tuple(_split("--cmd", expand(own["--cmd"], name, short, host))) if own["--cmd"] else None
    return Node(name, short, host, filled, rest, executable, command)


def _split(option: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise Usage(f"{option} {text!r}: {error}") from None


def _names(line: Line) -> tuple[list[str], bool]:
    """The names, and whether they were counted."""
    names = line.names
    if len(names) == 1 and names[0].isascii() and names[0].isdigit():
        if not 1 <= int(names[0][:10]) <= MOST:
            raise Usage(f"{names[0]} nodes are too many, or none; from 1 to {MOST} can be started at once")
        return [str(number) for number in range(1, int(names[0]) + 1)], True
    if not names:
        raise Usage("say which nodes: their names, or how many, as in `multi start 3`")
    return names, False


def _by_name(line: Line, names: list[str], counted: bool) -> dict[str, Options]:
    """Special options by the name of the node: of lists and ranges by each of their members."""
    found: dict[str, Options] = {}
    for whose, options in line.special.items():
        for each in _members(whose, counted):
            found.setdefault(each, {}).update(options)
    # Members of ranges and lists of counted nodes may be more than there are.
    for place, options in list((line.special if counted else found).items()):
        if place.isascii() and place.isdigit():
            if not 1 <= int(place[:10]) <= len(names):
                raise Usage(f"there is no node number {place}, for {' '.join(options)}; there are {len(names)}")
            if not counted:
                found.setdefault(names[int(place) - 1], {}).update(options)
    return found


def _members(whose: str, counted: bool) -> list[str]:
    found = []
    for part in whose.split(","):
        first, dash, last = part.partition("-")
        if not (counted and dash):
            found.append(part)
        elif first.isdigit() and last.isdigit() and len(last) < 6:
            found += [str(number) for number in range(int(first), int(last) + 1)]
        else:
            raise Usage(f"{part!r} is no range of nodes; write it as 1-3")
    return found


# -- signals ------------------------------------------------------------------------------------------------------

_SIGNALS: Final = {name.removeprefix("SIG") for name in signal.Signals.__members__}


def is_signal(option: str) -> bool:
    """Whether an option is one as `-TERM`, `-SIGTERM` or `-9`, which no worker has."""
    name = option.removeprefix("-")
    return not name.startswith("-") and (name.removeprefix("SIG") in _SIGNALS or name.isdigit())
