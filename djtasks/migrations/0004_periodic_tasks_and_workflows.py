"""Periodic tasks and the beats that send them; chords, their parts, and saved groups."""

import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

TUNE = [
    """
    ALTER TABLE djtasks_chord SET (
        fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200
    )
    """,
    """
    ALTER TABLE djtasks_part SET (
        autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 1
    )
    """,
    """
    ALTER TABLE djtasks_beat SET (
        fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200
    )
    """,
    """
    ALTER TABLE djtasks_tick SET (
        fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000
    )
    """,
]
#: Whoever writes a schedule, by whatever means: its next time is computed anew, and beats that sleep hear of it.
WATCH = [
    """
    CREATE FUNCTION djtasks_periodic_task_written() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO djtasks_tick (periodic_task_id) VALUES (NEW.id)
        ON CONFLICT (periodic_task_id) DO UPDATE
        SET stale = true, since = statement_timestamp(), next_run_at = NULL;
        PERFORM pg_notify('djtasks_beat', '');
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION djtasks_periodic_task_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            DELETE FROM djtasks_tick;
        ELSE
            DELETE FROM djtasks_tick WHERE periodic_task_id = OLD.id;
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER djtasks_periodic_task_written AFTER INSERT ON djtasks_periodic_task
    FOR EACH ROW EXECUTE FUNCTION djtasks_periodic_task_written()
    """,
    # A new description, or new arguments, move no time.
    """
    CREATE TRIGGER djtasks_periodic_task_changed AFTER UPDATE ON djtasks_periodic_task
    FOR EACH ROW
    WHEN (
        (
            OLD.enabled, OLD.kind, OLD.every, OLD.period, OLD.relative, OLD.minute, OLD.hour, OLD.day_of_month,
            OLD.month_of_year, OLD.day_of_week, OLD.timezone, OLD.clocked, OLD.event, OLD.latitude, OLD.longitude,
            OLD.start_time, OLD.expires, OLD.one_off
        ) IS DISTINCT FROM (
            NEW.enabled, NEW.kind, NEW.every, NEW.period, NEW.relative, NEW.minute, NEW.hour, NEW.day_of_month,
            NEW.month_of_year, NEW.day_of_week, NEW.timezone, NEW.clocked, NEW.event, NEW.latitude, NEW.longitude,
            NEW.start_time, NEW.expires, NEW.one_off
        )
    )
    EXECUTE FUNCTION djtasks_periodic_task_written()
    """,
    """
    CREATE TRIGGER djtasks_periodic_task_deleted AFTER DELETE ON djtasks_periodic_task
    FOR EACH ROW EXECUTE FUNCTION djtasks_periodic_task_deleted()
    """,
    """
    CREATE TRIGGER djtasks_periodic_task_emptied AFTER TRUNCATE ON djtasks_periodic_task
    FOR EACH STATEMENT EXECUTE FUNCTION djtasks_periodic_task_deleted()
    """,
]
UNWATCH = [
    "DROP TRIGGER djtasks_periodic_task_written ON djtasks_periodic_task",
    "DROP TRIGGER djtasks_periodic_task_changed ON djtasks_periodic_task",
    "DROP TRIGGER djtasks_periodic_task_deleted ON djtasks_periodic_task",
    "DROP TRIGGER djtasks_periodic_task_emptied ON djtasks_periodic_task",
    "DROP FUNCTION djtasks_periodic_task_written()",
    "DROP FUNCTION djtasks_periodic_task_deleted()",
]


