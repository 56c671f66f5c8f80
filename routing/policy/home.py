"""What home can do with the model jobs that wait, by Little's law.

Of `slots`, each busy for `pace_s` a job, `slots / pace_s` jobs end in a second. So those that begin within the target wait
are as many as there are free slots now, and `slots / pace_s * target_wait_s` more. What waits beyond three fifths of that
is the excess: jobs come between two rounds, slots become free together, and no pace is exact.
Where no pace or no slot is known, no wait can be foretold, and what has waited too long already says it: then all beyond
the free slots is the excess. So it is, too, while home is pressed: every server is saturated, and what cannot begin at once
is better off elsewhere.
"""

from app.signals import QueueSignals
from routing.policy.round import MANY, Round

#: What home is left with is aimed at this part of the target wait. Measured with jobs of 1.5 s, six a second, and a target
#: of 5 s: aimed at four fifths, the last ones waited up to 5.5 s for as long as the load lasted, a round longer than
#: foretold and until the slots, which had begun together, were free together.
AIMED = 0.6

#: Home takes back what it can begin in this part of the target wait, so that what comes home does not leave again.
_RECALLED = 0.4


def excess(this: Round, *, pressed: bool, away: bool) -> int | None:
    """Return how many waiting jobs would wait too long at home; all, where they are left to the cloud. None: not known."""
    queue = this.queue
    if queue is None:
        return None
    if away:
        return queue.waiting
    served = 0.0 if pressed else _served(queue, this.rules.target_wait_s * AIMED)
    if served is None:
        return max(0, queue.waiting - _free(queue)) if queue.oldest_s > this.rules.target_wait_s else 0
    return max(0, queue.waiting - _free(queue) - int(served))


def spare(this: Round, *, pressed: bool) -> int:
    """Return how many more jobs than those that wait home could begin soon."""
    queue = this.queue
    if queue is None:
        return 0
    served = 0.0 if pressed else _served(queue, this.rules.target_wait_s * _RECALLED)
    return max(0, _free(queue) + int(served or 0) - queue.waiting)


def rate(slots: int, pace_s: float) -> float:
    """Return how many jobs end in a second with all slots busy; `pace_s` is above 0."""
    return min(slots / pace_s, MANY)


def _free(queue: QueueSignals) -> int:
    return max(0, queue.slots - queue.running)


def _served(queue: QueueSignals, within_s: float) -> float | None:
    """Return how many jobs end within that time, with all slots busy; None where that cannot be known."""
    if queue.pace_s is None or queue.pace_s <= 0 or queue.slots <= 0:
        return None
    return rate(queue.slots, queue.pace_s) * within_s
