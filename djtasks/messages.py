"""The nouns that travel: between caller, tables, worker and child.

They are named tuples: immutable, slotted, and as cheap to make and to send through a socket as a tuple is. Times that
cross a process are seconds since the epoch; ids are text.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Message(NamedTuple):
    """One call of a task, as its caller writes it."""

    id: str
    name: str
    queue: str
    body: bytes
    content_type: str = "application/json"
    #: The compression of the body: "" for none, else gzip, bzip2, lzma, zstd or brotli.
    content_encoding: str = ""
    priority: int = 0
    #: Seconds since the epoch; the database's clock decides when it has come.
    eta: float | None = None
    #: Seconds from the database's clock at the INSERT; beats `eta`.
    countdown: float | None = None
    expires: float | None = None
    #: Seconds from the database's clock at the INSERT; beats `expires`.
    expires_in: float | None = None
    retries: int = 0
    #: JSON text of what is not a column (root_id, parent_id, time limits, the caller's own headers …), or None.
    headers: str | None = None
    #: At most one message of a key waits or runs at a time; `on_conflict` says what becomes of another.
    unique_key: str | None = None
    on_conflict: str = "return"
    #: At most so many messages of a key run at a time, as its limit's row says.
    limit_key: str | None = None
    #: The workflow: the id of the call that everything began with; None for one that is a beginning itself.
    root_id: str | None = None
    #: The id of the row of the task that it came of.
    parent_id: str | None = None
    #: The id of the group that it is of.
    group_id: str | None = None
    #: The chord that waits for its end, and the number of its part there.
    chord: str | None = None
    part: int | None = None
    #: The periodic task that it is a run of.
    periodic: int | None = None


class Chord(NamedTuple):
    """A body that waits for the parts of its header; its row is written with the messages of the header."""

    #: The id of the header's group.
    id: str
    #: How many parts there are, 1 at least.
    size: int
    #: The body's signature, frozen, as JSON.
    body: str
    #: The id of the task that the body will be.
    body_id: str | None = None
    root_id: str | None = None


class Fallen(NamedTuple):
    """A task that never runs, because what it stands behind has not succeeded: it ends as that did."""

    id: str
    name: str
    queue: str = ""
    root_id: str | None = None
    parent_id: str | None = None
    group_id: str | None = None
    #: The chord that waits for its end, and the number of its part there.
    chord: str | None = None
    part: int | None = None


class Claimed(NamedTuple):
    """A message in the hands of a worker. `claim` and the worker's incarnation are its fence."""

    claim: int
    id: str
    name: str
    queue: str
    priority: int
    retries: int
    #: How often a process was lost while it held this message.
    crashes: int
    #: Run again when the worker is lost (late acks), or end as WorkerLostError (early acks).
    rerun: bool
    body: bytes
    content_type: str
    content_encoding: str
    headers: str | None
    eta: float | None
    expires: float | None
    #: Seconds since the epoch.
    created: float
    limit_key: str | None = None
    #: It was put back into its queue by a rejection, a limit or a requeue.
    redelivered: bool = False
    #: The database found it past its expiry when it was claimed.
    expired: bool = False
    #: The database knows of revocations: look whether this is one before it begins.
    suspect: bool = False
    #: The chord that waits for its end, and the number of its part there.
    chord: str | None = None
    part: int | None = None


class Again(NamedTuple):
    """What changes when a message is to run again: a retry, or a rejection with requeue."""

    #: Seconds from the database's clock; None with `eta` None means at once.
    countdown: float | None = None
    eta: float | None = None
    #: Replaced when not None.
    body: bytes | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    queue: str | None = None
    priority: int | None = None
    expires: float | None = None
    headers: str | None = None
    #: True for a retry (counts one), False for a requeue.
    counts: bool = True
    #: Another task's name, when the message is to go on as a call of that one.
    name: str | None = None


class Outcome(NamedTuple):
    """How one run of a message ended, as its runner reports it."""

    claim: int
    id: str
    #: SUCCESS, FAILURE, REVOKED, RETRY, IGNORED or REJECTED.
    state: str
    #: The encoded return value or exception; None where nothing is stored.
    result: bytes | None = None
    content_type: str = "application/json"
    content_encoding: str = ""
    traceback: str | None = None
    #: Whether a result row is to be written.
    store: bool = True
    #: Whether the message's own payload is kept with the result (always for what did not succeed).
    keep: bool = False
    #: Seconds since the epoch.
    started: float = 0.0
    #: Seconds.
    runtime: float = 0.0
    #: Why it is a dead letter: "rejected", "failed", "crashed", "undecodable" or "unknown"; None for what is none.
    dead: str | None = None
    #: Messages (as tuples) that are written in the transaction of the finish.
    successors: tuple[tuple[Any, ...], ...] = ()
    #: Chords (as tuples) whose headers are among the successors, written with them.
    opened: tuple[tuple[Any, ...], ...] = ()
    #: What never runs now (`Fallen`, as tuples): each ends with this one's state, exception and traceback.
    fallen: tuple[tuple[Any, ...], ...] = ()
    #: Its place in its chord is one of its successors' from now on.
    replaced: bool = False
    #: The message is gone already, with everything that belongs to its end.
    finished: bool = False
    #: The exception's class and text, where an e-mail about the failure is wanted.
    reported: tuple[str, str] | None = None
    again: Again | None = None


class Progress(NamedTuple):
    """A state that is not an end: STARTED, or a custom one of `update_state`."""

    #: 0 when the task of `id` is not the one that runs here.
    claim: int
    id: str
    state: str
    meta: bytes | None
    content_type: str = "application/json"
    content_encoding: str = ""


class Stored(NamedTuple):
    """A row of the result table, or what a message row says while there is none."""

    id: str
    state: str
    result: bytes | None = None
    content_type: str = "application/json"
    content_encoding: str = ""
    traceback: str | None = None
    name: str | None = None
    queue: str | None = None
    worker: str | None = None
    retries: int | None = None
    body: bytes | None = None
    body_content_type: str | None = None
    body_content_encoding: str | None = None
    headers: str | None = None
    created: float | None = None
    started: float | None = None
    done: float | None = None
    #: Why it is a dead letter, as in `Outcome`; None for what is none.
    dead: str | None = None


#: Headers as a task's author sees them.
Headers = Mapping[str, Any]
