"""The clock that tells a worker how long ago something was, however long the machine has slept in between.

`time.monotonic` stands still while a machine is suspended; other workers, elsewhere, do not.
"""

import sys
import time

from djtasks.conf import settings

#: A claim is good for this share of WORKER_DEAD_AFTER: what has not begun by then does not begin here, because others
#: may have declared this worker dead meanwhile.
STALE_SHARE = 0.5

if sys.platform == "linux":

    def since_boot() -> float:
        """Seconds on a clock that all processes of this machine share, and that goes on while it sleeps."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:
    since_boot = time.monotonic


def stale(asked: float) -> bool:
    """Whether a claim that was asked for at that time (`since_boot`) is too old to begin with."""
    return since_boot() - asked > STALE_SHARE * settings.WORKER_DEAD_AFTER
