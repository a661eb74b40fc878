"""The tables of the census."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Scan",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("folder", models.TextField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "ordering": ("-pk",),
            },
        ),
        migrations.CreateModel(
            name="SourceFile",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("path", models.TextField(help_text="Relative to the scan's folder.")),
                (
                    "state",
                    models.CharField(
                        choices=[("waiting", "Waiting"), ("counted", "Counted"), ("failed", "Failed")],
                        default="waiting",
                        max_length=10,
                    ),
                ),
                ("error", models.TextField(blank=True)),
                ("lines", models.PositiveIntegerField(default=0)),
                ("functions", models.PositiveIntegerField(default=0)),
                ("classes", models.PositiveIntegerField(default=0)),
                ("imports", models.JSONField(blank=True, default=list)),
                ("longest_function", models.TextField(blank=True)),
                ("longest_function_lines", models.PositiveIntegerField(default=0)),
                ("documentable", models.PositiveIntegerField(default=0)),
                ("documented", models.PositiveIntegerField(default=0)),
                ("read_at", models.DateTimeField(blank=True, null=True)),
                (
                    "scan",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="files", to="census.scan"
                    ),
                ),
            ],
            options={
                "ordering": ("path",),
                "constraints": [models.UniqueConstraint(fields=("scan", "path"), name="census_one_row_a_file")],
            },
        ),
    ]
