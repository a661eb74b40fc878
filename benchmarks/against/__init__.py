"""The same work on others. `celery_app` and `celery_calls` are run by an interpreter that has Celery and no Django."""
