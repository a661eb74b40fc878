"""What people and programs have said about tasks and workers: revocations, commands, paused queues."""

from django.db import models
from django.db.models.functions import Now


class Revocation(models.Model):
    """A task, a workflow or a stamp that is not to run any more: exactly one of `task_id`, `root_id`, `stamp`."""

    id = models.BigAutoField(primary_key=True)
    task_id = models.UUIDField(null=True)
    root_id = models.UUIDField(null=True)
    stamp = models.TextField(null=True, help_text="the name of a stamped header")
    value = models.TextField(null=True, help_text="the value of the stamped header, as JSON")
    terminate = models.BooleanField(db_default=False, help_text="end it where it runs, too")
    signal = models.SmallIntegerField(null=True, help_text="the number of the signal that ends it")
    created = models.DateTimeField(db_default=Now())
    expires = models.DateTimeField()
    by = models.TextField(db_default="", help_text="who said it")

    class Meta:
        db_table = "djtasks_revocation"
        indexes = (models.Index(fields=["expires"], name="djtasks_revocation_expires"),)
        constraints = (
            models.UniqueConstraint(
                fields=["task_id"], name="djtasks_revocation_task", condition=models.Q(task_id__isnull=False)
            ),
            models.UniqueConstraint(
                fields=["root_id"], name="djtasks_revocation_root", condition=models.Q(root_id__isnull=False)
            ),
            models.UniqueConstraint(
                fields=["stamp", "value"], name="djtasks_revocation_stamp", condition=models.Q(stamp__isnull=False)
            ),
        )

    def __str__(self) -> str:
        if self.stamp is not None:
            return f"{self.stamp}={self.value}"
        return str(self.task_id or self.root_id)


class Command(models.Model):
    """Something that workers are to do at once: a name from a fixed list, and its arguments."""

    id = models.BigAutoField(primary_key=True)
    name = models.TextField()
    arguments = models.JSONField(default=dict)
    destination = models.JSONField(null=True, help_text="the names of the nodes it is for; empty for all")
    created = models.DateTimeField(db_default=Now())
    expires = models.DateTimeField()
    by = models.TextField(db_default="", help_text="who said it")

    class Meta:
        db_table = "djtasks_command"
        indexes = (models.Index(fields=["expires"], name="djtasks_command_expires"),)

    def __str__(self) -> str:
        return self.name


class Reply(models.Model):
    """What one worker answered to a command."""

    id = models.BigAutoField(primary_key=True)
    command = models.ForeignKey(Command, on_delete=models.CASCADE)
    worker = models.TextField(help_text="the node's name")
    body = models.JSONField()
    created = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "djtasks_reply"

    def __str__(self) -> str:
        return f"{self.worker}: {self.body}"


class Queue(models.Model):
    """What has been said about a queue; one that has no row is open."""

    name = models.TextField(primary_key=True)
    paused = models.BooleanField(db_default=False, help_text="nothing is taken from it")
    since = models.DateTimeField(null=True)
    by = models.TextField(db_default="", help_text="who said it")
    note = models.TextField(db_default="")

    class Meta:
        db_table = "djtasks_queue"

    def __str__(self) -> str:
        return self.name
