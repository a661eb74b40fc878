"""What came of a task: children, leaves, graphs."""

import io
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from djtasks import AsyncResult, GroupResult, shared_task
from djtasks.exceptions import IncompleteStream
from djtasks.graph import DependencyGraph
from djtasks.ids import new_task_id
from tests.calling.conftest import work

pytestmark = pytest.mark.django_db(transaction=True)


@shared_task(name="kin.echo")
def echo(x: Any = None) -> Any:
    return x


@pytest.fixture(autouse=True)
def defined(registry: dict[str, Any]) -> None:
    registry[echo.name] = echo


def call(value: Any, parent: AsyncResult[Any], root: AsyncResult[Any], **options: Any) -> AsyncResult[Any]:
    """A call that came of another one, in the workflow that began with `root`."""
    return echo.apply_async((value,), parent_id=parent.id, root_id=root.id, **options)


# -- children -----------------------------------------------------------------------------------------------------


def test_a_task_of_which_nothing_came_has_no_children() -> None:
    result = echo.delay()
    assert list(result.children) == []
    work()
    assert list(result.children) == list(AsyncResult("nobody").children) == []


def test_the_children_of_a_task_are_found_while_they_wait_and_when_they_have_ended() -> None:
    root = echo.delay(0)
    first, second = call(1, root, root), call(2, root, root)
    grandchild = call(3, first, root)
    other = echo.delay(4)
    call(5, other, other)
    with CaptureQueriesContext(connection) as queries:
        assert list(root.children) == [first, second]
    assert len(queries) == 1
    work()
    assert list(root.children) == [first, second]
    assert list(first.children) == [grandchild]
    assert list(second.children) == []
    assert root.children[0].name == "kin.echo"


def test_children_of_one_group_are_one_group_in_its_order() -> None:
    root, group = echo.delay(0), new_task_id()
    members = [call(number, root, root, group_id=group, group_index=number) for number in range(20)]
    last = call(20, root, root)
    work()
    found, after = root.children
    assert (found.id, list(found), after) == (group, members, last)
    assert found.get(timeout=10) == list(range(20))


# -- what is behind them ------------------------------------------------------------------------------------------


def workflow() -> tuple[AsyncResult[Any], GroupResult, AsyncResult[Any]]:
    """a | group(b, c), and d after c."""
    root, group = echo.delay("a"), new_task_id()
    members = [call(each, root, root, group_id=group, group_index=index) for index, each in enumerate("bc")]
    return root, GroupResult(group, members), call("d", members[1], root)


def test_dependents_come_breadth_first() -> None:
    root, group, last = workflow()
    with pytest.raises(IncompleteStream):
        list(root.iterdeps())
    assert list(root.iterdeps(intermediate=True)) == [(None, root)]
    work()
    b, c = group
    assert list(root.iterdeps()) == [(None, root), (root, group), (group, b), (group, c), (c, last)]


def test_values_are_collected_and_the_leaf_is_the_last() -> None:
    root, group, last = workflow()
    work()
    assert list(root.collect(timeout=10)) == [
        (root, "a"),
        (group, ["b", "c"]),
        (group[0], "b"),
        (group[1], "c"),
        (last, "d"),
    ]
    assert root.get_leaf() == "d"


def test_the_ids_of_what_came_before_are_a_list() -> None:
    result: AsyncResult[Any] = AsyncResult("c", parent=GroupResult("b", [], parent=AsyncResult("a")))
    assert result.as_list() == ["c", "b", "a"]


# -- graphs -------------------------------------------------------------------------------------------------------


def test_a_result_draws_what_came_of_it() -> None:
    root, group, last = workflow()
    with pytest.raises(IncompleteStream):
        _ = root.graph
    assert len(root.build_graph(intermediate=True)) == 1
    work()
    graph = root.graph
    assert list(graph) == [root, group, *group, last]
    assert graph[root] == [group]
    assert graph.edges() == [root, group, group[1]]
    out = io.StringIO()
    graph.to_dot(out)
    lines = out.getvalue().splitlines()
    assert (lines[0], lines[-1]) == ("digraph {", "}")
    assert f'    n0 [label="{root.id}"];' in lines
    assert "    n1 -> n2;" in lines
    assert f'    n4["{last.id}"]' in graph.to_mermaid().splitlines()


def test_a_graph_knows_its_order_and_its_weight() -> None:
    graph = DependencyGraph({"a": ["b", "c"], "b": ["d"]}.items())
    graph.connect(DependencyGraph([("c", ["d"])]))
    graph.add_edge("c", "d")
    assert graph.topsort() == ["a", "b", "c", "d"]
    assert (graph.valency_of("a"), graph.valency_of("d")) == (4, 0)
    assert ("b" in graph, "x" in graph, len(graph)) == (True, False, 4)
    assert "c(1)" in repr(graph)
    assert dict(graph.items()) == dict(graph.iteritems()) == {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
    graph.add_edge("d", "a")
    with pytest.raises(ValueError, match="circle"):
        graph.topsort()


def test_nothing_in_a_name_breaks_a_drawing() -> None:
    class Formatter:
        def label(self, node: str) -> str:
            return node.upper()

    graph = DependencyGraph([('a"];\\\nb', ["<c>#"])], formatter=Formatter())
    out = io.StringIO()
    graph.to_dot(out)
    assert 'n0 [label="A\\"];\\\\\\nB"];' in out.getvalue()
    assert graph.to_mermaid() == 'graph LR\n    n0["A#34;]#59;\\#10;B"]\n    n1["#60;C#62;#35;"]\n    n0 --> n1\n'
    assert graph.format("x") == "X"


def test_a_task_that_has_run_here_knows_what_it_called() -> None:
    @shared_task(name="kin.calls")
    def calls() -> None:
        echo.delay(1)

    result = calls.apply()
    (child,) = result.children
    work()
    assert child.get(timeout=10) == 1
    assert list(echo.apply((1,)).children) == []
    assert result.get_leaf() == 1
