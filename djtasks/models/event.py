"""What has happened, for whoever looks on: events while they are switched on, and a few numbers a minute."""

from django.db import models
from django.db.models.functions import Now


class Event(models.Model):
    """One event of a task or a worker. The table is not logged: a crash of the server empties it, and nothing else."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(db_default=Now(), help_text="when it was written, by the database's clock")
    type = models.TextField(help_text="task-started, worker-heartbeat, ...")
    uuid = models.UUIDField(null=True, help_text="the task, for events of tasks")
    worker = models.TextField(help_text="the node that says it")
    body = models.JSONField(default=dict, help_text="its fields, as Celery names them")

    class Meta:
        db_table = "djtasks_event"

    def __str__(self) -> str:
        return f"{self.type} {self.uuid or self.worker}"


class Sample(models.Model):
    """What a worker did, or how a queue stood, in one minute: history for charts, whatever is pruned elsewhere."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(help_text="the minute's beginning")
    kind = models.TextField(help_text="worker or queue")
    name = models.TextField(help_text="the node's, or the queue's")
    numbers = models.JSONField(default=dict)

    class Meta:
        db_table = "djtasks_sample"
        constraints = (models.UniqueConstraint(fields=("at", "kind", "name"), name="djtasks_sample_minute"),)

    def __str__(self) -> str:
        return f"{self.kind} {self.name} at {self.at:%Y-%m-%d %H:%M}"
