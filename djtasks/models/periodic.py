"""What runs again and again: periodic tasks, when each is due, and the beats that send them."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now


class PeriodicTask(models.Model):
    """A task, and when it is to run. Beat never writes these rows but to end one that was to run once.

    `kind` says which of the schedules' columns count: `every` and `period`; the five fields of a crontab; `clocked`;
    or `event`, `latitude` and `longitude`.
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

    class Meta:
        db_table = "djtasks_periodic_task"
        ordering = ("name",)
        permissions = (("run_periodictask", "Can run periodic tasks now"),)
        indexes = (models.Index(fields=["task"], name="djtasks_periodic_task_task"),)
        constraints = (
            models.CheckConstraint(
                name="djtasks_periodic_task_schedule",
                condition=(
                    models.Q(kind="interval", every__gte=1, clocked__isnull=True, event="") & ~models.Q(period="")
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


class Tick(models.Model):
    """When a periodic task is due, and what came of it. Beat's own: no form writes it.

    A trigger makes it `stale` whenever the periodic task is written, by whatever means.
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
