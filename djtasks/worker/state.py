"""What one worker holds and has counted: an object, owned by the consumer's thread."""

from collections import Counter

from djtasks.messages import Claimed
from djtasks.worker.counting import Runs
from djtasks.worker.events import Events


class State:
    """The messages in a worker's hands, by claim number, and its counters."""

    def __init__(self, incarnation: int) -> None:
        self.incarnation = incarnation
        #: The incarnation whose row has been written; only that one's heart beats.
        self.registered = 0
        #: The last claim number given out; never reused within an incarnation.
        self.last_claim = 0
        #: Claimed, and not yet ended, released or parked in the database.
        self.held: dict[int, Claimed] = {}
        #: Names this worker does not know and leaves to others.
        self.unknown: set[str] = set()
        #: Ended tasks by state, and `refused`, `released`, `lost`.
        self.counters: Counter[str] = Counter()
        #: What has begun here, or was about to, by the name of the task.
        self.total: Counter[str] = Counter()
        #: How long runs took.
        self.runs = Runs()
        #: What is told of all this, while somebody wants to know.
        self.events = Events()

    def take(self, messages: list[Claimed]) -> None:
        """These have been claimed."""
        self.held.update((message.claim, message) for message in messages)
        self.runs.took(messages)

    def reincarnate(self, incarnation: int) -> int:
        """Start anew under another incarnation; returns how many messages were dropped."""
        dropped = len(self.held)
        self.held.clear()
        self.incarnation = incarnation
        return dropped
