"""Tasks that change their workflow while they run: `replace` and `add_to_chord`."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction

from djtasks import Task, chain, chord, group, shared_task, signature
from djtasks.db.connections import borrow, rows
from djtasks.exceptions import ImproperlyConfigured
from djtasks.registry import tasks
from djtasks.testing import drain
from tests.storage.calls import committed

pytestmark = pytest.mark.django_db

seen: list[Any] = []


@shared_task(name="grow.add")
def add(x: Any, y: Any = 0) -> Any:
    return x + y


@shared_task(name="grow.total")
def total(values: list[Any]) -> Any:
    return sum(values)


@shared_task(name="grow.fail")
def fail(*args: Any) -> None:
    raise LookupError("no")


@shared_task(name="grow.look", bind=True)
def look(self: Any, *args: Any) -> Any:
    """What it sees of itself."""
    request = self.request
    seen.append({"id": request.id, "nesting": request.replaced_task_nesting, "stamps": request.stamps, "args": args})
    return args[0] if args else None


@shared_task(name="grow.note")
def note(value: Any) -> None:
    seen.append(value)


@shared_task(name="grow.replaced", bind=True)
def replaced(self: Any, *args: Any, by: Any) -> Any:
    raise self.replace(signature(by))


@shared_task(name="grow.reported", bind=True)
def reported(self: Any, *args: Any, by: Any) -> Any:
    self.update_state(state="PROGRESS", meta={"done": 1})
    return self.replace(signature(by))


@shared_task(name="grow.atomic", bind=True, atomic=True)
def atomically(self: Any, *args: Any, by: Any) -> Any:
    return self.replace(signature(by))


@shared_task(name="grow.twice", bind=True)
def twice(self: Any, left: int) -> Any:
    return self.replace(twice.s(left - 1) if left > 1 else look.s("end"))


@shared_task(name="grow.retried", bind=True, max_retries=3)
def retried(self: Any, value: int) -> Any:
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.replace(add.s(value, 1))


@shared_task(name="grow.swallows", bind=True)
def swallows(self: Any) -> Any:
    try:
        self.replace(add.s(1, 2))
    except Exception:
        return "never mind"


@shared_task(name="grow.adds", bind=True)
def adds(self: Any, value: int, *more: Any, lazy: bool = False) -> int:
    for each in more:
        result = self.add_to_chord(signature(each), lazy=lazy)
        if lazy:
            result.delay()
    return value


@shared_task(name="grow.adds_inside", bind=True)
def adds_inside(self: Any, value: int) -> int:
    with transaction.atomic():
        self.add_to_chord(add.s(10, 20))
        transaction.set_rollback(True)
    return value


@pytest.fixture(autouse=True)
def _registered(registry: dict[str, Any]) -> Iterator[None]:
    tasks.update({task.name: task for task in globals().values() if isinstance(task, Task)})
    seen.clear()
    yield
    left = rows(borrow(), "SELECT (SELECT count(*) FROM djtasks_chord) + (SELECT count(*) FROM djtasks_part)")
    assert left == [(0,)], "a chord, or a part of one, is left behind"


def value(result: Any) -> Any:
    """Run everything; what came of it."""
    drain()
    return result.get(timeout=1)


# -- what replaces a task -----------------------------------------------------------------------------------------


REPLACEMENTS = [
    (add.s(1, 2), 3),
    (add.s(1, 2) | add.s(3), 6),
    (group(add.s(1, 2), add.s(3, 4)), [3, 7]),
    (group([]), []),
    (group(add.s(1, 2)), [3]),
    (chord([add.s(1, 2), add.s(3, 4)], total.s()), 10),
    (group(add.s(1, 2), add.s(3, 4)) | total.s() | add.s(5), 15),
    (add.s(1, 2) | group(add.s(1), add.s(2)), [4, 5]),
    (chord([add.s(1, 2)], group(total.s(), total.s())), [3, 3]),
    (chain(add.s(1, 2)), 3),
]


@pytest.mark.parametrize(("by", "expected"), REPLACEMENTS)
def test_what_comes_of_the_replacement_is_the_tasks_result(by: Any, expected: Any) -> None:
    result = replaced.delay(by=by)
    assert value(result) == expected
    assert result.state == "SUCCESS"


@pytest.mark.parametrize(("by", "expected"), REPLACEMENTS)
def test_it_keeps_its_place_in_a_chain_and_in_a_chord(by: Any, expected: Any) -> None:
    result = chord([look.s("a"), replaced.s(by=by), chain(replaced.si(by=by), look.s()), look.s("b")], look.s())()
    assert value(result) == ["a", expected, expected, "b"]


@committed
@pytest.mark.parametrize(("by", "expected"), REPLACEMENTS[::3])
def test_an_atomic_task_is_replaced_in_its_own_transaction(by: Any, expected: Any) -> None:
    assert value(chain(atomically.s(by=by), look.s())()) == expected


@pytest.mark.parametrize(("by", "expected"), REPLACEMENTS)
def test_an_eager_run_returns_what_comes_of_it(by: Any, expected: Any) -> None:
    result = atomically.apply(kwargs={"by": by})
    assert (result.get(), result.state) == (expected, "SUCCESS")


def test_ids_of_the_chain_behind_stay() -> None:
    last = chain(replaced.si(by=add.s(1, 2)), look.s(), look.s())()
    ids = [last.parent.parent.id, last.parent.id, last.id]
    assert value(last) == 3
    assert [each["id"] for each in seen] == ids[1:]


def test_links_are_those_of_the_replacement() -> None:
    result = replaced.apply_async(kwargs={"by": chain(add.s(1, 2), add.s(4))}, link=note.s())
    assert value(result) == 7
    assert seen == [7]


def test_errbacks_are_those_of_the_replacement() -> None:
    result = replaced.apply_async(kwargs={"by": fail.s()}, link_error=note.s())
    drain()
    assert result.state == "FAILURE"
    assert seen == [result.id]


def test_a_replacement_that_fails_fails_its_chain_and_its_chord() -> None:
    result = chord([replaced.s(by=add.s(1, 2) | fail.s()), add.s(1)], total.s())()
    drain()
    assert result.state == "FAILURE"
    with pytest.raises(LookupError):
        result.get(timeout=1)
    behind = chain(replaced.s(by=fail.s()), look.s())()
    drain()
    assert (behind.state, seen) == ("FAILURE", [])


def test_a_replacement_that_fails_early_ends_what_the_replaced_run_had_reported() -> None:
    result = reported.delay(by=chain(add.s(1, 2), fail.s(), add.s(1)))
    drain()
    assert result.state == "FAILURE"
    with pytest.raises(LookupError):
        result.get(timeout=1)


def test_replacements_of_replacements_count_their_nesting() -> None:
    result = twice.delay(3)
    assert value(result) == "end"
    assert [(each["id"], each["nesting"]) for each in seen] == [(result.id, 3)]


def test_a_retried_task_is_replaced_in_its_chord() -> None:
    assert value(chord([retried.s(1), retried.s(2)], total.s())()) == 5


def test_a_task_that_goes_on_after_it_is_replaced_all_the_same() -> None:
    assert value(swallows.delay()) == 3


def test_stamps_stay_and_on_replace_adds_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def on_replace(sig: Any) -> Any:
        sig.stamp(more="new")
        return Task.on_replace(replaced, sig)

    monkeypatch.setattr(replaced, "on_replace", on_replace, raising=False)
    sig = replaced.s(by=look.s("x"))
    sig.stamp(own="old")
    assert value(sig.delay()) == "x"
    assert seen[0]["stamps"] == {"own": "old", "more": "new"}


def test_it_is_a_beginning_if_the_task_was_one() -> None:
    result = replaced.delay(by=add.s(1, 2))
    drain()
    found = rows(borrow(), "SELECT root_id, parent_id FROM djtasks_result WHERE id = %s::uuid", [result.id])
    assert found == [(None, None)]


@pytest.mark.parametrize(
    ("by", "sentence"),
    [
        (chain(), "Cannot replace with an empty chain"),
        (add.s(1).set(chord="x"), "A signature replacing a task must not be part of a chord"),
    ],
)
def test_what_cannot_replace_a_task_is_refused(by: Any, sentence: str) -> None:
    result = replaced.delay(by=by)
    drain()
    assert isinstance(result.result, ImproperlyConfigured)
    assert str(result.result) == sentence


def test_what_is_no_signature_is_refused() -> None:
    task = Task()
    with pytest.raises(TypeError, match=r"write grow.add.s\(\)"):
        task.replace(add)


# -- chords that grow ---------------------------------------------------------------------------------------------


@committed
@pytest.mark.parametrize("lazy", [False, True])
def test_what_is_added_comes_last_among_the_results(lazy: bool) -> None:
    more = [add.s(10, 20), chain(add.s(1, 2), add.s(3))]
    result = chord([adds.s(1, *more, lazy=lazy), look.s(2)], look.s())()
    assert value(result) == [1, 2, 30, 6]


def test_a_test_may_add_to_a_chord_of_its_own_transaction() -> None:
    assert value(chord([adds.s(1, add.s(10, 20)), adds_inside.s(2)], look.s())()) == [1, 2, 30]


def test_a_group_that_is_added_is_as_many_parts_as_it_has_members() -> None:
    result = chord([adds.s(1, group(add.s(1, 1), add.s(2, 2)))], look.s())()
    assert value(result) == [1, 2, 4]


@committed
def test_it_holds_whatever_becomes_of_the_transaction_that_is_open() -> None:
    assert value(chord([adds_inside.s(1)], look.s())()) == [1, 30]


def test_a_failure_of_what_was_added_is_one_of_the_chord() -> None:
    result = chord([adds.s(1, fail.s())], look.s())()
    drain()
    assert (result.state, seen) == ("FAILURE", [])


def test_only_a_part_of_a_chord_can_add_to_it() -> None:
    result = adds.delay(1, add.s(1))
    drain()
    assert isinstance(result.result, ValueError)
    assert str(result.result) == "Current task is not member of any chord"


# -- what a task is told ------------------------------------------------------------------------------------------


@shared_task(name="grow.told", bind=True)
def told(self: Any, *args: Any) -> Any:
    request = self.request
    behind = [each["task"] for each in reversed(request.chain or ())]
    seen.append((request.id, request.root_id, request.parent_id, request.group, request.group_index))
    seen.append((request.chord, behind))
    return args[0] if args else None


def test_a_request_knows_its_place_in_the_workflow() -> None:
    body = chain(told.s(1), chord([told.s(), chain(told.s(), add.s(1))], told.s()))()
    drain()
    header = body.parent
    root = header.parent.id
    first, *members, (own, chord_of_body) = zip(seen[::2], seen[1::2], strict=True)
    assert first[0] == (root, root, None, None, None)
    assert members[0] == ((header.results[0].id, root, root, header.id, 0), (header.id, []))
    # A chain's place is that of its end.
    (task_id, *lineage, group_id, _), (waits, behind) = members[1]
    assert (task_id, lineage, group_id) == (header.results[1].parent.id, [root, root], None)
    assert (waits, behind) == (None, ["grow.add"])
    assert (own[:2], own[3]) == ((body.id, root), header.id)
    assert chord_of_body == (None, [])


def test_the_children_of_a_task_are_what_it_has_sent() -> None:
    @shared_task(name="grow.sends", bind=True)
    def sends(self: Any) -> list[str]:
        chain(add.s(1, 1), add.s(1))()
        group(add.s(1, 1), add.s(2, 2))()
        chord([add.s(1, 1)], total.s())()
        return [type(each).__name__ for each in self.request.children]

    result = sends.delay()
    assert value(result) == ["AsyncResult", "GroupResult", "AsyncResult"]
