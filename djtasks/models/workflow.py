"""What holds a workflow together: saved groups, and chords that wait for their parts."""

from django.db import models
from django.db.models.functions import Now


class Group(models.Model):
    """The result of a group that was saved, to be restored by its id."""

    id = models.UUIDField(primary_key=True, editable=False)
    result = models.BinaryField(help_text="the ids of the group, its parent and its members, as JSON")
    created = models.DateTimeField(db_default=Now())
    expires = models.DateTimeField(null=True)

    class Meta:
        db_table = "djtasks_group"
        indexes = (
            models.Index(fields=["expires"], name="djtasks_group_expires", condition=models.Q(expires__isnull=False)),
        )

    def __str__(self) -> str:
        return str(self.id)


class Chord(models.Model):
    """A body that waits until each part of its header has ended. Once the last one has, this row is gone."""

    id = models.UUIDField(primary_key=True, editable=False, help_text="the id of the header's group")
    size = models.IntegerField(help_text="how many parts there are")
    ended = models.IntegerField(db_default=0, help_text="how many of them have ended")
    failed = models.IntegerField(null=True, help_text="the lowest number of a part that has failed")
    body = models.TextField(help_text="JSON: the signature that is sent when all parts have succeeded")
    body_id = models.UUIDField(null=True, help_text="the task that the body will be")
    root_id = models.UUIDField(null=True, help_text="the call that its workflow began with")
    created = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "djtasks_chord"
        indexes = (
            models.Index(fields=["root_id"], name="djtasks_chord_root", condition=models.Q(root_id__isnull=False)),
            models.Index(fields=["created"], name="djtasks_chord_created"),
        )

    def __str__(self) -> str:
        return f"{self.id}: {self.ended} of {self.size}"


class Part(models.Model):
    """A part of a chord's header that has ended, with what it returned or the exception it failed with."""

    pk = models.CompositePrimaryKey("chord", "part")
    chord = models.UUIDField()
    part = models.IntegerField(help_text="its place among the arguments of the body")
    task = models.UUIDField()
    failed = models.BooleanField(db_default=False)
    content_type = models.TextField(db_default="application/json")
    content_encoding = models.TextField(db_default="")
    result = models.BinaryField(null=True)

    class Meta:
        db_table = "djtasks_part"

    def __str__(self) -> str:
        return f"{self.chord}[{self.part}]"
