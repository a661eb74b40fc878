"""Keeping the limits of what a child runs, taking back what lies behind it for too long, and what its end means."""

import logging
import signal

from djtasks.worker.pools.base import STUCK_AFTER, Event, Job, Lost, Unstarted
from djtasks.worker.pools.handle import ChildHandle
from djtasks.worker.pools.slots import Slots
from djtasks.worker.pools.softlimit import SOFT_AGAIN

logger = logging.getLogger("djtasks.worker")

#: How long a run that is to end has for it, in seconds, before its process is killed.
END_WITHIN = 0.5


def keep(child: ChildHandle, slots: Slots, now: float, events: list[Event]) -> float:
    """Keep the limits of the running job; take back what has lain behind it for too long. When to look again."""
    if child.unsent:
        child.push()
    claim, since = slots.in_hand(child.slot)
    job = child.jobs.get(claim)
    if job is None:
        return now + 0.1
    ran = now - since
    wanted = [since + STUCK_AFTER if ran < STUCK_AFTER else now + STUCK_AFTER]
    if len(child.jobs) > 1 and ran >= STUCK_AFTER:
        events.extend(Unstarted(each) for each in child.take_back())
    if claim in child.ending:
        wanted.append(_end_run(child, claim, now))
    if job.hard is not None:
        if ran >= job.hard and child.pid:
            child.struck = (claim, job.hard)
            child.server.tell("strike", child.slot, child.pid, claim)
        wanted.append(since + job.hard if ran < job.hard else now + 0.1)
    if job.soft is not None and slots.heard_soft(child.slot) != claim:
        if ran >= job.soft and child.pid:
            _tell_soft(child, job, job.soft)
        wanted.append(since + job.soft if ran < job.soft else now + SOFT_AGAIN)
    if len(child.jobs) > 1:
        wanted.extend(now + limit for each in child.jobs.values() for limit in (each.soft, each.hard) if limit)
    return min(wanted)


def _end_run(child: ChildHandle, claim: int, now: float) -> float:
    """Signal the run, and kill its process when that has not helped; when to look again."""
    signum, sent = child.ending[claim]
    if sent is None:
        if not child.pid:
            return now + 0.02
        sent = now
        child.ending[claim] = signum, sent
        child.server.tell("strike", child.slot, child.pid, claim, signum)
    elif now >= sent + END_WITHIN:
        child.server.tell("strike", child.slot, child.pid, claim, int(signal.SIGKILL))
        return now + 0.1
    return sent + END_WITHIN


def _tell_soft(child: ChildHandle, job: Job, limit: float) -> None:
    """Have the limit raised in the child; it is asked again until it does, and logged once."""
    message = job.message
    child.server.tell("soft", child.slot, child.pid, message.claim, limit)
    if child.soft_told != message.claim:
        child.soft_told = message.claim
        logger.warning("Soft time limit (%ss) exceeded for %s[%s]", limit, message.name, message.id)


def losses(child: ChildHandle, slots: Slots, code: int) -> list[Event]:
    """What its end, with this exit code or minus this signal, means for the jobs that it had read."""
    found: list[Event] = []
    in_hand = slots.in_hand(child.slot).claim
    for claim, job in child.jobs.items():
        if code < 0 and claim != in_hand:
            # Read, and not begun: it was killed for another one, at that very moment.
            found.append(Unstarted(job))
            continue
        struck = child.struck
        signum, sent = child.ending.get(claim, (None, None))
        hard = struck[1] if struck and struck[0] == claim else None
        found.append(Lost(job, in_words(code), hard, None if sent is None else signum))
    return found


def in_words(code: int) -> str:
    """An exit code, or minus a signal."""
    return f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
