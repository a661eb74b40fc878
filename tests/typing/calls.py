"""What a type checker knows of tasks: read by mypy in tests/calling/test_typing.py, and never run.

A line that must be refused carries `type: ignore` with the code of the error; an ignore that is not needed is an
error itself (`warn_unused_ignores`), so both directions are checked.
"""

from collections.abc import Sequence
from typing import Any, assert_type

from djtasks import AsyncResult, Celery, EagerResult, Signature, Task, app, shared_task, task, xmap


@shared_task
def add(x: int, y: int = 0) -> float:
    return float(x + y)


assert_type(add(1, 2), float)
assert_type(add.delay(1, y=2), AsyncResult[float])
assert_type(add.delay_on_commit(1), AsyncResult[float])
assert_type(add.apply_async((1, 2), countdown=5, queue="slow"), AsyncResult[float])
assert_type(add.apply_async((1, 2)).get(timeout=5), float)
assert_type(add.apply((1, 2)), EagerResult[float])
assert_type(add.apply((1, 2)).get(), float)
assert_type(add.bulk_apply_async([((1,), {})]), Sequence[AsyncResult[float]])
assert_type(add.AsyncResult("x").get(), float)
assert_type(add.delay(1).state, str)

anything: AsyncResult[object] = add.delay(1)

assert_type(add.s(1), Signature)
assert_type(add.signature((1,), countdown=5), Signature)
assert_type(add.s(1).delay(2), AsyncResult[Any])
assert_type(add.map([1, 2]), xmap)

add.delay("1")  # type: ignore[arg-type]
add.delay()  # type: ignore[call-arg]
add.delay(1, z=2)  # type: ignore[call-arg]
add("1")  # type: ignore[arg-type]
add.apply_async((1,), coundown=5)  # type: ignore[call-arg]
add.apply_async((1,), countdown="5")  # type: ignore[arg-type]

options: dict[str, Any] = {"countdown": 5}
assert_type(add.apply_async((1,), **options), AsyncResult[float])


@shared_task(pydantic=True, pydantic_strict=True, pydantic_context={"tenant": 5})
def validated(x: int) -> int:
    return x


assert_type(validated.delay(1).get(), int)


@shared_task(max_retries=5, autoretry_for=(OSError,), queue="slow")
def fetch(url: str) -> bytes:
    return url.encode()


assert_type(fetch.delay("http://example.org").get(), bytes)
fetch.delay(5)  # type: ignore[arg-type]


@shared_task(bind=True, max_retries=5)
def page(self: Task[..., Any], url: str, *, depth: int = 0) -> list[str]:
    if self.request.retries:
        raise self.retry(countdown=5)
    return [url] * depth


assert_type(page.delay("http://example.org", depth=1).get(), list[str])
assert_type(page("http://example.org"), list[str])
page.delay()  # type: ignore[call-arg]
page.delay(self=1, url="x")  # type: ignore[call-arg]


@shared_task()
def nothing() -> None: ...


assert_type(nothing.delay(), AsyncResult[None])


@task
def old(x: int) -> int:
    return x


@app.task
def mine(x: int) -> int:
    return x


@Celery("shop").task(bind=True)
def yours(self: Task[..., Any], x: int) -> str:
    return str(x)


assert_type(old.delay(1).get(), int)
assert_type(mine.delay(1).get(), int)
assert_type(yours.delay(1).get(), str)


class Base(Task[..., Any]):
    abstract = True


@shared_task(base=Base, name="shop.based")
def based(x: int) -> int:
    return x


assert_type(based.delay(1).get(), int)


class Square(Task[[int], int]):
    def run(self, x: int) -> int:
        return x * x


assert_type(Square().delay(2).get(), int)
Square().delay("2")  # type: ignore[arg-type]
add.dely(1)  # type: ignore[attr-defined]
shared_task(max_retrys=3)  # type: ignore[call-overload]


@shared_task
async def load(url: str) -> bytes:
    return url.encode()


@shared_task(max_retries=5)
async def load_often(url: str) -> bytes:
    return url.encode()


@shared_task(bind=True)
async def load_bound(self: Task[..., Any], url: str) -> bytes:
    return url.encode()


assert_type(load.delay("http://example.org").get(), bytes)
assert_type(load_often.delay("http://example.org"), AsyncResult[bytes])
assert_type(load_bound.delay("http://example.org"), AsyncResult[bytes])
assert_type(load.apply(("http://example.org",)).get(), bytes)
load.delay(5)  # type: ignore[arg-type]


async def calls_from_a_coroutine() -> None:
    assert_type(await load("http://example.org"), bytes)
    assert_type(await load.adelay("http://example.org"), AsyncResult[bytes])
    assert_type(await (await load.adelay("http://example.org")).aget(timeout=5), bytes)
    assert_type(await add.aapply_async((1, 2), countdown=5), AsyncResult[float])
    assert_type(await (await add.adelay(1)).aget(), float)
    assert_type(await add.aapply((1,)), EagerResult[float])
    await load.adelay(5)  # type: ignore[arg-type]
