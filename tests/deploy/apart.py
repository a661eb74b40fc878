"""Settings of a site whose tasks are in a database of their own."""

from testproject.settings import *  # noqa: F403
from testproject.settings import DATABASES, DJTASKS, env

DATABASES["tasks"] = env.db("TASKS_DATABASE_URL")
DATABASE_ROUTERS = ["djtasks.router.TaskRouter"]
DJTASKS["DATABASE"] = "tasks"
