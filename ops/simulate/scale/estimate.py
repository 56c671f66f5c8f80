"""How much of the Redis primary so many servers take, from what each call was measured to cost. Sums, nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ops.simulate.scale.idle_stack import Idle
from ops.simulate.scale.redis_cost import BATCH, Cost

#: A server at work: a model worker with so many slots, all busy, with jobs that run so long; each is polled so often.
SLOTS, SERVICE_S, POLLS = 16, 2.0, 2

#: Calls a second in which a worker tells what its attempts say, at most (workers/speech.py gathers for 30 ms).
SAYS_S = 33

#: A primary that is busier than this answers late: what comes meets what is being done.
FULL_PERCENT = 70.0

_WORKERS, _BEAT_S = 5, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Of one processor, in percent, that one server takes of the primary."""

    jobs: float  # submits, takes, settles and polls
    words: float  # what its attempts say, when all are streamed
    own: float  # beats, reports and looks

    @property
    def polled(self) -> float:
        """Where callers poll, and nothing is streamed that a job's end does not say as well."""
        return self.jobs + self.own

    @property
    def streamed(self) -> float:
        """Where every answer is streamed."""
        return self.jobs + self.words + self.own


def share(costs: Sequence[Cost], idle: Idle | None) -> Share:
    """Return what one busy server takes."""
    us = {cost.name: cost.redis_us for cost in costs}
    job_us = us["submit"] + us["take"] + us["settle"] + POLLS * us["read"]
    beats_us = us[f"beat, {BATCH} leases"] / _BEAT_S
    own = _told(us) if idle is None else idle.redis_percent
    return Share(jobs=job_us * SLOTS / SERVICE_S / 1e4, words=us[f"say, {BATCH} attempts"] * SAYS_S / 1e4,
                 own=own + beats_us / 1e4)


def most_servers(percent: float) -> int:
    """Return how many servers that take so much each a primary carries."""
    return int(FULL_PERCENT / percent) if percent > 0 else 0


def _told(us: Mapping[str, float]) -> float:
    """What a server tells of itself, in percent; where no idle stack was looked at."""
    return (us["register"] * _WORKERS / _BEAT_S + us["gateway's report"] + us["server's signals"]) / 1e4
