"""Tasks, and code that calls them, as a project has them."""

from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from djtasks import AsyncResult, Task, app, shared_task
from djtasks.exceptions import Ignore, Reject

#: What has happened, in order.
done: list[Any] = []


@shared_task(name="shop.greet")
def greet(name: str, loud: bool = False) -> str:
    """Write down a greeting."""
    done.append(name)
    return name.upper() if loud else name


@shared_task(name="shop.count")
def count() -> int:
    """How many users there are."""
    return User.objects.count()


@shared_task(name="shop.acount")
async def acount() -> int:
    """The same, asynchronously."""
    return await User.objects.acount()


@shared_task(name="shop.flaky", bind=True, max_retries=3)
def flaky(self: Task[..., Any], until: int) -> int:
    """Succeed at the run of this number, counted from 0."""
    done.append(self.request.retries)
    if self.request.retries < until:
        raise self.retry(countdown=3600)
    return int(self.request.retries)


@shared_task(name="shop.fail")
def fail(text: str) -> None:
    """Raise an error."""
    raise ValueError(text)


@shared_task(name="shop.cascade")
def cascade(depth: int) -> None:
    """Enqueue itself, until the depth is 0."""
    done.append(depth)
    if depth:
        cascade.delay(depth - 1)


@shared_task(name="shop.forever")
def forever() -> None:
    """Enqueue itself for ever."""
    forever.delay()


@shared_task(name="shop.clash")
def clash() -> None:
    """Break the transaction, if there is one."""
    User.objects.create(username="clash")
    User.objects.create(username="clash")


@shared_task(name="shop.atomic", atomic=True)
def atomic(fails: bool = False) -> None:
    """Work in a transaction of its own."""
    User.objects.create(username="atomic")
    if fails:
        raise ValueError("undone")


@shared_task(name="shop.committed")
def committed() -> None:
    """Do something after a commit."""
    with transaction.atomic():
        transaction.on_commit(lambda: done.append("committed"))
        done.append("working")


@shared_task(name="shop.shy")
def shy(how: str) -> None:
    """Leave no result."""
    raise Ignore if how == "ignore" else Reject("no", requeue=False)


@shared_task(name="shop.progress", bind=True)
def progress(self: Task[..., Any]) -> Any:
    """Report a state, and read it."""
    self.update_state(state="HALF", meta={"done": 1})
    return AsyncResult(self.request.id).info


@shared_task(name="shop.one_at_a_time", concurrency_key="till", max_concurrency=1)
def one_at_a_time(number: int) -> int:
    """Never run while another one does."""
    done.append(number)
    return number


@shared_task(name="shop.rare", rate_limit="1/h", global_rate_limit="1/h")
def rare(number: int) -> int:
    """Start once an hour."""
    done.append(number)
    return number


@shared_task(name="shop.once", unique=True)
def once(number: int) -> int:
    """Wait at most once for each number."""
    done.append(number)
    return number


def register(name: str) -> User:
    """What a view does: data, a task after the commit, another one by Django's own means."""
    with transaction.atomic():
        user = User.objects.create(username=name)
        greet.delay(name)
        transaction.on_commit(lambda: greet.apply_async((f"{name} again",), countdown=60))
    return user


def unknown() -> AsyncResult[Any]:
    """A call of what nobody here knows."""
    return app.send_task("shop.nobody", [1])
