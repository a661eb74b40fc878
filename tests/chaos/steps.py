"""Claims and finishes one after another, in this process, as a worker's consumer makes them."""

import os
import time
from collections.abc import Sequence

from djtasks.db import claims, finish, workers
from djtasks.db.connections import open_private
from djtasks.db.workers import Registration
from djtasks.messages import Outcome
from djtasks.worker.identity import new_incarnation
from djtasks.worker.lanes import Lanes

#: How many messages a claim takes: about what a worker's children want at a time.
SIZE = 50


def claim_times(queues: Sequence[str], count: int) -> list[float]:
    """How long so many claims took, each in seconds; what they took is finished."""
    times = []
    owner, lanes, first = new_incarnation(), Lanes(queues), 1
    with open_private("growth") as conn:
        workers.register(
            conn, Registration(owner, "growth@here", "", os.getpid(), "", "", "", None, "solo", 1, list(queues))
        )
        for _ in range(count):
            began = time.perf_counter()
            found, positions = claims.claim(conn, owner, first, lanes.scans(), SIZE)
            times.append(time.perf_counter() - began)
            assert found, "there is nothing left to claim"
            lanes.mark(found, positions)
            first += SIZE
            finish.finish(conn, owner, [Outcome(each.claim, each.id, "SUCCESS", b"null") for each in found], "growth")
        workers.remove(conn, owner)
    return times
