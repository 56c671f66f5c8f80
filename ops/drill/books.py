"""What a load's records say afterwards: how long jobs waited, what went to the cloud and what that cost, and whether each
was recorded once."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.job import Job, Route, State
from app.routing_rules import Rules
from app.topology import Topology
from ops.drill.scene import Scene
from ops.simulate import record
from ops.simulate.load import Arrival
from ops.simulate.prediction import Prediction, predict

_MINUTE_S = 60.0
_WINDOW_S, _MOST = 10.0, 0.95


@dataclass(frozen=True, slots=True)
class Books:
    """The records of a load's jobs. `sent_s` are the times at which each was sent to the cloud (Unix seconds); `began_s` is
    when the load did."""

    jobs: Sequence[Job]
    moves: Mapping[str, Sequence[Mapping[str, Any]]]
    began_s: float

    @classmethod
    def of(cls, scene: Scene, ids: Sequence[str], began_s: float) -> "Books":
        """Wait until all jobs have ended, and read them."""
        jobs = scene.ended(list(ids))
        return cls(jobs, {job.id: scene.moves(job.id) for job in jobs}, began_s)

    @property
    def lost(self) -> int:
        """Jobs that did not succeed."""
        return sum(job.state is not State.SUCCEEDED for job in self.jobs)

    @property
    def doubled(self) -> int:
        """Jobs whose end was recorded more than once, or not at all."""
        return sum(job.recorded != 1 for job in self.jobs)

    @property
    def in_cloud(self) -> int:
        """Jobs that were run in the cloud."""
        return sum(job.route is Route.CLOUD for job in self.jobs)

    def waits_s(self) -> list[float]:
        """How long each job waited before the attempt that ended it began."""
        return [(job.started_ms - job.created_ms) / 1000 for job in self.jobs if job.started_ms]

    def recovered_s(self, target_s: float) -> float | None:
        """Seconds from the load's begin until jobs waited no longer than this, to the end: until the last ten seconds are
        over of which more than a twentieth of the jobs that began in them had waited longer. None where there are none."""
        waits_s: dict[int, list[float]] = {}
        for job in self.jobs:
            if job.started_ms:
                window = int((job.started_ms / 1000 - self.began_s) // _WINDOW_S)
                waits_s.setdefault(window, []).append((job.started_ms - job.created_ms) / 1000)
        late = [window for window, some in waits_s.items() if percentile(some, _MOST) > target_s]
        return (max(late) + 1) * _WINDOW_S if late else None

    def peak_share(self) -> float:
        """The largest share of jobs that began in the cloud, of those that began within ten seconds; as the simulator has
        it."""
        return record.peak_share((job.started_ms / 1000 - self.began_s, job.route is Route.CLOUD)
                                 for job in self.jobs if job.started_ms)

    def predicted(self, plan: Topology, rules: Rules) -> Prediction:
        """What the simulator says of these arrivals, with the run times that they had on average where they ran."""
        ran_s = [(job.finished_ms - job.started_ms) / 1000 for job in self.jobs if job.finished_ms and job.started_ms]
        mean_s = sum(ran_s) / len(ran_s)
        return predict([Arrival(job.created_ms / 1000 - self.began_s, mean_s, float(tokens(job))) for job in self.jobs],
                       plan, rules, cloud_workers=1)

    def cost(self, rules: Rules) -> float:
        """What the jobs that ran in the cloud cost."""
        return sum(price(job, rules) for job in self.jobs if job.route is Route.CLOUD)

    def sent_s(self) -> list[float]:
        """When jobs were sent to the cloud, in order."""
        return sorted(move["at_ms"] / 1000 for moves in self.moves.values() for move in moves if move["move"] == "sent")

    def most_in_a_minute(self) -> int:
        """How many were sent in any minute at most."""
        sent_s = self.sent_s()
        return max((sum(at_s <= other < at_s + _MINUTE_S for other in sent_s) for at_s in sent_s), default=0)

    def sent_twice(self) -> int:
        """Jobs that were sent while what was sent before was still valid out there: two live tickets."""
        twice = 0
        for moves in self.moves.values():
            out = False
            for move in moves:
                twice += out and move["move"] == "sent"
                out = move["move"] in ("sent", "begun")
        return twice


def price(job: Job, rules: Rules) -> float:
    """What a job that ran in the cloud cost."""
    return rules.cloud_price_per_job + rules.cloud_price_per_1000_tokens * tokens(job) / 1000


def tokens(job: Job) -> int:
    """Return how many tokens a job used, prompt and answer."""
    usage = json.loads(job.usage or b"{}")
    return int(usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the lowest value that this share of them is not above (nearest rank); 0 of none."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else 0.0
