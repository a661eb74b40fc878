"""Messages, results and workers in Django's admin: to be looked at, not to be changed.

The lists read along indexes and never count (`djtasks.db.pages`), so that they are as quick with ten million rows as
with ten. Payload is read on the page of a single row only, within bounds, and shown as text.
"""

from djtasks.admin.messages import MessageAdmin
from djtasks.admin.results import ResultAdmin
from djtasks.admin.workers import WorkerAdmin

__all__ = ["MessageAdmin", "ResultAdmin", "WorkerAdmin"]
