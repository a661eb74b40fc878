"""A result: what a task left when it ended, or the state it last reported while it ran."""

from datetime import timedelta

from django.db import models
from django.db.models.functions import Now

from djtasks.conf import settings
from djtasks.db import results
from djtasks.db.connections import borrow

#: So many are deleted at a time.
_BATCH = 1000


class Results(models.Manager["Result"]):
    """Results, and how to delete old ones."""

    def delete_expired(self, expires: timedelta | float | None = None) -> int:
        """Delete the results of tasks that ended longer ago than `expires` (None: RESULT_EXPIRES), in batches.

        Dead letters stay. Workers do this by themselves; returns how many there were.
        """
        age = settings.RESULT_EXPIRES if expires is None else expires
        if age is None:
            return 0
        seconds = age.total_seconds() if isinstance(age, timedelta) else float(age)
        deleted = 0
        while count := results.prune(borrow(self._db), seconds, _BATCH):
            deleted += count
        return deleted


class Result(models.Model):
    """The state, value or exception of one task.

    A terminal state is never replaced, except by an explicit retry or requeue. What did not succeed keeps its
    payload (`headers`, `body`), so that it can be put back into its queue.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    owner = models.BigIntegerField(null=True, editable=False, help_text="the incarnation of the worker that wrote it")
    claim = models.BigIntegerField(null=True, editable=False)
    created = models.DateTimeField(db_default=Now(), help_text="when the task was called")
    started = models.DateTimeField(null=True, help_text="when its last run began")
    done = models.DateTimeField(null=True, help_text="when it ended; empty while it has not")
    retries = models.IntegerField(db_default=0)
    priority = models.SmallIntegerField(db_default=0)
    state = models.TextField()
    name = models.TextField()
    queue = models.TextField()
    worker = models.TextField(null=True, help_text="the node that ran it")
    content_type = models.TextField(db_default="application/json")
    content_encoding = models.TextField(db_default="")
    result = models.BinaryField(null=True, help_text="the serialised value, exception, or meta of a custom state")
    traceback = models.TextField(null=True)
    dead = models.TextField(
        null=True, help_text="why it is a dead letter: rejected, failed, crashed, undecodable or unknown"
    )
    root_id = models.UUIDField(null=True, help_text="the call that its workflow began with")
    parent_id = models.UUIDField(null=True, help_text="the task that it came of")
    group_id = models.UUIDField(null=True, help_text="the group that it is of")
    periodic = models.BigIntegerField(null=True, help_text="the periodic task that it was a run of")
    headers = models.TextField(null=True)
    body = models.BinaryField(null=True)
    body_content_type = models.TextField(null=True)
    body_content_encoding = models.TextField(null=True)

    objects = Results()

    class Meta:
        db_table = "djtasks_result"
        permissions = (
            ("requeue_result", "Can put tasks that have ended back into their queues"),
            ("forget_result", "Can delete results"),
            ("view_payload_result", "Can see arguments, results and tracebacks of tasks"),
        )
        indexes = (
            models.Index(fields=["done"], name="djtasks_result_done"),
            # What a person looks for among millions. Both are partial: the result of a success touches neither.
            models.Index(fields=["id"], name="djtasks_result_unfinished", condition=models.Q(done__isnull=True)),
            models.Index(
                fields=["state", "done", "id"],
                name="djtasks_result_unsuccessful",
                condition=models.Q(done__isnull=False) & ~models.Q(state="SUCCESS"),
            ),
            models.Index(fields=["done", "id"], name="djtasks_result_dead", condition=models.Q(dead__isnull=False)),
            models.Index(fields=["root_id"], name="djtasks_result_root", condition=models.Q(root_id__isnull=False)),
            models.Index(
                fields=["periodic", "done", "id"],
                name="djtasks_result_periodic",
                condition=models.Q(periodic__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.name}[{self.id}] {self.state}"


class DeadLetter(Result):
    """A result that is a dead letter, for a page of its own. Whoever may see results may see it."""

    class Meta:
        proxy = True
        default_permissions = ()
