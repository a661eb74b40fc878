"""The machine's clock is set while a beat runs: due is what the database's clock says."""

import time
from pathlib import Path

import pytest

from djtasks.models import PeriodicTask, Tick
from tests.beat.running import Beats
from tests.worker.running import query, wait_until

LIBRARIES = sorted(Path("/usr").glob("lib*/**/faketime/libfaketime.so.1"))
MISSING = (
    "LIBFAKETIME IS NOT HERE: nothing proves that beat outlives steps of the clock."
    " Install it (`apt-get install libfaketime`) and run this test again"
)


@pytest.mark.skipif(not LIBRARIES, reason=MISSING)
def test_steps_of_the_clock_neither_miss_nor_repeat_a_run(beats: Beats) -> None:
    offset = beats.folder / "offset"
    offset.write_text("+0\n")
    began = time.monotonic()
    beat = beats.launch(
        *("-l", "INFO", "--max-interval", "1"),
        environment={
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
    ).ready()
    task = PeriodicTask.objects.create(
        name="second", task="nobody.knows", kind="interval", every=1, period="seconds", expire_seconds=3600
    )

    def sent() -> int:
        return int(Tick.objects.get(periodic_task=task).total_run_count)

    for step in ("+86400", "-86400", "+3"):
        before = sent()
        offset.write_text(f"{step}\n")
        wait_until(lambda before=before: sent() >= before + 2, f"runs go on after a step of {step} s")
    assert beat.stop() == 0
    assert sent() <= time.monotonic() - began + 1
    found = query(
        "SELECT count(DISTINCT expires), count(*), extract(epoch FROM max(expires) - min(expires))::integer"
        " FROM djtasks_message WHERE periodic = %s",
        task.pk,
    )
    assert found == [(sent(), sent(), sent() - 1)]
    # It did see them.
    assert len({line[1:11] for line in beat.log.splitlines() if "Sending due task" in line}) >= 2
