"""Telling workers something, and hearing their answers: rows that live for half a minute or so.

Who said it stands in the row, which is kept for COMMAND_EXPIRES to be read in the admin.
"""

import fnmatch
import functools
import json
import os
import pwd
import re
import socket
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

import psycopg

from djtasks.conf import settings
from djtasks.db import control as commands
from djtasks.db import workers
from djtasks.db.connections import open_private
from djtasks.exceptions import DuplicateNodenameWarning, safe_repr

#: How often replies are looked for, in seconds.
LOOK_EVERY: Final = 0.02
#: How long a command is good for, in seconds, if nobody waits longer.
GOOD_FOR: Final = 30.0
#: The longest wait for answers that can be asked for, in seconds.
LONGEST: Final = 3600.0
#: Options of Celery's that mean nothing here.
IGNORED: Final = frozenset({"connection", "channel", "producer"})

Replies = list[dict[str, Any]]
Callback = Callable[[dict[str, Any]], Any]
Matcher = str | Callable[[str, str], Any] | None


@functools.cache
def who() -> str:
    """Who speaks, where nobody says so: the user of this process, and the machine."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def matches(name: str, pattern: str, matcher: Matcher) -> bool:
    """Whether a node's name fits a pattern: of a shell, by default, or a regular one ("pcre"). Raises ValueError."""
    if callable(matcher):
        return bool(matcher(name, pattern))
    if matcher in (None, "glob"):
        return fnmatch.fnmatchcase(name, pattern)
    if matcher in ("pcre", "regex"):
        try:
            return re.match(pattern, name) is not None
        except re.error as error:
            raise ValueError(f"the pattern {safe_repr(pattern, 200)} cannot be read: {error}") from None
    raise ValueError(f"there is no matcher {safe_repr(matcher, 200)}; there are 'glob', 'pcre', or a function")


def check_options(options: Mapping[str, Any]) -> None:
    """Raise TypeError for an option that there is not; what is only a message broker's means nothing."""
    if unknown := options.keys() - IGNORED:
        raise TypeError(f"there is no option {', '.join(sorted(map(repr, unknown)))} here")


def _checked(arguments: Any, destination: Any, timeout: Any, limit: Any) -> dict[str, Any]:
    """The arguments. Raises TypeError and ValueError, each with a sentence, for what cannot be asked."""
    if destination is not None and (
        isinstance(destination, str | bytes)
        or not isinstance(destination, Collection)
        or not all(isinstance(each, str) for each in destination)
    ):
        raise TypeError("destination must be a list of the names of nodes, not " + safe_repr(destination, 200))
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout <= LONGEST:
        raise ValueError(f"timeout must be seconds from 0 to {LONGEST:g}, not {safe_repr(timeout, 200)}")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"limit must be a number of answers, 1 at least, not {safe_repr(limit, 200)}")
    try:
        found = dict(arguments or {})
        text = json.dumps(found, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the arguments of a command must be what JSON can say: {error}") from None
    if "\\u0000" in text or re.search(r"\\ud[89a-f]", text):
        raise ValueError("the arguments of a command must not have NUL characters or lone surrogates in them")
    return found


class Asked(NamedTuple):
    """What came of a question."""

    #: The names of the workers that live, and were asked; one that two have stands there twice.
    names: list[str]
    replies: list[tuple[str, Any]]


def ask(
    conn: psycopg.Connection,
    command: str,
    arguments: Mapping[str, Any] | None,
    destination: Collection[str] | None,
    *,
    timeout: float,
    reply: bool = True,
    limit: int | None = None,
    callback: Callback | None = None,
    by: str = "",
) -> Asked:
    """Tell workers something, on an autocommit connection; with `reply` wait for the answers."""
    given = _checked(arguments, destination, timeout, limit)
    number = commands.send(conn, command, given, destination, seconds=max(GOOD_FOR, timeout), by=by or who())
    names = commands.ring(conn, destination, settings.WORKER_DEAD_AFTER)
    wanted = len(names) if limit is None else min(len(names), limit)
    deadline, told = time.monotonic() + timeout, 0
    answers: list[tuple[str, Any]] = []
    while reply:
        answers = commands.replies(conn, number)[:limit]
        for worker, body in answers[told:] if callback is not None else ():
            callback({worker: body})  # type: ignore[misc] # it is one: there is something to loop over
        told = len(answers)
        if told >= wanted or time.monotonic() >= deadline:
            break
        time.sleep(LOOK_EVERY)
    return Asked(names, answers)


def fitting(
    conn: psycopg.Connection, destination: Collection[str] | None, pattern: str | None, matcher: Matcher
) -> Collection[str] | None:
    """The nodes that are meant; None for all."""
    if pattern is None:
        return destination
    names = {peer.name for peer in workers.peers(conn)}
    return sorted(
        name for name in names if matches(name, pattern, matcher) and (destination is None or name in destination)
    )


def broadcast(
    command: str,
    arguments: Mapping[str, Any] | None = None,
    destination: Collection[str] | None = None,
    reply: bool = False,
    timeout: float = 1.0,
    limit: int | None = None,
    callback: Callback | None = None,
    pattern: str | None = None,
    matcher: Matcher = None,
    *,
    by: str = "",
    **options: Any,
) -> Replies | None:
    """Tell workers something, all or those of these names; at once, whatever transaction is open here.

    With `reply` waits until all that live have answered, or `limit` of them, `timeout` seconds at the most; returns
    `[{node: answer}]`, and calls `callback` with each as it comes. `pattern` chooses nodes by their names, as a shell
    does, or by `matcher`: "glob", "pcre", or a function of a name and the pattern. `by` is shown in the admin, where a
    command can be read for COMMAND_EXPIRES; by default it is the user of this process.
    """
    check_options(options)
    with open_private("control") as conn:
        _checked(arguments, destination, timeout, limit)
        meant = fitting(conn, destination, pattern, matcher)
        said = {"timeout": timeout, "reply": reply, "limit": limit, "callback": callback, "by": by}
        found = ask(conn, command, arguments, meant, **said)  # type: ignore[arg-type] # as this function's own
    return [{worker: body} for worker, body in found.replies] if reply else None


def flatten_reply(replies: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """`[{node: answer}]` as `{node: answer}`. Warns of DuplicateNodename: of nodes that share a name one is left."""
    nodes: dict[str, Any] = {}
    twice: set[str] = set()
    for each in replies:
        twice.update(each.keys() & nodes.keys())
        nodes.update(each)
    if twice:
        warnings.warn(
            DuplicateNodenameWarning(
                f"More than one worker answered as {', '.join(sorted(twice))}: give each a name of its own, with -n"
            ),
            stacklevel=3,
        )
    return nodes
