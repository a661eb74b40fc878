"""The task that calls an errback whose failed task's own process could not: it is lost, or was killed."""

import json
from typing import Any

from djtasks.canvas.links import ERRBACK
from djtasks.canvas.signature import maybe_signature
from djtasks.current import Context
from djtasks.decorators import shared_task
from djtasks.serializers.exceptions import exception_from_data


@shared_task(name=ERRBACK, ignore_result=True)
def call_errback(errback: dict[str, Any], request: dict[str, Any], error: str, traceback: str | None) -> Any:
    """Call it with the request, the exception and the traceback of the task that has failed."""
    return maybe_signature(errback)(Context(request), exception_from_data(json.loads(error)), traceback)
