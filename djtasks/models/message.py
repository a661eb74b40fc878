"""A message: one call of a task that waits or runs."""

from django.db import models
from django.db.models.functions import Now


class NextPosition(models.Func):
    """The next number of the sequence that orders the messages of a priority."""

    function = "nextval"
    output_field = models.BigIntegerField()

    def __init__(self) -> None:
        super().__init__(models.Value("djtasks_message_position"))

    def deconstruct(self) -> tuple[str, tuple[object, ...], dict[str, object]]:
        """Without the argument that `__init__` gives itself."""
        return f"{type(self).__module__}.{type(self).__qualname__}", (), {}


class Message(models.Model):
    """A task that waits or runs. Once it has ended it is a `Result`, and this row is gone.

    `lane` is the queue's name while the message may run and NULL while it may not (`reason` says why); a claim reads
    `(lane, priority DESC, position)` and writes only columns that no index holds, so that its updates stay
    heap-only.
    """

    class Reason(models.TextChoices):
        """Why a message may not run now."""

        ETA = "eta", "its time has not come"
        NAME = "name", "no worker knows its task"
        LIMIT = "limit", "a concurrency limit is reached"
        RATE = "rate", "a rate limit is reached"

    id = models.UUIDField(primary_key=True, editable=False)
    position = models.BigIntegerField(db_default=NextPosition(), editable=False)
    owner = models.BigIntegerField(null=True, editable=False, help_text="the incarnation of the worker that holds it")
    claim = models.BigIntegerField(
        null=True, editable=False, help_text="the claim's number, the other half of the fence"
    )
    created = models.DateTimeField(db_default=Now(), editable=False)
    eta = models.DateTimeField(null=True, help_text="does not run before this time")
    expires = models.DateTimeField(null=True, help_text="is revoked instead of run after this time")
    retries = models.IntegerField(db_default=0)
    priority = models.SmallIntegerField(db_default=0, help_text="higher runs first")
    aged = models.SmallIntegerField(
        null=True, editable=False, help_text="by how much its priority has risen while it waited"
    )
    crashes = models.SmallIntegerField(db_default=0, help_text="how often its process was lost while it ran")
    rerun = models.BooleanField(db_default=False, help_text="run again when the worker is lost (late acks)")
    lane = models.TextField(null=True, db_collation="C")
    reason = models.TextField(null=True, choices=Reason.choices)
    name = models.TextField(help_text="the task's name")
    queue = models.TextField()
    content_type = models.TextField(db_default="application/json")
    content_encoding = models.TextField(db_default="", help_text="the body's compression; empty for none")
    unique_key = models.TextField(null=True, help_text="no other message has this key")
    limit_key = models.TextField(null=True, help_text="at most so many messages of this key run at a time")
    root_id = models.UUIDField(null=True, editable=False, help_text="the call that its workflow began with")
    parent_id = models.UUIDField(null=True, editable=False, help_text="the task that it came of")
    group_id = models.UUIDField(null=True, editable=False, help_text="the group that it is of")
    chord = models.UUIDField(null=True, editable=False, help_text="the chord that it is a part of")
    part = models.IntegerField(null=True, editable=False, help_text="which part of its chord it is")
    periodic = models.BigIntegerField(null=True, editable=False, help_text="the periodic task that it is a run of")
    redelivered = models.BooleanField(db_default=False, help_text="it was put back into its queue")
    headers = models.TextField(null=True, help_text="JSON: what else travels with the task")
    body = models.BinaryField(help_text="the serialised [args, kwargs]")

    class Meta:
        db_table = "djtasks_message"
        permissions = (
            ("view_payload_message", "Can see the arguments of tasks that wait or run"),
            ("revoke_message", "Can revoke tasks"),
            ("terminate_message", "Can end tasks that run"),
        )
        indexes = (
            models.Index(fields=["lane", "-priority", "position"], name="djtasks_message_claim"),
            models.Index(
                fields=["reason", "eta"], name="djtasks_message_parked", condition=models.Q(lane__isnull=True)
            ),
            models.Index(fields=["expires"], name="djtasks_message_expires", condition=models.Q(expires__isnull=False)),
            models.Index(
                fields=["limit_key", "-priority", "position"],
                name="djtasks_message_limited",
                condition=models.Q(lane__isnull=True, reason="limit"),
            ),
            models.Index(
                fields=["name", "queue", "-priority", "position"],
                name="djtasks_message_rated",
                condition=models.Q(lane__isnull=True, reason="rate"),
            ),
            # Those that hold a place of their limit: waiting in a lane, for a rate, or running.
            models.Index(
                fields=["limit_key"],
                name="djtasks_message_holding",
                condition=models.Q(limit_key__isnull=False) & (models.Q(lane__isnull=False) | models.Q(reason="rate")),
            ),
            models.Index(fields=["root_id"], name="djtasks_message_root", condition=models.Q(root_id__isnull=False)),
            models.Index(
                fields=["periodic"], name="djtasks_message_periodic", condition=models.Q(periodic__isnull=False)
            ),
            models.Index(
                fields=["id"],
                name="djtasks_message_stamped",
                condition=models.Q(headers__contains='"stamped_headers"'),
            ),
        )
        constraints = (
            models.UniqueConstraint(
                fields=["unique_key"], name="djtasks_message_unique", condition=models.Q(unique_key__isnull=False)
            ),
        )

    def __str__(self) -> str:
        return f"{self.name}[{self.id}]"
