"""The tables as Django sees them: for the admin, for reports, for migrations.

The hot path never comes here; it speaks SQL in `djtasks.db`. Rows of these tables are written by djtasks itself:
changing one by hand goes around the fences that keep a task from running twice.
"""

from djtasks.models.control import Command, Queue, Reply, Revocation
from djtasks.models.event import Event, Sample
from djtasks.models.limit import Alias, Limit, Throttle
from djtasks.models.message import Message
from djtasks.models.periodic import Beat, PeriodicTask, Tick
from djtasks.models.result import DeadLetter, Result
from djtasks.models.worker import Monitor, Waiter, Worker
from djtasks.models.workflow import Chord, Group, Part

__all__ = [
    "Alias",
    "Beat",
    "Chord",
    "Command",
    "DeadLetter",
    "Event",
    "Group",
    "Limit",
    "Message",
    "Monitor",
    "Part",
    "PeriodicTask",
    "Queue",
    "Reply",
    "Result",
    "Revocation",
    "Sample",
    "Throttle",
    "Tick",
    "Waiter",
    "Worker",
]
