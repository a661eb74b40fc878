"""Tasks that end in every way, and whose handlers write down that they were called."""

import os
import signal
import time
from typing import Any, NoReturn

from djtasks import Task, current_task, shared_task
from tests.worker_app.tasks import FOREVER, note


class Expected(Exception):
    """Is no surprise."""


class Telling(Task[..., Any]):
    """Writes down what becomes of it, and where."""

    abstract = True

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note("on_failure", exc=repr(exc), args=args, kwargs=kwargs, einfo=str(einfo), request=current_task.request.id)

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note("after_return", status=str(status), args=args)


@shared_task(base=Telling)
def add(x: int, y: int = 0) -> int:
    """Succeed."""
    return x + y


@shared_task(base=Telling, time_limit=0.3)
def overrun(x: int) -> None:
    """Go on for longer than allowed."""
    time.sleep(FOREVER)


@shared_task(base=Telling)
def die(x: int) -> None:
    """Lose the process."""
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(base=Telling)
def break_down(x: int) -> NoReturn:
    """Fail."""
    raise ValueError(x)


@shared_task(error_emails=True, sensitive=("card",))
def charge(user: str, card: str) -> NoReturn:
    """Fail, and say what nobody is to read."""
    raise ValueError(f"{card} of {user} is refused")


@shared_task(error_emails=True, throws=(Expected,))
def expected() -> NoReturn:
    """Fail as expected."""
    raise Expected


@shared_task(error_emails=True, ignore_result=True, time_limit=0.3)
def overrun_unheard() -> None:
    """Go on for longer than allowed; nobody wants a result."""
    time.sleep(FOREVER)


@shared_task(error_emails=False)
def quiet() -> NoReturn:
    """Fail without an e-mail."""
    raise ValueError("quiet")


@shared_task(bind=True, base=Telling, max_retries=1)
def retried(self: Any) -> str:
    """Succeed the second time."""
    if not self.request.retries:
        raise self.retry(countdown=0)
    return str(self.request.headers)