class Migration(migrations.Migration):
    dependencies = [
        ("djtasks", "0003_limits_and_control"),
    ]

    operations = [
        migrations.CreateModel(
            name="Beat",
            fields=[
                ("incarnation", models.BigIntegerField(editable=False, primary_key=True, serialize=False)),
                ("name", models.TextField(help_text="beat@host")),
                ("host", models.TextField()),
                ("pid", models.IntegerField()),
                ("embedded", models.BooleanField(db_default=False, help_text="it is a part of a worker")),
                ("started", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("heartbeat", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("sent", models.BigIntegerField(db_default=0, help_text="how many tasks it has sent")),
            ],
            options={
                "db_table": "djtasks_beat",
            },
        ),
        migrations.CreateModel(
            name="Chord",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        editable=False, help_text="the id of the header's group", primary_key=True, serialize=False
                    ),
                ),
                ("size", models.IntegerField(help_text="how many parts there are")),
                ("ended", models.IntegerField(db_default=0, help_text="how many of them have ended")),
                ("failed", models.IntegerField(help_text="the lowest number of a part that has failed", null=True)),
                ("body", models.TextField(help_text="JSON: the signature that is sent when all parts have succeeded")),
                ("body_id", models.UUIDField(help_text="the task that the body will be", null=True)),
                ("root_id", models.UUIDField(help_text="the call that its workflow began with", null=True)),
                ("created", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "djtasks_chord",
            },
        ),
        migrations.CreateModel(
            name="Group",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("result", models.BinaryField(help_text="the ids of the group, its parent and its members, as JSON")),
                ("created", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("expires", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "djtasks_group",
            },
        ),
        migrations.CreateModel(
            name="Part",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "chord", "part", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("chord", models.UUIDField()),
                ("part", models.IntegerField(help_text="its place among the arguments of the body")),
                ("task", models.UUIDField()),
                ("failed", models.BooleanField(db_default=False)),
                ("content_type", models.TextField(db_default="application/json")),
                ("content_encoding", models.TextField(db_default="")),
                ("result", models.BinaryField(null=True)),
            ],
            options={
                "db_table": "djtasks_part",
            },
        ),
        migrations.CreateModel(
            name="PeriodicTask",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=200, unique=True)),
                ("task", models.CharField(help_text="the name of the task", max_length=200)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("interval", "interval"),
                            ("crontab", "crontab"),
                            ("clocked", "clocked"),
                            ("solar", "solar"),
                        ],
                        max_length=16,
                    ),
                ),
                (
                    "every",
                    models.PositiveIntegerField(
                        blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)]
                    ),
                ),
                (
                    "period",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("days", "days"),
                            ("hours", "hours"),
                            ("minutes", "minutes"),
                            ("seconds", "seconds"),
                            ("microseconds", "microseconds"),
                        ],
                        default="",
                        max_length=16,
                    ),
                ),
                (
                    "relative",
                    models.BooleanField(default=False, help_text="times are rounded to the interval's own unit"),
                ),
                ("minute", models.CharField(blank=True, default="*", max_length=240)),
                ("hour", models.CharField(blank=True, default="*", max_length=96)),
                ("day_of_month", models.CharField(blank=True, default="*", max_length=124)),
                ("month_of_year", models.CharField(blank=True, default="*", max_length=64)),
                ("day_of_week", models.CharField(blank=True, default="*", max_length=64)),
                (
                    "timezone",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="the zone of a crontab; empty for the setting TIMEZONE",
                        max_length=63,
                    ),
                ),
                ("clocked", models.DateTimeField(blank=True, help_text="the one time at which it runs", null=True)),
                ("event", models.CharField(blank=True, default="", help_text="what the sun does", max_length=24)),
                (
                    "latitude",
                    models.FloatField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(-90),
                            django.core.validators.MaxValueValidator(90),
                        ],
                    ),
                ),
                (
                    "longitude",
                    models.FloatField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(-180),
                            django.core.validators.MaxValueValidator(180),
                        ],
                    ),
                ),
                ("args", models.JSONField(blank=True, default=list, help_text="JSON: a list")),
                ("kwargs", models.JSONField(blank=True, default=dict, help_text="JSON: an object")),
                (
                    "queue",
                    models.CharField(
                        blank=True, default="", help_text="empty: where the task is routed to", max_length=200
                    ),
                ),
                ("exchange", models.CharField(blank=True, default="", max_length=200)),
                ("routing_key", models.CharField(blank=True, default="", max_length=200)),
                ("priority", models.SmallIntegerField(blank=True, help_text="higher runs first", null=True)),
                ("headers", models.JSONField(blank=True, default=dict, help_text="JSON: an object")),
                ("options", models.JSONField(blank=True, default=dict, help_text="JSON: other options of apply_async")),
                ("expires", models.DateTimeField(blank=True, help_text="no runs after this time", null=True)),
                (
                    "expire_seconds",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="a run that has not begun so many seconds after its time is left out",
                        null=True,
                    ),
                ),
                ("one_off", models.BooleanField(default=False, help_text="run once, and never again")),
                ("start_time", models.DateTimeField(blank=True, help_text="no runs before this time", null=True)),
                ("enabled", models.BooleanField(default=True)),
                (
                    "catch_up",
                    models.CharField(
                        choices=[
                            ("one", "one run for all that were missed"),
                            ("all", "a run for each that was missed"),
                            ("none", "none: wait for the next one"),
                        ],
                        default="one",
                        max_length=8,
                    ),
                ),
                (
                    "deadline",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="what was missed longer ago than so many seconds is not caught up with",
                        null=True,
                    ),
                ),
                (
                    "overlap",
                    models.CharField(
                        choices=[("allow", "run it beside the last one"), ("skip", "leave it out")],
                        default="allow",
                        max_length=8,
                    ),
                ),
                ("description", models.TextField(blank=True, default="")),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("admin", "the database"),
                            ("settings", "BEAT_SCHEDULE"),
                            ("code", "add_periodic_task"),
                            ("decorator", "schedule="),
                            ("builtin", "djtasks"),
                        ],
                        default="admin",
                        editable=False,
                        max_length=16,
                    ),
                ),
                ("said", models.JSONField(blank=True, editable=False, help_text="what the code says of it", null=True)),
                (
                    "overridden",
                    models.BooleanField(
                        default=False, editable=False, help_text="an edit has changed what the code says"
                    ),
                ),
                ("vanished", models.BooleanField(default=False, editable=False, help_text="the code no longer has it")),
                (
                    "date_changed",
                    models.DateTimeField(auto_now=True, db_default=django.db.models.functions.datetime.Now()),
                ),
            ],
            options={
                "db_table": "djtasks_periodic_task",
                "ordering": ("name",),
                "permissions": (("run_periodictask", "Can run periodic tasks now"),),
            },
        ),
        migrations.AddField(
            model_name="message",
            name="chord",
            field=models.UUIDField(editable=False, help_text="the chord that it is a part of", null=True),
        ),
        migrations.AddField(
            model_name="message",
            name="group_id",
            field=models.UUIDField(editable=False, help_text="the group that it is of", null=True),
        ),
        migrations.AddField(
            model_name="message",
            name="parent_id",
            field=models.UUIDField(editable=False, help_text="the task that it came of", null=True),
        ),
        migrations.AddField(
            model_name="message",
            name="part",
            field=models.IntegerField(editable=False, help_text="which part of its chord it is", null=True),
        ),
        migrations.AddField(
            model_name="message",
            name="periodic",
            field=models.BigIntegerField(editable=False, help_text="the periodic task that it is a run of", null=True),
        ),
        migrations.AddField(
            model_name="result",
            name="group_id",
            field=models.UUIDField(help_text="the group that it is of", null=True),
        ),
        migrations.AddField(
            model_name="result",
            name="parent_id",
            field=models.UUIDField(help_text="the task that it came of", null=True),
        ),
        migrations.AddField(
            model_name="result",
            name="periodic",
            field=models.BigIntegerField(help_text="the periodic task that it was a run of", null=True),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(
                condition=models.Q(("periodic__isnull", False)), fields=["periodic"], name="djtasks_message_periodic"
            ),
        ),
        migrations.AddIndex(
            model_name="result",
            index=models.Index(
                condition=models.Q(("root_id__isnull", False)), fields=["root_id"], name="djtasks_result_root"
            ),
        ),
        migrations.AddIndex(
            model_name="result",
            index=models.Index(
                condition=models.Q(("periodic__isnull", False)),
                fields=["periodic", "done", "id"],
                name="djtasks_result_periodic",
            ),
        ),
        migrations.AddIndex(
            model_name="chord",
            index=models.Index(
                condition=models.Q(("root_id__isnull", False)), fields=["root_id"], name="djtasks_chord_root"
            ),
        ),
        migrations.AddIndex(
            model_name="chord",
            index=models.Index(fields=["created"], name="djtasks_chord_created"),
        ),
        migrations.AddIndex(
            model_name="group",
            index=models.Index(
                condition=models.Q(("expires__isnull", False)), fields=["expires"], name="djtasks_group_expires"
            ),
        ),
        migrations.CreateModel(
            name="Tick",
            fields=[
                (
                    "periodic_task",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="tick",
                        serialize=False,
                        to="djtasks.periodictask",
                    ),
                ),
                ("next_run_at", models.DateTimeField(help_text="when it is due; empty for never", null=True)),
                ("last_run_at", models.DateTimeField(help_text="the time that its last run was for", null=True)),
                ("total_run_count", models.BigIntegerField(db_default=0)),
                ("last_task_id", models.UUIDField(help_text="the task of its last run", null=True)),
                (
                    "skipped",
                    models.BigIntegerField(db_default=0, help_text="times left out because the last run had not ended"),
                ),
                ("error", models.TextField(db_default="", help_text="why its last run could not be sent")),
                ("error_at", models.DateTimeField(null=True)),
                ("stale", models.BooleanField(db_default=True, help_text="its time is to be computed anew")),
                (
                    "since",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="when its schedule was last changed",
                    ),
                ),
            ],
            options={
                "db_table": "djtasks_tick",
            },
        ),
        migrations.AddIndex(
            model_name="periodictask",
            index=models.Index(fields=["task"], name="djtasks_periodic_task_task"),
        ),
        migrations.AddIndex(
            model_name="periodictask",
            index=models.Index(
                condition=models.Q(("enabled", True), ("expires__isnull", False)),
                fields=["expires"],
                name="djtasks_periodic_task_expires",
            ),
        ),
        migrations.AddConstraint(
            model_name="periodictask",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("clocked__isnull", True),
                        ("event", ""),
                        ("every__gte", 1),
                        ("every__isnull", False),
                        ("kind", "interval"),
                        models.Q(("period", ""), _negated=True),
                    ),
                    models.Q(
                        ("clocked__isnull", True),
                        ("event", ""),
                        ("every__isnull", True),
                        ("kind", "crontab"),
                        models.Q(("minute", ""), _negated=True),
                        models.Q(("hour", ""), _negated=True),
                        models.Q(("day_of_month", ""), _negated=True),
                        models.Q(("month_of_year", ""), _negated=True),
                        models.Q(("day_of_week", ""), _negated=True),
                    ),
                    models.Q(
                        ("clocked__isnull", False),
                        ("event", ""),
                        ("every__isnull", True),
                        ("kind", "clocked"),
                        ("one_off", True),
                    ),
                    models.Q(
                        ("clocked__isnull", True),
                        ("every__isnull", True),
                        ("kind", "solar"),
                        ("latitude__isnull", False),
                        ("longitude__isnull", False),
                        models.Q(("event", ""), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="djtasks_periodic_task_schedule",
                violation_error_message="Give exactly one schedule: that of the kind.",
            ),
        ),
        migrations.AddConstraint(
            model_name="periodictask",
            constraint=models.CheckConstraint(
                condition=models.Q(("expires__isnull", True), ("expire_seconds__isnull", True), _connector="OR"),
                name="djtasks_periodic_task_expiry",
                violation_error_message="Give expires or expire_seconds, not both.",
            ),
        ),
        migrations.AddIndex(
            model_name="tick",
            index=models.Index(
                condition=models.Q(("next_run_at__isnull", False)), fields=["next_run_at"], name="djtasks_tick_next"
            ),
        ),
        migrations.AddIndex(
            model_name="tick",
            index=models.Index(
                condition=models.Q(("stale", True)), fields=["periodic_task"], name="djtasks_tick_stale"
            ),
        ),
        migrations.CreateModel(
            name="DeadLetter",
            fields=[],
            options={"proxy": True, "default_permissions": (), "indexes": [], "constraints": []},
            bases=("djtasks.result",),
        ),
        migrations.AlterModelOptions(
            name="message",
            options={
                "permissions": (
                    ("view_payload_message", "Can see the arguments of tasks that wait or run"),
                    ("revoke_message", "Can revoke tasks"),
                    ("terminate_message", "Can end tasks that run"),
                )
            },
        ),
        migrations.AlterModelOptions(
            name="result",
            options={
                "permissions": (
                    ("requeue_result", "Can put tasks that have ended back into their queues"),
                    ("forget_result", "Can delete results"),
                    ("view_payload_result", "Can see arguments, results and tracebacks of tasks"),
                )
            },
        ),
        migrations.RunSQL([*TUNE], migrations.RunSQL.noop),
        migrations.RunSQL([*WATCH], [*UNWATCH]),
    ]
