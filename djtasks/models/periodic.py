"""What runs again and again: periodic tasks, when each is due, and the beats that send them."""

from datetime import datetime, timedelta
from typing import Any, Self

from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from djtasks import periodic
from djtasks.conf import settings
from djtasks.periodic import Entry
from djtasks.schedules import BaseSchedule, maybe_schedule


class PeriodicTasks(models.Manager["PeriodicTask"]):
    """Periodic tasks, in the database of the tasks."""

    def get_queryset(self) -> models.QuerySet["PeriodicTask"]:
        """Those of the setting DATABASE, where no other is asked for."""
        return super().get_queryset().using(self._db or settings.DATABASE)


_TINY = timedelta(microseconds=1)


class PeriodicTask(models.Model):
    """A task, and when it is to run. Beat never writes these rows but to end one that was to run once.

    `kind` says which of the schedules' columns count: `every` and `period`; the five fields of a crontab; `clocked`;
    or `event`, `latitude` and `longitude`. `save()` checks all of it and raises ValidationError.
    """

    class Kind(models.TextChoices):
        """What kind of schedule it has."""

        INTERVAL = "interval", "interval"
        CRONTAB = "crontab", "crontab"
        CLOCKED = "clocked", "clocked"
        SOLAR = "solar", "solar"

    class Period(models.TextChoices):
        """The unit of an interval."""

        DAYS = "days", "days"
        HOURS = "hours", "hours"
        MINUTES = "minutes", "minutes"
        SECONDS = "seconds", "seconds"
        MICROSECONDS = "microseconds", "microseconds"

    class CatchUp(models.TextChoices):
        """What becomes of times that have passed while no beat ran."""

        ONE = "one", "one run for all that were missed"
        ALL = "all", "a run for each that was missed"
        NONE = "none", "none: wait for the next one"

    class Overlap(models.TextChoices):
        """What becomes of a time that comes while the last run has not ended."""

        ALLOW = "allow", "run it beside the last one"
        SKIP = "skip", "leave it out"

    class Source(models.TextChoices):
        """Where it was written down."""

        ADMIN = "admin", "the database"
        SETTINGS = "settings", "BEAT_SCHEDULE"
        CODE = "code", "add_periodic_task"
        DECORATOR = "decorator", "schedule="
        BUILTIN = "builtin", "djtasks"

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=200, unique=True)
    task = models.CharField(max_length=200, help_text="the name of the task")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    every = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    period = models.CharField(max_length=16, blank=True, default="", choices=Period.choices)
    relative = models.BooleanField(default=False, help_text="times are rounded to the interval's own unit")
    minute = models.CharField(max_length=240, blank=True, default="*")
    hour = models.CharField(max_length=96, blank=True, default="*")
    day_of_month = models.CharField(max_length=124, blank=True, default="*")
    month_of_year = models.CharField(max_length=64, blank=True, default="*")
    day_of_week = models.CharField(max_length=64, blank=True, default="*")
    timezone = models.CharField(
        max_length=63, blank=True, default="", help_text="the zone of a crontab; empty for the setting TIMEZONE"
    )
    clocked = models.DateTimeField(null=True, blank=True, help_text="the one time at which it runs")
    event = models.CharField(max_length=24, blank=True, default="", help_text="what the sun does")
    latitude = models.FloatField(null=True, blank=True, validators=[MinValueValidator(-90), MaxValueValidator(90)])
    longitude = models.FloatField(null=True, blank=True, validators=[MinValueValidator(-180), MaxValueValidator(180)])

    args = models.JSONField(blank=True, default=list, help_text="JSON: a list")
    kwargs = models.JSONField(blank=True, default=dict, help_text="JSON: an object")
    queue = models.CharField(max_length=200, blank=True, default="", help_text="empty: where the task is routed to")
    exchange = models.CharField(max_length=200, blank=True, default="")
    routing_key = models.CharField(max_length=200, blank=True, default="")
    priority = models.SmallIntegerField(null=True, blank=True, help_text="higher runs first")
    headers = models.JSONField(blank=True, default=dict, help_text="JSON: an object")
    options = models.JSONField(blank=True, default=dict, help_text="JSON: other options of apply_async")
    expires = models.DateTimeField(null=True, blank=True, help_text="no runs after this time")
    expire_seconds = models.PositiveIntegerField(
        null=True, blank=True, help_text="a run that has not begun so many seconds after its time is left out"
    )
    one_off = models.BooleanField(default=False, help_text="run once, and never again")
    start_time = models.DateTimeField(null=True, blank=True, help_text="no runs before this time")
    enabled = models.BooleanField(default=True)
    catch_up = models.CharField(max_length=8, choices=CatchUp.choices, default=CatchUp.ONE)
    deadline = models.PositiveIntegerField(
        null=True, blank=True, help_text="what was missed longer ago than so many seconds is not caught up with"
    )
    overlap = models.CharField(max_length=8, choices=Overlap.choices, default=Overlap.ALLOW)
    description = models.TextField(blank=True, default="")
    source = models.CharField(max_length=16, choices=Source.choices, default=Source.ADMIN, editable=False)
    said = models.JSONField(null=True, blank=True, editable=False, help_text="what the code says of it")
    overridden = models.BooleanField(default=False, editable=False, help_text="an edit has changed what the code says")
    vanished = models.BooleanField(default=False, editable=False, help_text="the code no longer has it")
    date_changed = models.DateTimeField(auto_now=True, db_default=Now())

    objects = PeriodicTasks()

    class Meta:
        db_table = "djtasks_periodic_task"
        ordering = ("name",)
        permissions = (("run_periodictask", "Can run periodic tasks now"),)
        indexes = (
            models.Index(fields=["task"], name="djtasks_periodic_task_task"),
            models.Index(
                fields=["expires"],
                name="djtasks_periodic_task_expires",
                condition=models.Q(enabled=True, expires__isnull=False),
            ),
        )
        constraints = (
            models.CheckConstraint(
                name="djtasks_periodic_task_schedule",
                condition=(
                    models.Q(kind="interval", every__isnull=False, every__gte=1, clocked__isnull=True, event="")
                    & ~models.Q(period="")
                )
                | (
                    models.Q(kind="crontab", every__isnull=True, clocked__isnull=True, event="")
                    & ~models.Q(minute="")
                    & ~models.Q(hour="")
                    & ~models.Q(day_of_month="")
                    & ~models.Q(month_of_year="")
                    & ~models.Q(day_of_week="")
                )
                | models.Q(kind="clocked", every__isnull=True, clocked__isnull=False, one_off=True, event="")
                | (
                    models.Q(
                        kind="solar",
                        every__isnull=True,
                        clocked__isnull=True,
                        latitude__isnull=False,
                        longitude__isnull=False,
                    )
                    & ~models.Q(event="")
                ),
                violation_error_message="Give exactly one schedule: that of the kind.",
            ),
            models.CheckConstraint(
                name="djtasks_periodic_task_expiry",
                condition=models.Q(expires__isnull=True) | models.Q(expire_seconds__isnull=True),
                violation_error_message="Give expires or expire_seconds, not both.",
            ),
        )

    def __str__(self) -> str:
        return self.name

    # -- being right --------------------------------------------------------------------------------------------------

    def clean(self) -> None:
        """Raise ValidationError, with a sentence for each field at fault."""
        super().clean()
        found = periodic.problems(self.entry(), timezone.now() if self._has_new_times() else None)
        if said := {field: [sentence] for field, sentence in found.items() if self._is_clean(field)}:
            raise ValidationError(said)

    def _is_clean(self, name: str) -> bool:
        """Whether Django finds nothing wrong with the field by itself; what it finds, it says."""
        field: Any = self._meta.get_field(name)
        value = getattr(self, name)
        if field.blank and value in field.empty_values:
            return True  # it does not look at those
        try:
            field.clean(value, self)
        except ValidationError:
            return False
        return True

    def _has_new_times(self) -> bool:
        """Whether its times are to come: they may have passed on a row that was right when it was written."""
        if not self.enabled or self._state.adding or self.pk is None:
            return self.enabled
        said = (self.clocked, self.expires, True)
        found = PeriodicTask.objects.using(self._state.db).filter(pk=self.pk)
        return found.values_list("clocked", "expires", "enabled").first() != said

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Check it, and write it to the database of the tasks. Raises ValidationError."""
        kwargs["using"] = self._state.db = kwargs.get("using") or self._state.db or settings.DATABASE
        self.full_clean()
        super().save(*args, **kwargs)

    # -- its schedule -------------------------------------------------------------------------------------------------

    def entry(self) -> Entry:
        """Its columns, as the rules of periodic tasks read them."""
        return periodic.entry_of(self)

    @classmethod
    def from_schedule(cls, schedule: Any, **fields: Any) -> Self:
        """A periodic task, not saved yet, that is due when `schedule` says: seconds, a timedelta, a crontab …

        Raises TypeError for a schedule that no row can hold, ValueError for one that no column can.
        """
        return cls(**{**periodic.columns_of(maybe_schedule(schedule)), **fields})

    @property
    def schedule(self) -> BaseSchedule:
        """Its schedule. Raises ValueError for columns that describe none, ImproperlyConfigured without astral."""
        return periodic.schedule_of(self.entry())

    @property
    def human_readable(self) -> str:
        """Its schedule in words. Raises as `schedule`."""
        return periodic.words(self.entry())

    def due_start_time(self) -> datetime | None:
        """Its first due time that is not before `start_time`; None without one. Raises as `schedule`."""
        return None if self.start_time is None else periodic.first_due(self.entry(), self.start_time - _TINY)

    # -- what has come of it ------------------------------------------------------------------------------------------

    @property
    def last_run_at(self) -> datetime | None:
        """The time that its last run was for."""
        return None if (tick := self._tick()) is None else tick.last_run_at

    @property
    def next_run_at(self) -> datetime | None:
        """When it is due; None for never, and while beat has not looked at it."""
        return None if (tick := self._tick()) is None else tick.next_run_at

    @property
    def total_run_count(self) -> int:
        """How often it has been sent."""
        return 0 if (tick := self._tick()) is None else tick.total_run_count

    def _tick(self) -> "Tick | None":
        try:
            return self.tick
        except ObjectDoesNotExist:
            return None


class Tick(models.Model):
    """When a periodic task is due, and what came of it. Beat's own: no form writes it.

    A trigger makes it `stale` whenever the periodic task's schedule is written, by whatever means.
    """

    periodic_task = models.OneToOneField(
        PeriodicTask, models.CASCADE, primary_key=True, related_name="tick", db_constraint=False
    )
    next_run_at = models.DateTimeField(null=True, help_text="when it is due; empty for never")
    last_run_at = models.DateTimeField(null=True, help_text="the time that its last run was for")
    total_run_count = models.BigIntegerField(db_default=0)
    last_task_id = models.UUIDField(null=True, help_text="the task of its last run")
    skipped = models.BigIntegerField(db_default=0, help_text="times left out because the last run had not ended")
    error = models.TextField(db_default="", help_text="why its last run could not be sent")
    error_at = models.DateTimeField(null=True)
    stale = models.BooleanField(db_default=True, help_text="its time is to be computed anew")
    since = models.DateTimeField(db_default=Now(), help_text="when its schedule was last changed")

    class Meta:
        db_table = "djtasks_tick"
        indexes = (
            models.Index(
                fields=["next_run_at"], name="djtasks_tick_next", condition=models.Q(next_run_at__isnull=False)
            ),
            models.Index(fields=["periodic_task"], name="djtasks_tick_stale", condition=models.Q(stale=True)),
        )

    def __str__(self) -> str:
        return f"{self.periodic_task_id}: {self.next_run_at}"


class Beat(models.Model):
    """One start of one beat."""

    incarnation = models.BigIntegerField(primary_key=True, editable=False)
    name = models.TextField(help_text="beat@host")
    host = models.TextField()
    pid = models.IntegerField()
    embedded = models.BooleanField(db_default=False, help_text="it is a part of a worker")
    started = models.DateTimeField(db_default=Now())
    heartbeat = models.DateTimeField(db_default=Now())
    sent = models.BigIntegerField(db_default=0, help_text="how many tasks it has sent")

    class Meta:
        db_table = "djtasks_beat"

    def __str__(self) -> str:
        return self.name
