"""What limits tasks over all workers: how many of a key run, how often a name may start, which mails were sent."""

from django.db import models
from django.db.models.functions import Now


class Limit(models.Model):
    """A key of which only so many run at a time, or which starts only so often."""

    key = models.TextField(primary_key=True)
    used = models.IntegerField(db_default=0, help_text="how many of it run")
    most = models.IntegerField(null=True, help_text="how many of it may run at a time")
    rate = models.FloatField(null=True, help_text="how many of it may start in a second")
    next_at = models.DateTimeField(null=True, help_text="when the next one may start")
    changed = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "djtasks_limit"
        indexes = (
            models.Index(fields=["next_at"], name="djtasks_limit_next", condition=models.Q(next_at__isnull=False)),
        )

    def __str__(self) -> str:
        return self.key


class Alias(models.Model):
    """The id of a call that was no task of its own, because one with its unique key was there already."""

    id = models.UUIDField(primary_key=True)
    target = models.UUIDField(help_text="the task that stands for it")
    expires = models.DateTimeField()

    class Meta:
        db_table = "djtasks_alias"
        indexes = (models.Index(fields=["expires"], name="djtasks_alias_expires"),)

    def __str__(self) -> str:
        return f"{self.id} -> {self.target}"


class Throttle(models.Model):
    """Something that is not to be said again before a time, by whichever process."""

    key = models.TextField(primary_key=True)
    until = models.DateTimeField()
    held = models.IntegerField(db_default=0, help_text="how often it was not said since")

    class Meta:
        db_table = "djtasks_throttle"

    def __str__(self) -> str:
        return self.key
