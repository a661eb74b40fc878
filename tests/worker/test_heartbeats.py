"""What a worker makes of the news of its own heart."""

import pytest

from djtasks.worker.clock import since_boot
from djtasks.worker.options import WorkerOptions
from djtasks.worker.pulse import News
from djtasks.worker.worker import Worker


@pytest.mark.django_db
def test_a_beat_of_a_former_life_that_is_read_late_does_not_stop_the_new_one() -> None:
    consumer = Worker(WorkerOptions(hostname="celery@test", pool="solo", concurrency=1, queues=("celery",))).consumer
    before = News("beating", consumer.state.incarnation, since_boot() - 3600)
    consumer.reincarnate()
    consumer.read(before)
    # Its heart beats only once it has claimed, and it claims only while its heart beats.
    assert consumer.beats()
    consumer.database.close()
