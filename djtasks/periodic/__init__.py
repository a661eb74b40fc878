"""The rules of periodic tasks, for the table, for what code says, for beat and for the admin alike; no SQL is here."""

from djtasks.periodic.code import entry_of_code
from djtasks.periodic.entries import (
    FIELDS,
    Entry,
    arguments_of,
    columns_of,
    deadline_of,
    entry_of,
    first_due,
    options_of,
    schedule_of,
    upcoming,
)
from djtasks.periodic.rules import problems, warnings
from djtasks.periodic.words import words

__all__ = [
    "FIELDS",
    "Entry",
    "arguments_of",
    "columns_of",
    "deadline_of",
    "entry_of",
    "entry_of_code",
    "first_due",
    "options_of",
    "problems",
    "schedule_of",
    "upcoming",
    "warnings",
    "words",
]
