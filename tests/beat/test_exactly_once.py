"""Five beats, killed at random: each due time is sent once, none is missed, none is sent twice."""

import os
import random
import subprocess
import sys
from datetime import timedelta

from djtasks.models import Message, PeriodicTask, Tick
from testproject.postgres.shared import CHECKOUT
from tests.worker.running import query, wait_until

SCHEDULES, TASKS = 60, 2500
#: Each message tells by its expiry which time it is for.
LATER = 3600


def test_each_of_thousands_of_due_times_is_sent_once_however_beats_are_killed(database: str) -> None:
    PeriodicTask.objects.bulk_create(
        PeriodicTask(
            name=f"quick {number}",
            task="nobody.knows",
            kind="interval",
            every=40_000 + 1_000 * number,
            period="microseconds",
            catch_up="all",
            expire_seconds=LATER,
        )
        for number in range(SCHEDULES)
    )
    seed = random.randrange(10**6)
    done = subprocess.run(
        [sys.executable, "-m", "tests.beat.nursery", str(TASKS), str(seed)],
        cwd=CHECKOUT,
        env={**os.environ, "DATABASE_URL": database, "DJTASKS": '{"WORKER_HEARTBEAT_INTERVAL": 0.5}'},
        capture_output=True,
        text=True,
        check=True,
    )
    killed = int(done.stdout.split()[-1])
    # What they had sent to the server before they died is done, or undone.
    wait_until(lambda: not query("SELECT FROM pg_stat_activity WHERE application_name LIKE 'djtasks beat@%%'"), "quiet")
    sent = 0
    for task in PeriodicTask.objects.filter(name__startswith="quick"):
        tick = Tick.objects.get(periodic_task=task)
        due = sorted(
            expires - timedelta(seconds=LATER)
            for expires in Message.objects.filter(periodic=task.pk).values_list("expires", flat=True)
        )
        interval = timedelta(microseconds=task.every)
        first = tick.since + interval
        assert due == [first + number * interval for number in range(len(due))], (seed, task.name)
        assert tick.total_run_count == len(due), seed
        assert tick.last_run_at == (due[-1] if due else None), seed
        sent += len(due)
    assert sent >= TASKS, (sent, seed, done.stderr)
    assert killed >= 5, (killed, seed)
    assert query("SELECT count(*) FROM djtasks_message WHERE periodic IS NULL") == [(0,)]
