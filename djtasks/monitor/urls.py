"""The addresses of the monitor.

What is named by people (queues) stands in the query, so that no name of a queue can look like the address of another
page, nor like `<task id>/done/` and `<task id>/status/` of `djtasks.urls`.
"""

from django.urls import path

from djtasks.monitor import (
    views_deeds,
    views_letters,
    views_limits,
    views_overview,
    views_queues,
    views_schedules,
    views_task,
    views_tasks,
    views_workers,
)

app_name = "djtasks_monitor"
urlpatterns = [
    path("", views_overview.overview, name="overview"),
    path("workers/", views_workers.workers, name="workers"),
    path("workers/<int:incarnation>/", views_workers.worker, name="worker"),
    path("workers/<int:incarnation>/tell/<slug:name>/", views_workers.order, name="order"),
    path("queues/", views_queues.overview, name="queues"),
    path("queues/pause/", views_queues.pause, name="pause"),
    path("queues/resume/", views_queues.resume, name="resume"),
    path("queues/purge/", views_queues.purge, name="purge"),
    path("tasks/", views_tasks.tasks, name="tasks"),
    path("tasks/<uuid:task_id>/", views_task.task, name="task"),
    path("tasks/<uuid:task_id>/do/<slug:name>/", views_deeds.deed, name="deed"),
    path("schedules/", views_schedules.schedules, name="schedules"),
    path("schedules/<int:pk>/do/<slug:name>/", views_schedules.act, name="schedule"),
    path("limits/", views_limits.limits, name="limits"),
    path("dead-letters/", views_letters.letters, name="letters"),
    path("dead-letters/requeue/", views_letters.requeue, name="letters-requeue"),
    path("dead-letters/delete/", views_letters.delete, name="letters-delete"),
]
