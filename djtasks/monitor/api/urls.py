"""The addresses of the API: flower's, without a slash at the end."""

from django.urls import path

from djtasks.monitor.api import calls, numbers, tasks, workers

app_name = "djtasks_api"
urlpatterns = [
    path("api/workers", workers.workers, name="workers"),
    path("api/workers/ask", workers.ask, name="workers-ask"),
    path("api/worker/shutdown/<path:name>", workers.shutdown, name="shutdown"),
    path("api/worker/pool/restart/<path:name>", workers.pool_restart, name="pool-restart"),
    path("api/worker/pool/grow/<path:name>", workers.pool_grow, name="pool-grow"),
    path("api/worker/pool/shrink/<path:name>", workers.pool_shrink, name="pool-shrink"),
    path("api/worker/pool/autoscale/<path:name>", workers.pool_autoscale, name="pool-autoscale"),
    path("api/worker/queue/add-consumer/<path:name>", workers.add_consumer, name="add-consumer"),
    path("api/worker/queue/cancel-consumer/<path:name>", workers.cancel_consumer, name="cancel-consumer"),
    path("api/tasks", tasks.tasks, name="tasks"),
    path("api/task/types", tasks.types, name="types"),
    path("api/queues/length", tasks.lengths, name="lengths"),
    path("api/task/info/<path:task_id>", tasks.info, name="info"),
    path("api/task/apply/<path:name>", calls.apply, name="apply"),
    path("api/task/async-apply/<path:name>", calls.async_apply, name="async-apply"),
    path("api/task/send-task/<path:name>", calls.send_task, name="send-task"),
    path("api/task/result/<path:task_id>", calls.result, name="result"),
    path("api/task/abort/<path:task_id>", calls.abort, name="abort"),
    path("api/task/timeout/<path:name>", workers.timeout, name="timeout"),
    path("api/task/rate-limit/<path:name>", workers.rate_limit, name="rate-limit"),
    path("api/task/revoke/<path:task_id>", calls.revoke, name="revoke"),
    path("metrics", numbers.page, name="metrics"),
    path("healthcheck", numbers.healthcheck, name="healthcheck"),
]
