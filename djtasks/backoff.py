"""How long to wait before the next try."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

from djtasks.conf.kinds import RETRY_POLICY


def exponential(retries: int, factor: float = 1, maximum: float = 600, jitter: bool = True) -> int:
    """Whole seconds to wait after `retries` retries: factor * 2**retries, `maximum` at most, 0 at least.

    Celery's arithmetic: the factor is cut to a whole number, 1 at least. With `jitter` it is a random whole number
    from 0 to that, so that tasks which failed together do not come back together (full jitter: AWS Architecture Blog,
    "Exponential Backoff And Jitter", 2015).
    """
    ceiling = max(0, int(maximum))
    start = max(1, int(factor))
    # 2**retries is not computed where it must be above the ceiling: retries may be any number.
    delay = ceiling if retries >= ceiling.bit_length() else min(ceiling, start << max(0, retries))
    return random.randint(0, delay) if jitter else delay


def intervals(policy: Mapping[str, Any]) -> Iterator[float]:
    """Seconds to wait before each further try, by a policy as TASK_PUBLISH_RETRY_POLICY; ends when it says to give up.

    The keys max_retries (None: for ever), interval_start, interval_step and interval_max may be left out.
    """
    settled = {**RETRY_POLICY, **policy}
    tries, delay = settled["max_retries"], float(settled["interval_start"] or 0)
    step, longest = float(settled["interval_step"] or 0), float(settled["interval_max"] or 0)
    while tries is None or tries > 0:
        yield min(delay, longest)
        delay = min(delay + step, longest)
        tries = None if tries is None else tries - 1
