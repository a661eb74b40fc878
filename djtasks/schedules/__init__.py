"""When something that runs again and again is due: `crontab`, `schedule`, `solar`, `clocked`.

A schedule answers one question: given an instant, which is the next one that is due? It keeps nothing and reads no
table. Instants go in with a zone (a naive one is UTC) and come out in UTC.
"""

from djtasks.schedules.base import BaseSchedule, schedstate
from djtasks.schedules.clock import clocked
from djtasks.schedules.cron import crontab
from djtasks.schedules.fields import ParseException, crontab_parser
from djtasks.schedules.interval import maybe_schedule, schedule
from djtasks.schedules.sun import solar

__all__ = [
    "BaseSchedule",
    "ParseException",
    "clocked",
    "crontab",
    "crontab_parser",
    "maybe_schedule",
    "schedstate",
    "schedule",
    "solar",
]
