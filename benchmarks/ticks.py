"""The phase of beat: how late the runs of one-second schedules begin, among many schedules that are not due."""

import json
import sys

from django.apps import apps

from benchmarks.bench import Bench
from benchmarks.figures import Measured, percentile
from benchmarks.payload import PAYLOAD
from benchmarks.phases import worker
from benchmarks.timing import BenchmarkError

#: Schedules of one second each, at times of their own within it; and schedules of a day that stand beside them.
SCHEDULES, OTHERS = 20, 10_000
#: The first run of each is thrown away: it may find the worker or beat still busy with their start.
WARM_UP = 1


def ticks(bench: Bench) -> Measured:
    """From the due time to the first line of the task's body, and to the statement that sends it."""
    bench.site.empty()
    said = {"task": "benchmarks.stamp", "args": [PAYLOAD], "kind": "interval", "every": 1}
    model = apps.get_model("djtasks", "PeriodicTask")
    model.objects.bulk_create(
        (model(name=f"other {number}", period="days", **said) for number in range(OTHERS)), batch_size=1000
    )
    command = [sys.executable, "-m", "django", "runbeat", "-q"]
    with worker(bench) as process, bench.processes.running("beat", command, None) as beat:
        # All of them have their times.
        bench.deadline.wait_for(lambda: not bench.site.ask("SELECT count(*) FROM djtasks_tick WHERE stale")[0], beat)
        began = bench.site.ask("SELECT extract(epoch FROM now())::float8")[0]
        bench.site.rows(
            "INSERT INTO djtasks_periodic_task (name, start_time, task, kind, every, period, relative, minute, hour,"
            " day_of_month, month_of_year, day_of_week, timezone, event, args, kwargs, queue, exchange, routing_key,"
            " headers, options, one_off, enabled, catch_up, overlap, description, source, overridden, vanished)"
            " SELECT 'second ' || n, to_timestamp(floor(%s) + 2 + n * %s), task, kind, every, 'seconds', relative,"
            " minute, hour, day_of_month, month_of_year, day_of_week, timezone, event, args, kwargs, queue, exchange,"
            " routing_key, headers, options, one_off, enabled, catch_up, overlap, description, source, overridden,"
            " vanished FROM djtasks_periodic_task, generate_series(1, %s) n WHERE name = 'other 0' RETURNING id",
            began,
            1 / SCHEDULES,
            SCHEDULES,
        )
        total = SCHEDULES * (WARM_UP + bench.options.ticks)
        bench.deadline.wait_for(lambda: bench.site.progress().results >= total, process, beat, every=0.2)
        bench.site.rows("UPDATE djtasks_periodic_task SET enabled = false RETURNING id")
        bench.deadline.wait_for(lambda: not bench.site.messages(), process, every=0.05)
    return figures(bench)


def figures(bench: Bench) -> Measured:
    """How late the runs were, in milliseconds: due times are a whole number of seconds after their start time."""
    found = bench.site.rows(
        "SELECT extract(epoch FROM p.start_time)::float8, extract(epoch FROM r.created)::float8, r.result"
        " FROM djtasks_result r JOIN djtasks_periodic_task p ON p.id = r.periodic WHERE p.start_time IS NOT NULL"
    )
    # A run that is late by more than a second is that of several times: then there are too few.
    for start in {row[0] for row in found}:
        seconds = sorted(int(sent - start) for each, sent, _ in found if each == start)
        if seconds != list(range(seconds[0], seconds[0] + len(seconds))):
            raise BenchmarkError("a run of a one-second schedule was more than a second late")
    measured = [
        ((sent - start) % 1, (json.loads(began) - start) % 1) for start, sent, began in found if sent - start > WARM_UP
    ]
    if not measured:
        raise BenchmarkError("no run of a one-second schedule was measured")
    sent, began = ([1000 * late for late in times] for times in zip(*measured, strict=True))
    return {
        "tick_p50": percentile(began, 50),
        "tick_p99": percentile(began, 99),
        "tick_sent_p99": percentile(sent, 99),
        "tick_samples": len(measured),
    }


#: The last name of `options.PHASES`, as `phases.DJTASKS`.
TICKS = {"beat": ("ticks of beat", ticks)}
