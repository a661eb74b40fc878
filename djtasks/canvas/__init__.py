"""Calls as data: a signature is a task, its arguments and its options, to be sent now, later or by another task."""

from djtasks.canvas.signature import Signature, maybe_signature, signature, subtask

__all__ = ["Signature", "maybe_signature", "signature", "subtask"]
