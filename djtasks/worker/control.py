"""Commands of a project's own, where Celery has them: see `djtasks.panel`."""

from djtasks.panel import Panel, control_command, inspect_command

__all__ = ["Panel", "control_command", "inspect_command"]
