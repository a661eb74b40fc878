"""Settings of a site whose database connections come from Django's pool."""

from testproject.settings import *  # noqa: F403
from testproject.settings import DATABASES

#: Small enough to be shared, and quick to say when it is empty.
POOL = {"min_size": 1, "max_size": 4, "timeout": 10}
DATABASES["default"].setdefault("OPTIONS", {})["pool"] = POOL
