"""Indexes for looking through millions of results: those that have not ended, and those that ended badly.

Both are partial, so the result of a success, which is nearly all of them, touches neither. The index on states holds
ended results only: the state of one that has not ended may be any text, and long ones do not fit into an index.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("djtasks", "0001_initial")]

    operations = [
        migrations.AddIndex(
            model_name="result",
            index=models.Index(
                condition=models.Q(("done__isnull", True)), fields=["id"], name="djtasks_result_unfinished"
            ),
        ),
        migrations.AddIndex(
            model_name="result",
            index=models.Index(
                condition=models.Q(("done__isnull", False), models.Q(("state", "SUCCESS"), _negated=True)),
                fields=["state", "done", "id"],
                name="djtasks_result_unsuccessful",
            ),
        ),
    ]
