"""Who is there: the workers, and the processes that wait for results."""

from django.db import models
from django.db.models.functions import Now


class Worker(models.Model):
    """One start of one worker. The row is its life: who finds it gone has been declared dead."""

    incarnation = models.BigIntegerField(
        primary_key=True, editable=False, help_text="a random number made at start; the owner half of every fence"
    )
    heartbeat = models.DateTimeField(db_default=Now())
    started = models.DateTimeField(db_default=Now())
    pid = models.IntegerField()
    concurrency = models.IntegerField(db_default=1)
    idle = models.BooleanField(db_default=False, help_text="sleeps until it is rung")
    name = models.TextField(help_text="the node's name, name@host")
    host = models.TextField()
    boot_id = models.TextField(help_text="which boot of which machine its pid belongs to")
    pid_namespace = models.TextField()
    pid_started = models.TextField(help_text="when the kernel says the pid started, so that a reused pid is told apart")
    process_group = models.IntegerField(null=True, help_text="the process group of its fork server")
    pool = models.TextField()
    queues = models.JSONField(default=list)
    counters = models.JSONField(default=dict, help_text="how many tasks it has ended, by state")
    state = models.JSONField(
        null=True, help_text="what it said with its last heartbeat: load, limits, versions, events"
    )

    class Meta:
        db_table = "djtasks_worker"

    def __str__(self) -> str:
        return self.name


class Monitor(Worker):
    """The live monitor, as the admin lists it among its models."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = "live monitor"
        verbose_name_plural = "live monitor"


class Waiter(models.Model):
    """A process in which somebody waits for results. Who ends a task rings these."""

    id = models.BigIntegerField(primary_key=True, editable=False)
    expires = models.DateTimeField()

    class Meta:
        db_table = "djtasks_waiter"

    def __str__(self) -> str:
        return f"waiter {self.pk}"
