"""The settings of beat, which sends what runs again and again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from djtasks.conf.entries import option
from djtasks.conf.kinds import SCHEDULE, TEXT, number, optional, whole
from djtasks.conf.monitor_options import MonitorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatSettings(MonitorSettings):
    """The part of the settings that is about periodic tasks."""

    BEAT_SCHEDULE: Mapping[str, Any] = option(
        {},
        SCHEDULE,
        "Periodic tasks: a dict of a name to a dict with task, schedule (seconds, a timedelta, schedule, crontab, solar"
        " or clocked), args, kwargs and options.",
        "CELERYBEAT_SCHEDULE",
    )
    BEAT_MAX_LOOP_INTERVAL: float = option(
        5.0,
        number(0, 86400),
        "Seconds, at most, that beat sleeps before it looks again; 0: 5. It is woken when a schedule changes, so this"
        " matters only where it cannot be.",
        "CELERYBEAT_MAX_LOOP_INTERVAL",
    )
    BEAT_CRON_STARTING_DEADLINE: int | None = option(
        None,
        optional(whole(), "no bound"),
        "Seconds after which a crontab's time that was missed is not caught up with, where its periodic task names no"
        " deadline of its own.",
        "CELERYBEAT_CRON_STARTING_DEADLINE",
    )
    BEAT_SCHEDULER: str | None = option(
        None, optional(TEXT), "Read, so that it can stay; there is one scheduler.", "CELERYBEAT_SCHEDULER"
    )
