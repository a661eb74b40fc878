"""Tasks with a request of their own, which notes what the worker's own process is told of them."""

import json
import os
import signal
import time
from typing import Any

from djtasks import shared_task
from djtasks.worker.receiving import Request


class Noted(Request):
    """Writes down what it is told."""

    def _note(self, event: str, **said: Any) -> None:
        line = json.dumps({"event": event, "id": self.task_id, "pid": os.getpid(), "args": self.args, **said})
        with open(os.environ["AUDIT"], "a") as file:
            file.write(line + "\n")

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        self._note("accepted", of=pid, late=time.time() - time_accepted)
        if self.args == ["raise in the hook"]:
            raise ValueError("a fault of the request's own")

    def on_timeout(self, soft: bool, timeout: float | None) -> None:
        self._note("timeout", soft=soft, timeout=timeout)

    def on_success(self, failed__retval__runtime: tuple[bool, str, float], **kwargs: Any) -> None:
        failed, value, runtime = failed__retval__runtime
        self._note("success", failed=failed, value=value, runtime=runtime)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        self._note("failure", error=type(exc_info.exception).__name__)

    def on_retry(self, exc_info: Any) -> None:
        self._note("retry", error=type(exc_info.exception).__name__)


@shared_task(bind=True, name="requested.run", Request=Noted, default_retry_delay=0)
def run(self: Any, how: str) -> str:
    if how == "retry" and self.request.retries == 0:
        raise self.retry(exc=OSError("again"))
    if how == "fail":
        raise KeyError(how)
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        time.sleep(600)
    return how


@shared_task(name="requested.by_name", Request="tests.worker_app.requested:Noted")
def by_name() -> None: ...
