"""Messages, results, queues, workers and revocations in Django's admin: to be looked at, with few things to be done.

The lists read along indexes and never count (`djtasks.db.pages`), so that they are as quick with ten million rows as
with ten. Payload is read on the page of a single row only, within bounds, and shown as text.
"""

from djtasks.admin.beats import BeatAdmin
from djtasks.admin.commands import CommandAdmin
from djtasks.admin.deadletters import DeadLetterAdmin
from djtasks.admin.messages import MessageAdmin
from djtasks.admin.monitor import MonitorAdmin
from djtasks.admin.queues import QueueAdmin
from djtasks.admin.results import ResultAdmin
from djtasks.admin.revocations import RevocationAdmin
from djtasks.admin.schedules import PeriodicTaskAdmin
from djtasks.admin.workers import WorkerAdmin

__all__ = [
    "BeatAdmin",
    "CommandAdmin",
    "DeadLetterAdmin",
    "MessageAdmin",
    "MonitorAdmin",
    "PeriodicTaskAdmin",
    "QueueAdmin",
    "ResultAdmin",
    "RevocationAdmin",
    "WorkerAdmin",
]
