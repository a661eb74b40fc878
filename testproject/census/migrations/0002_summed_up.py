from typing import Any

from django.db import migrations, models
from django.db.models import F


def finish(apps: Any, schema_editor: Any) -> None:
    """Scans that are there already have nothing behind them that would sum them up."""
    apps.get_model("census", "Scan").objects.update(finished_at=F("created_at"))


class Migration(migrations.Migration):
    dependencies = [("census", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="scan",
            name="finished_at",
            field=models.DateTimeField(blank=True, help_text="When all files had been read and summed up.", null=True),
        ),
        migrations.AddField(
            model_name="scan",
            name="outcomes",
            field=models.JSONField(blank=True, default=dict, help_text="How many files ended in which state."),
        ),
        migrations.RunPython(finish, migrations.RunPython.noop),
    ]
