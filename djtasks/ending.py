"""The one way to end messages: whoever ends one, for whatever reason, does it here.

A completer's batch, a rescue, an expiry, a purge, a revocation: each is outcomes of messages that are under somebody's
fence. What belongs to an end (the result, what follows it, the limits it frees) is written in the same transaction.
"""

from collections.abc import Sequence

from djtasks.db import finish
from djtasks.db.connections import Connection
from djtasks.messages import Outcome


def end(conn: Connection, owner: int, outcomes: Sequence[Outcome], worker: str | None) -> set[str]:
    """End the messages and store their results; return the ids whose fence still held.

    `owner` is the incarnation that holds them, `worker` the name of the node that ran them.
    """
    return finish.finish(conn, owner, outcomes, worker)
