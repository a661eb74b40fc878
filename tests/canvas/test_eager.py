"""Workflows that run where they are called: `apply()`, and TASK_ALWAYS_EAGER."""

from typing import Any

import pytest

from djtasks import AsyncResult, EagerResult, GroupResult, chain, chord, group, shared_task
from djtasks.exceptions import Ignore
from tests.calling.conftest import Configure

TOLD: list[Any] = []


@shared_task
def add(x: int, y: int = 0) -> int:
    return x + y


@shared_task
def total(numbers: list[int], more: int = 0) -> int:
    return sum(numbers) + more


@shared_task
def note(*args: Any) -> None:
    TOLD.append(args)


@shared_task
def fail(*args: Any) -> None:
    raise ValueError("broken")


@shared_task
def skip(*args: Any) -> None:
    raise Ignore


@shared_task(bind=True)
def about(self: Any, *args: Any) -> Any:
    return self.request.id, self.request.group


@pytest.fixture(autouse=True)
def known(registry: dict[str, Any]) -> None:
    TOLD.clear()
    registry.update({task.name: task for task in (add, total, note, fail, skip, about)})


@pytest.fixture(params=["apply", "always eager"])
def run(request: pytest.FixtureRequest, configure: Configure) -> Any:
    """Run a workflow here, in either way."""
    if request.param == "apply":
        return lambda made, *args, **options: made.apply(args, **options)
    configure(TASK_ALWAYS_EAGER=True)
    return lambda made, *args, **options: made.apply_async(args, **options)


def test_a_chain_runs_here(run: Any) -> None:
    result = run(add.s(1) | add.s(2) | add.s(3), 10)
    assert (type(result), result.get(), result.state) == (EagerResult, 16, "SUCCESS")
    assert [result.parent.get(), result.parent.parent.get(), result.parent.parent.parent] == [13, 11, None]
    assert run(chain()) is None


def test_a_group_runs_here(run: Any) -> None:
    result = run(group(add.s(1), group(add.s(2), add.s(3)), chain(add.s(4), add.s(5))), 10)
    assert type(result) is GroupResult
    assert result.get() == [11, 12, 13, 19]
    assert run(group([])).get() == []
    assert run(group(add.si(number, 1) for number in range(3))).get() == [1, 2, 3]


def test_a_chord_runs_here(run: Any) -> None:
    result = run(chord([add.s(1), add.s(2)], total.s(100)), 10)
    assert result.get() == 123
    assert (type(result.parent), result.parent.get()) == (GroupResult, [11, 12])
    assert run(chord([], total.s())).get() == 0
    assert run(group(add.si(1, 1), add.si(2, 2)) | total.s() | group(add.s(1), add.s(2))).get() == [7, 8]
    assert run(chord([add.si(1, 1) | group(add.s(1), add.s(2)), add.si(5)], total.s())).get() == 12


def test_maps_and_chunks_run_here(run: Any) -> None:
    assert run(add.map([1, 2])).get() == [1, 2]
    assert run(add.starmap([(1, 2), (3, 4)])).get() == [3, 7]
    assert run(add.chunks([(1, 2), (3, 4), (5, 6)], 2)).get() == [[3, 7], [11]]
    assert run(add.chunks([(1, 2), (3, 4)], 1) | total.si([5])).get() == 5


def test_what_fails_on_the_way_is_raised_and_at_the_end_is_the_result(run: Any) -> None:
    with pytest.raises(ValueError, match="broken"):
        run(fail.s() | add.s(1))
    with pytest.raises(ValueError, match="broken"):
        run(chord([fail.s(), add.s(1, 1)], total.s()))
    result = run(add.s(1, 1) | fail.s())
    assert result.state == "FAILURE"
    assert [each.state for each in run(group(fail.s(), add.s(1)), 1).results] == ["FAILURE", "SUCCESS"]
    with pytest.raises(ValueError, match="broken"):
        result.get()


def test_nothing_runs_behind_what_was_ignored(run: Any) -> None:
    result = run(skip.s() | note.s())
    assert (result.state, result.get(), TOLD) == ("IGNORED", None, [])


def test_links_run_here(run: Any) -> None:
    made = add.s(1) | add.s(2)
    made.link(note.s("end"))
    made.link_error(note.s("failed"))
    run(made, 10)
    assert TOLD == [(13, "end")]
    run(chord([add.s(1, 1)], total.s()).on_error(note.s("x")), link=note.s("body"))
    assert TOLD[1:] == [(2, "body")]
    run(add.s(1, 1).set(link=add.s(5) | note.s("chain")))
    assert TOLD[2:] == [(7, "chain")]


def test_errbacks_run_here(run: Any) -> None:
    result = run((add.s(1, 1) | fail.s()).on_error(note.si("failed")))
    assert result.state == "FAILURE"
    assert TOLD == [("failed",)]


def test_links_of_a_lone_task_run_here_and_are_not_enqueued() -> None:
    add.apply((1, 2), link=[note.s("first"), add.s(10) | note.s("second")])
    assert TOLD == [(3, "first"), (13, "second")]


def test_an_id_is_that_of_the_end(run: Any) -> None:
    own = "0190a4f2-0000-7000-8000-000000000001"
    assert run(about.s() | about.s(), task_id=own).get()[0] == own
    assert run(chord([add.s(1, 1)], about.s()), task_id=own).get()[0] == own
    result = run(group(about.s(), about.s()), task_id=own)
    assert result.id == own
    assert [each.get()[1] for each in result.results] == [own, own]
    assert own not in [each.id for each in result.results]


def test_options_of_the_first_are_those_of_the_call(run: Any) -> None:
    assert run((add.s(1) | add.s(2)).set(immutable=False), 5, queue="slow").get() == 8


def test_a_workflow_in_a_task_may_be_waited_for_when_everything_is_eager(configure: Configure) -> None:
    configure(TASK_ALWAYS_EAGER=True)

    @shared_task(name="shop.asks")
    def asks() -> Any:
        return chord([add.s(1, 1)], total.s() | add.s(5)).apply_async().get(disable_sync_subtasks=False)

    assert asks.delay().get() == 7


def test_a_frozen_workflow_has_its_ids_here_too() -> None:
    made = about.s() | about.s()
    result = made.freeze()
    assert type(result) is AsyncResult
    assert made.apply().get()[0] == result.id
