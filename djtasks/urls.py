"""The addresses of `djtasks.views`; the names are those of django-celery-results."""

from django.urls import path

from djtasks import views

urlpatterns = [
    path("<str:task_id>/done/", views.is_task_successful, name="celery-is_task_successful"),
    path("<str:task_id>/status/", views.task_status, name="celery-task_status"),
    path("registered/", views.registered_tasks, name="celery-registered_tasks"),
]
