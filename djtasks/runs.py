"""Runs of periodic tasks: how one becomes a message; and those out of turn, because somebody wants them now."""

import itertools
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import DatabaseError, transaction

from djtasks import outbox, publisher
from djtasks.conf import settings
from djtasks.db import schedules, uniques
from djtasks.db.connections import borrow
from djtasks.db.schedules import Due
from djtasks.exceptions import DjtasksError
from djtasks.messages import Message
from djtasks.periodic import Entry, arguments_of, options_of
from djtasks.registry import tasks

logger = logging.getLogger("djtasks.beat")

#: How many are locked, and enqueued in one statement.
BATCH = 1000
#: As much of an error as a row keeps.
_ERROR_MAX = 2000


class Run(NamedTuple):
    """One run of a periodic task, on its way."""

    entry: Entry
    message: Message
    args: list[Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    #: The time that it is for.
    moment: datetime


#: What SQL may have made of the columns with JSON.
_SHAPES = (("args", list, "list"), ("kwargs", dict, "object"), ("headers", dict, "object"), ("options", dict, "object"))


def run_of(entry: Entry, moment: datetime) -> Run:
    """The run that is due at `moment`. Raises TypeError, DecodeError, and what `publisher.build` raises."""
    for name, shape, kind in _SHAPES:
        if not isinstance(getattr(entry, name), shape):
            raise TypeError(f"{name} must be a JSON {kind}; correct it in the periodic task")
    args, kwargs = arguments_of(entry)
    options = options_of(entry, moment)
    message = publisher.build(entry.task, args, kwargs, options, tasks.get(entry.task))
    return Run(entry, message, args, kwargs, options, moment)


def run_now(ids: Iterable[int], complaints: dict[int, str] | None = None) -> int:
    """Enqueue a run of each of these periodic tasks, enabled or not; how many there are.

    Their next times stay as they are. Each batch of a thousand is one transaction of the task database, in which the
    messages are written and the runs are counted (a caller's own transaction takes them all). What cannot be enqueued
    says so on its row, and in `complaints`, by its id.
    """
    count = 0
    remaining = iter(sorted(set(ids)))
    complaints = {} if complaints is None else complaints
    while batch := list(itertools.islice(remaining, BATCH)):
        with transaction.atomic(using=settings.DATABASE):
            count += _run(schedules.chosen(borrow(), batch), complaints)
    return count


def _run(found: Sequence[Due], complaints: dict[int, str]) -> int:
    """Enqueue these, which are locked."""
    made: list[tuple[int, Message]] = []
    errors: list[tuple[int, str]] = []
    for each in found:
        try:
            made.append((each.entry.id, run_of(each.entry, each.now).message))
        except Exception as error:
            errors.append((each.entry.id, complaint(error)))
    try:
        _write(made)
    except (DatabaseError, DjtasksError):
        made, more = _write_each(made)
        errors += more
    if errors:
        schedules.failed(borrow(), errors)
        complaints.update(errors)
        logger.error("Message Error: %d periodic tasks could not be run, the first because: %s", *_first(errors))
    return len(made)


def _first(errors: Sequence[tuple[int, str]]) -> tuple[int, str]:
    return len(errors), errors[0][1]


def _write(made: Sequence[tuple[int, Message]]) -> None:
    """Write the messages, and that they are runs of theirs; nothing of it stays if it fails."""
    with transaction.atomic(using=settings.DATABASE):
        outbox.enqueue_many((message for _, message in made), mode=outbox.IN_TRANSACTION)
        keyed_ids = [message.id for _, message in made if message.unique_key is not None]
        stands_for = uniques.resolve(borrow(), keyed_ids) if keyed_ids else {}
        schedules.ran(borrow(), [(each, stands_for.get(message.id, message.id)) for each, message in made])


def _write_each(
    made: Sequence[tuple[int, Message]],
) -> tuple[list[tuple[int, Message]], list[tuple[int, str]]]:
    """The same one by one, because one of them cannot be written: those that were, and why the others were not."""
    written: list[tuple[int, Message]] = []
    errors: list[tuple[int, str]] = []
    for each, message in made:
        try:
            _write([(each, message)])
        except (DatabaseError, DjtasksError) as error:
            errors.append((each, complaint(error)))
        else:
            written.append((each, message))
    return written, errors


def complaint(error: BaseException) -> str:
    """An error as a row keeps it: the class and the text, in characters that PostgreSQL can store."""
    text = f"{type(error).__name__}: {error}".strip()
    return text.replace("\0", "�").encode("utf-8", "replace").decode()[:_ERROR_MAX]
