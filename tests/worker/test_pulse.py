"""The pulse, while there is a great deal to sweep up."""

from collections.abc import Iterator

import pytest
from django.test import override_settings

from djtasks.db import workers
from djtasks.db.connections import open_private
from djtasks.db.workers import Registration
from djtasks.worker.identity import new_incarnation
from djtasks.worker.pulse import News, Pulse
from djtasks.worker.state import State
from tests.worker.running import query, wait_until

MANY = 60_000
OLD_RESULTS = """
    INSERT INTO djtasks_result (id, state, name, queue, done)
    SELECT gen_random_uuid(), 'SUCCESS', 'tests.add', 'celery', now() - interval '1 year'
    FROM generate_series(1, %s)
"""
EXPIRED = """
    INSERT INTO djtasks_message (id, name, queue, lane, body, expires)
    SELECT gen_random_uuid(), 'tests.add', 'celery', 'celery', '[[], {}]', now() - interval '1 year'
    FROM generate_series(1, %s)
"""
#: Seconds since the last beat.
AGE = "SELECT extract(epoch FROM clock_timestamp() - heartbeat)::float8 FROM djtasks_worker"


@pytest.fixture
def pulse(database: str) -> Iterator[Pulse]:
    """The pulse of a worker that is there, beating twice a second."""
    state = State(new_incarnation())
    state.registered = state.incarnation
    news: list[News] = []
    with override_settings(DJTASKS={"WORKER_HEARTBEAT_INTERVAL": 0.5, "WORKER_DEAD_AFTER": 20.0}):
        with open_private("test") as conn:
            row = Registration(
                state.incarnation, "celery@test", "far", 1, "1", "another boot", "", None, "solo", 1, ["celery"]
            )
            workers.register(conn, row)
        pulse = Pulse(
            state,
            "celery@test",
            tell=news.append,
            concurrency=lambda: 1,
            process_group=lambda: None,
            known=list,
            queues=["celery"],
        )
        yield pulse
        pulse.stop()
        pulse.join(20)
    query("TRUNCATE djtasks_message, djtasks_result, djtasks_worker")


@pytest.mark.parametrize("what", ["results that are old", "messages that have expired"])
def test_the_heart_beats_in_time_however_much_there_is_to_sweep_up(pulse: Pulse, what: str) -> None:
    query(OLD_RESULTS if what == "results that are old" else EXPIRED, MANY)
    pulse._prune_at = 0.0
    query("UPDATE djtasks_worker SET heartbeat = clock_timestamp()")
    pulse.start()
    ages = []

    def swept() -> bool:
        ages.append(query(AGE)[0][0])
        # A part will do: that is more than fits between two beats.
        return int(query("SELECT count(*) FROM djtasks_result WHERE done < now() - interval '1 day'")[0][0]) + int(
            query("SELECT count(*) FROM djtasks_message")[0][0]
        ) < (MANY * 2 // 3)

    wait_until(swept, "a third of it is swept up", 60)
    assert max(ages) < 1.5
