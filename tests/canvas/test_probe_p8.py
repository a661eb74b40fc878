import pytest
from typing import Any
from djtasks import chain, chord, group, shared_task, AsyncResult, GroupResult
from tests.calling.conftest import Configure
pytestmark = pytest.mark.django_db(transaction=True)

def test_eager(configure: Configure) -> None:
    configure(TASK_ALWAYS_EAGER=True, TASK_STORE_EAGER_RESULT=True)
    @shared_task(name="p.add")
    def add(x, y): return x+y
    @shared_task(name="p.sum")
    def xsum(xs): return sum(xs)
    r = (add.s(1,2) | add.s(3) | add.s(4)).delay()
    print(r, r.get(), r.parent, r.parent.parent, r.as_tuple())
    g = group(add.s(i,i) for i in range(4)).delay()
    print(g, g.get(), g.ready(), g.completed_count())
    c = chord([add.s(i,i) for i in range(4)])(xsum.s())
    print(c, c.get(), c.parent)
    c = (add.s(1,1) | group(add.s(1), add.s(2)) | xsum.s()).delay()
    print(c, c.get(), c.parent, c.parent and c.parent.parent)
    print(add.chunks([(1,1),(2,2),(3,3)], 2).delay().get(), xsum.map([[1,2],[3]]).delay().get())
