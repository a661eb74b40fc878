"""Workflows on real workers: prefork children, two workers at once, processes that are killed in the midst of them."""

from pathlib import Path

import pytest

from djtasks import AsyncResult
from djtasks.canvas import chain, chord, group
from djtasks.exceptions import ChordError, WorkerLostError
from tests.worker.running import Workers, query, value, wait_until
from tests.worker_app.workflows import add, dies, dies_once, fail, gather, told


def nothing_is_left() -> bool:
    """Whether no message, chord or part is there."""
    return query(
        "SELECT (SELECT count(*) FROM djtasks_message) + (SELECT count(*) FROM djtasks_chord)"
        " + (SELECT count(*) FROM djtasks_part)"
    ) == [(0,)]


def test_workflows_run_on_two_workers_at_once(workers: Workers, tmp_path: Path) -> None:
    workers.start("-c", "2", IMPORTS=["tests.worker_app.workflows"])
    workers.start("-c", "2", IMPORTS=["tests.worker_app.workflows"])
    steps = chain(add.s(1), add.s(1), group(add.s(number) for number in range(10)), gather.s()).apply_async((1,))
    parts = chord((add.s(number) for number in range(500)), gather.s()).apply_async((1,))
    nested = chord([chord([add.s(1), add.s(2)], gather.s()), chain(add.s(3), group(add.s(4), add.s(5)))], gather.s())()
    late = chord([dies_once.s(str(tmp_path / "mark"), 7), add.s(1)], gather.s())()
    many = chain(add.s(1), group(add.s(number) for number in range(1500)))()
    assert value(steps) == [number + 3 for number in range(10)]
    assert value(parts) == [number + 1 for number in range(500)]
    assert value(nested) == [[1, 2], 7, 8]
    assert value(late) == [7, 1]
    wait_until(nothing_is_left, "all has run")
    assert sum(each.get(timeout=1) for each in (many.results[0], many.results[-1])) == 1501
    assert sorted(line["count"] for line in workers.audit.lines("gathered")) == [2, 2, 3, 10, 500]


def test_failures_and_losses_end_what_stands_behind_them(workers: Workers) -> None:
    workers.start("-c", "2", IMPORTS=["tests.worker_app.workflows"])
    failed = chord([add.s(1), fail.s()], gather.s().on_error(told.s()))()
    lost = chain(chord([dies.s(), add.s(1)], gather.s()), add.s(1))()
    cut = chain(add.s(1), dies.s(), add.s(2), gather.s()).on_error(told.s())()
    with pytest.raises(ChordError, match="as told"):
        value(AsyncResult(failed.id))
    with pytest.raises(ChordError, match="WorkerLostError"):
        value(AsyncResult(lost.id))
    with pytest.raises(WorkerLostError):
        value(AsyncResult(cut.id))
    wait_until(nothing_is_left, "all has ended")
    assert sorted(line["about"] for line in workers.audit.lines("told")) == sorted([failed.id, cut.parent.parent.id])
    assert workers.audit.lines("gathered") == []
