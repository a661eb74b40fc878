"""The tables, the sequence that orders messages, and the storage settings of what churns."""

import django.db.models.functions.datetime
from django.db import migrations, models

import djtasks.models.message

CREATE_POSITION = "CREATE SEQUENCE djtasks_message_position AS bigint"
DROP_POSITION = "DROP SEQUENCE IF EXISTS djtasks_message_position"
#: Half-empty pages leave room for a claim's heap-only update; a table that churns is vacuumed by count, not by share.
TUNE = [
    "ALTER SEQUENCE djtasks_message_position OWNED BY djtasks_message.position",
    """
    ALTER TABLE djtasks_message SET (
        fillfactor = 50,
        autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
        autovacuum_vacuum_cost_delay = 0
    )
    """,
    """
    ALTER TABLE djtasks_result SET (
        autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 1
    )
    """,
    """
    ALTER TABLE djtasks_worker SET (
        fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200
    )
    """,
    """
    ALTER TABLE djtasks_waiter SET (
        fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200
    )
    """,
]


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.RunSQL([CREATE_POSITION], [DROP_POSITION]),
        migrations.CreateModel(
            name="Waiter",
            fields=[
                ("id", models.BigIntegerField(editable=False, primary_key=True, serialize=False)),
                ("expires", models.DateTimeField()),
            ],
            options={
                "db_table": "djtasks_waiter",
            },
        ),
        migrations.CreateModel(
            name="Worker",
            fields=[
                (
                    "incarnation",
                    models.BigIntegerField(
                        editable=False,
                        help_text="a random number made at start; the owner half of every fence",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("heartbeat", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("started", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("pid", models.IntegerField()),
                ("concurrency", models.IntegerField(db_default=1)),
                ("idle", models.BooleanField(db_default=False, help_text="sleeps until it is rung")),
                ("name", models.TextField(help_text="the node's name, name@host")),
                ("host", models.TextField()),
                ("boot_id", models.TextField(help_text="which boot of which machine its pid belongs to")),
                ("pid_namespace", models.TextField()),
                (
                    "pid_started",
                    models.TextField(
                        help_text="when the kernel says the pid started, so that a reused pid is told apart"
                    ),
                ),
                ("process_group", models.IntegerField(help_text="the process group of its fork server", null=True)),
                ("pool", models.TextField()),
                ("queues", models.JSONField(default=list)),
                ("counters", models.JSONField(default=dict, help_text="how many tasks it has ended, by state")),
            ],
            options={
                "db_table": "djtasks_worker",
            },
        ),
        migrations.CreateModel(
            name="Message",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("position", models.BigIntegerField(db_default=djtasks.models.message.NextPosition(), editable=False)),
                (
                    "owner",
                    models.BigIntegerField(
                        editable=False, help_text="the incarnation of the worker that holds it", null=True
                    ),
                ),
                (
                    "claim",
                    models.BigIntegerField(
                        editable=False, help_text="the claim's number, the other half of the fence", null=True
                    ),
                ),
                ("created", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ("eta", models.DateTimeField(help_text="does not run before this time", null=True)),
                ("expires", models.DateTimeField(help_text="is revoked instead of run after this time", null=True)),
                ("retries", models.IntegerField(db_default=0)),
                ("priority", models.SmallIntegerField(db_default=0, help_text="higher runs first")),
                (
                    "crashes",
                    models.SmallIntegerField(db_default=0, help_text="how often its process was lost while it ran"),
                ),
                (
                    "rerun",
                    models.BooleanField(db_default=False, help_text="run again when the worker is lost (late acks)"),
                ),
                ("lane", models.TextField(db_collation="C", null=True)),
                (
                    "reason",
                    models.TextField(
                        choices=[
                            ("eta", "its time has not come"),
                            ("name", "no worker knows its task"),
                            ("limit", "a rate or concurrency limit is reached"),
                        ],
                        null=True,
                    ),
                ),
                ("name", models.TextField(help_text="the task's name")),
                ("queue", models.TextField()),
                ("content_type", models.TextField(db_default="application/json")),
                (
                    "content_encoding",
                    models.TextField(db_default="", help_text="the body's compression; empty for none"),
                ),
                ("headers", models.TextField(help_text="JSON: what else travels with the task", null=True)),
                ("body", models.BinaryField(help_text="the serialised [args, kwargs]")),
            ],
            options={
                "db_table": "djtasks_message",
                "indexes": [
                    models.Index(fields=["lane", "-priority", "position"], name="djtasks_message_claim"),
                    models.Index(
                        condition=models.Q(("lane__isnull", True)),
                        fields=["reason", "eta"],
                        name="djtasks_message_parked",
                    ),
                    models.Index(
                        condition=models.Q(("expires__isnull", False)),
                        fields=["expires"],
                        name="djtasks_message_expires",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Result",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                (
                    "owner",
                    models.BigIntegerField(
                        editable=False, help_text="the incarnation of the worker that wrote it", null=True
                    ),
                ),
                ("claim", models.BigIntegerField(editable=False, null=True)),
                (
                    "created",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), help_text="when the task was called"
                    ),
                ),
                ("started", models.DateTimeField(help_text="when its last run began", null=True)),
                ("done", models.DateTimeField(help_text="when it ended; empty while it has not", null=True)),
                ("retries", models.IntegerField(db_default=0)),
                ("priority", models.SmallIntegerField(db_default=0)),
                ("state", models.TextField()),
                ("name", models.TextField()),
                ("queue", models.TextField()),
                ("worker", models.TextField(help_text="the node that ran it", null=True)),
                ("content_type", models.TextField(db_default="application/json")),
                ("content_encoding", models.TextField(db_default="")),
                (
                    "result",
                    models.BinaryField(
                        help_text="the serialised value, exception, or meta of a custom state", null=True
                    ),
                ),
                ("traceback", models.TextField(null=True)),
                ("headers", models.TextField(null=True)),
                ("body", models.BinaryField(null=True)),
                ("body_content_type", models.TextField(null=True)),
                ("body_content_encoding", models.TextField(null=True)),
            ],
            options={
                "db_table": "djtasks_result",
                "indexes": [models.Index(fields=["done"], name="djtasks_result_done")],
            },
        ),
        migrations.RunSQL([*TUNE], migrations.RunSQL.noop),
    ]
