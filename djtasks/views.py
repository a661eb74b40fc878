"""What a page asks about a task, as JSON: `path("tasks/", include("djtasks.urls"))`.

The addresses and answers are those of django-celery-results. Who asks needs the permission to view results, and one
more to see what a task left. Whoever wants other rules (the user who has called a task, say) writes a view around
`task_info`.
"""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from djtasks.exceptions import DjtasksError, safe_repr
from djtasks.ids import as_task_id
from djtasks.registry import tasks
from djtasks.result import AsyncResult
from djtasks.serializers import dumps
from djtasks.states import EXCEPTION_STATES


def task_info(task_id: str, payload: bool = True) -> dict[str, Any]:
    """The id and status of a task; with `payload` also its result, or its exception's class, text and traceback."""
    result: AsyncResult[Any] = AsyncResult(task_id)
    found: dict[str, Any] = {"id": task_id, "status": result.state}
    if payload:
        try:
            value = result.result
        except DjtasksError as error:
            value = f"cannot be read: {error}"
        found["result"] = value
        if found["status"] in EXCEPTION_STATES and isinstance(value, BaseException):
            cls = type(value)
            found |= {"result": safe_repr(value), "exc": f"{cls.__module__}.{cls.__qualname__}"}
            found["traceback"] = result.traceback
    return found


@never_cache
@require_safe
def task_status(request: HttpRequest, task_id: str) -> HttpResponse:
    """`{"task": {"id": …, "status": …, "result": …}}`."""
    if (refused := _refused(request, task_id)) is not None:
        return refused
    return _json({"task": task_info(task_id, payload=_may(request, "view_payload_result"))})


@never_cache
@require_safe
def is_task_successful(request: HttpRequest, task_id: str) -> HttpResponse:
    """`{"task": {"id": …, "executed": true}}`: whether it has ended well."""
    if (refused := _refused(request, task_id)) is not None:
        return refused
    return _json({"task": {"id": task_id, "executed": AsyncResult[Any](task_id).successful()}})


@never_cache
@require_safe
def registered_tasks(request: HttpRequest) -> HttpResponse:
    """`{"regular": […], "periodic": []}`: the names of the tasks that are known here."""
    if (refused := _refused(request)) is not None:
        return refused
    return _json({"regular": sorted(tasks), "periodic": []})


def _may(request: HttpRequest, codename: str) -> bool:
    user: Any = getattr(request, "user", None)
    return user is not None and bool(user.has_perm(f"djtasks.{codename}"))


def _refused(request: HttpRequest, task_id: str = "-") -> HttpResponse | None:
    """What is answered to who may not ask, and to what is no id."""
    if not _may(request, "view_result"):
        return _json({"error": "this needs the permission djtasks.view_result"}, 403)
    try:
        as_task_id(task_id)
    except (TypeError, ValueError) as error:
        return _json({"error": str(error)}, 404)
    return None


def _json(answer: dict[str, Any], status: int = 200) -> HttpResponse:
    try:
        body = dumps(answer, "json")[1]
    except DjtasksError:
        answer["task"]["result"] = safe_repr(answer["task"].get("result"))
        body = dumps(answer, "json")[1]
    return HttpResponse(body, content_type="application/json", status=status)
