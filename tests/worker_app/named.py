"""An app that is only the current one where a worker is told so."""

from djtasks import Celery

app = Celery("named", set_as_current=False)
