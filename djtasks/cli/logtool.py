"""`djtasks logtool`: what the logs of workers say of tasks."""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from djtasks.cli.exits import Usage
from djtasks.cli.output import Say, add_json, as_json

HELP = "What the logs of workers say of tasks, as their log format is by default. Without files it reads stdin."
#: The first line of a record, and what it says of a task.
_BEGIN = re.compile(
    r"^\[(?P<when>\d{4}-\d\d-\d\d [^:\]]*:[^\]]*?): (?P<level>[A-Z]+)/(?P<process>[^\]]*)\] (?P<text>.*)"
)
_TASK = re.compile(
    r"Task (?P<name>[^\[\s]+)\[(?P<id>[0-9a-fA-F-]{32,36})\] (?P<what>received|succeeded|retry|raised|\w+)"
)
#: After these a task comes to no further line.
_ENDED = re.compile(
    r"Task \S+\[(?P<id>[0-9a-fA-F-]{32,36})\] (?!received|retry|returned|was undone)"
    r"|(?:Discarding|discarded).*\[(?P<other>[0-9a-fA-F-]{32,36})\]"
)
VERBS = {
    "stats": "how many of each task were received, succeeded, failed …",
    "traces": "the tracebacks, each once, with how often it stands there",
    "errors": "the records of level ERROR and above",
    "incomplete": "the tasks that were received, and never ended",
    "debug": "what is no record of a task",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Celery's sub-commands."""
    text = "; ".join(f"{name}: {text}" for name, text in VERBS.items())
    parser.add_argument("what", choices=tuple(VERBS), metavar="WHAT", help=text)
    parser.add_argument("files", nargs="*", metavar="FILE", help="log files")
    add_json(parser)


def run(given: Mapping[str, Any], say: Say) -> int:
    """Read them, and say it. Raises Usage for a file that cannot be read."""
    with ExitStack() as stack:
        files: list[Iterable[str]] = [sys.stdin]
        try:
            if given.get("files"):
                files = [stack.enter_context(open(name, encoding="utf-8", errors="replace")) for name in given["files"]]
            found: Any = _READERS[given["what"]](record for file in files for record in _records(file))
        except OSError as error:
            raise Usage(f"{error.filename}: {error.strerror}") from None
    if given.get("json"):
        say(as_json(found))
    elif isinstance(found, dict):
        for name, count in found.items():
            say(f"{count}\t{name}" if isinstance(count, int) else f"{name}: {_counted(count)}")
    else:
        for text in found:
            say(text)
    return 0


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items())


def _records(lines: Iterable[str]) -> Iterator[str]:
    """The records; what follows a first line belongs to it."""
    record: list[str] = []
    for line in lines:
        if _BEGIN.match(line) and record:
            yield "".join(record).rstrip("\n")
            record = []
        record.append(line)
    if record:
        yield "".join(record).rstrip("\n")


def _stats(records: Iterable[str]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for record in records:
        if said := _TASK.search(record.partition("\n")[0]):
            found.setdefault(said["name"], Counter())[said["what"]] += 1
    return {name: dict(counts.most_common()) for name, counts in sorted(found.items())}


def _traces(records: Iterable[str]) -> dict[str, int]:
    mark = "Traceback (most recent call last):"
    return dict(Counter(mark + record.partition(mark)[2] for record in records if mark in record).most_common())


def _errors(records: Iterable[str]) -> list[str]:
    return [record for record in records if (said := _BEGIN.match(record)) and said["level"] in ("ERROR", "CRITICAL")]


def _incomplete(records: Iterable[str]) -> list[str]:
    waiting: dict[str, str] = {}
    for record in records:
        first = record.partition("\n")[0]
        if (said := _TASK.search(first)) and said["what"] == "received":
            waiting[said["id"]] = f"{said['name']}[{said['id']}]"
        elif end := _ENDED.search(first):
            waiting.pop(end["id"] or end["other"], None)
    return list(waiting.values())


def _debug(records: Iterable[str]) -> list[str]:
    return [record for record in records if not _TASK.search(record.partition("\n")[0])]


_READERS: Mapping[str, Callable[[Iterable[str]], Any]] = {
    "stats": _stats,
    "traces": _traces,
    "errors": _errors,
    "incomplete": _incomplete,
    "debug": _debug,
}
