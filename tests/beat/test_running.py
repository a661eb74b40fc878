"""Real beats: they wake when a schedule is written, outlive their database's absence, and end when told."""

import os
import signal
from typing import Any

from django.db import transaction

from djtasks.models import Beat, PeriodicTask, Result, Tick
from tests.beat.running import Beats
from tests.worker.running import Workers, query, wait_until

NOOP = "tests.worker_app.tasks.noop"
#: A change is to be seen within seconds; it is within milliseconds, but these machines may be slow.
SOON = 5.0


def every(seconds: int, **more: Any) -> PeriodicTask:
    """A periodic task."""
    said = {"name": "noop", "task": NOOP, "kind": "interval", "every": seconds, "period": "seconds"}
    made: PeriodicTask = PeriodicTask.objects.create(**{**said, **more})
    return made


def sent(task: PeriodicTask) -> int:
    """How many runs of it have been sent."""
    return int(Tick.objects.get(periodic_task=task).total_run_count)


def test_a_beat_runs_until_it_is_told_to_stop(beats: Beats) -> None:
    schedule = {"nightly": {"task": NOOP, "schedule": 3600}}
    first = beats.start("-s", "celerybeat-schedule", "-S", "django", BEAT_SCHEDULE=schedule)
    assert PeriodicTask.objects.get(name="nightly").source == "settings"
    assert PeriodicTask.objects.get(name="celery.backend_cleanup").source == "builtin"
    second = beats.start("-q")
    task = every(1)
    wait_until(lambda: sent(task) >= 2, "two runs were sent")
    row = Beat.objects.get(pid=first.pid)
    assert (row.name.startswith("beat@"), row.embedded) == (True, False)
    assert Beat.objects.count() == 2
    assert first.stop() == 0
    assert second.stop(signal.SIGINT) == 0
    assert Beat.objects.count() == 0
    log = first.log + second.log
    for text in (
        "is starting",
        "beat: Starting...",
        "--schedule does nothing",
        "--scheduler django does nothing",
        "Scheduler: Sending due task noop (tests.worker_app.tasks.noop)",
        "beat: Shut down.",
    ):
        assert text in log, log
    assert "is starting" not in second.log
    # Each was sent once, whoever did it.
    assert query("SELECT count(*) FROM djtasks_message WHERE periodic = %s", task.pk) == [(sent(task),)]


def test_a_sleeping_beat_wakes_when_a_schedule_is_written_by_whatever_means_and_outlives_its_session(
    beats: Beats,
) -> None:
    beat = beats.start("--max-interval", "600", WORKER_HEARTBEAT_INTERVAL=600, WORKER_DEAD_AFTER=2000)
    task = every(3600)
    wait_until(lambda: Tick.objects.get(periodic_task=task).next_run_at, "a new row was seen", SOON)
    PeriodicTask.objects.filter(pk=task.pk).update(every=1)
    wait_until(lambda: sent(task) >= 1, "QuerySet.update was seen", SOON)
    query("UPDATE djtasks_periodic_task SET enabled = false WHERE id = %s", task.pk)
    wait_until(lambda: not Tick.objects.get(periodic_task=task).stale, "SQL was seen", SOON)
    query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'djtasks beat@%%'")
    beat.says("Lost the database")
    before = sent(task)
    with transaction.atomic():
        PeriodicTask.objects.filter(pk=task.pk).update(enabled=True)
    wait_until(lambda: sent(task) > before, "a commit was seen", SOON)


def test_a_worker_sends_periodic_tasks_with_its_option_b(workers: Workers) -> None:
    task = every(1, name="embedded")
    worker = workers.start("-B", "-s", "celerybeat-schedule", "-c", "1")
    wait_until(lambda: Result.objects.filter(periodic=task.pk, state="SUCCESS").count() >= 2, "two runs have ended")
    assert Beat.objects.get().embedded
    worker.children(1)
    assert worker.stop() == 0
    assert Beat.objects.count() == 0
    assert "Threads run before the worker forks" not in worker.log
    assert "Scheduler: Sending due task embedded" in worker.log


# -- the pid file, and no terminal --------------------------------------------------------------------------------


def test_detached_it_goes_on_without_the_one_that_started_it(beats: Beats) -> None:
    folder = beats.folder
    started = beats.launch(
        *("--detach", "--pidfile", "beat.pid", "-f", "beat.log", "-l", "INFO", "--workdir", str(folder)),
        *("--umask", "027"),
    )
    assert started.wait() == 0, started.log
    pid = int((folder / "beat.pid").read_text())
    assert pid != started.pid
    try:
        wait_until(lambda: Beat.objects.filter(pid=pid), "it runs")
        again = beats.launch("--detach", "--pidfile", str(folder / "beat.pid"))
        assert again.wait() == 1
        assert f"runs already (pid {pid})" in again.log
        assert (folder / "beat.log").stat().st_mode & 0o777 == 0o640
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not (folder / "beat.pid").exists(), "it has ended")
    assert "beat: Shut down." in (folder / "beat.log").read_text()
