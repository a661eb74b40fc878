"""Five beats, killed at random: each due time is sent once, none is missed, none is sent twice."""

import os
import random
import subprocess
import sys
from datetime import timedelta

from djtasks.beat.scheduler import Scheduler
from djtasks.db.connections import open_private
from djtasks.models import Message, PeriodicTask, Tick
from testproject.postgres.shared import CHECKOUT
from tests.worker.running import query

SCHEDULES, SECONDS = 60, 6
#: Each message tells by its expiry which time it is for.
LATER = 3600


def test_each_of_thousands_of_due_times_is_sent_once_however_beats_are_killed(database: str) -> None:
    PeriodicTask.objects.bulk_create(
        PeriodicTask(
            name=f"quick {number}",
            task="nobody.knows",
            kind="interval",
            every=50_000 + 1_000 * number,
            period="microseconds",
            catch_up="all",
            expire_seconds=LATER,
        )
        for number in range(SCHEDULES)
    )
    seed = random.randrange(10**6)
    done = subprocess.run(
        [sys.executable, "-m", "tests.beat.nursery", str(SECONDS), str(seed)],
        cwd=CHECKOUT,
        env={**os.environ, "DATABASE_URL": database, "DJTASKS": '{"WORKER_HEARTBEAT_INTERVAL": 0.5}'},
        capture_output=True,
        text=True,
        check=True,
    )
    killed = int(done.stdout.split()[-1])
    with open_private("test") as conn:
        scheduler = Scheduler()
        for _ in range(100):
            scheduler.tick(conn)
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
        assert tick.last_run_at == due[-1], seed
        sent += len(due)
    assert sent > 2000, (sent, seed, done.stderr)
    assert killed > 10, (killed, seed)
    assert query("SELECT count(*) FROM djtasks_message WHERE periodic IS NULL") == [(0,)]
