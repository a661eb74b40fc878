"""Calls as data: a signature is a task, its arguments and its options, to be sent now, later or by another task."""

# Who sends workflows and who closes their chords say so when they are imported.
from djtasks.canvas import closing as _closing  # noqa: F401
from djtasks.canvas import send as _send  # noqa: F401
from djtasks.canvas.chain import _chain, chain
from djtasks.canvas.chord import _chord, chord
from djtasks.canvas.group import group
from djtasks.canvas.maps import chunks, xmap, xstarmap
from djtasks.canvas.signature import Signature, maybe_signature, signature, subtask
from djtasks.canvas.stamping import StampingVisitor

__all__ = [
    "Signature",
    "StampingVisitor",
    "_chain",
    "_chord",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
]
