"""Modelled jobs, and the line in which they wait: the ledger's waiting set, with its order.

The order is that of `app/ledger/lua/prelude/order.lua` for a single tenant: lanes share the workers ten to one. That
tenants share them too is not modelled, so waiting times are those of all callers together.
"""

from collections import deque
from enum import Enum, auto

from app.job import Lane

#: The cost of a job by lane (order.lua).
LANE_COST = {Lane.INTERACTIVE: 1, Lane.STANDARD: 10, Lane.BATCH: 100}


class Where(Enum):
    """Where a live job is."""

    WAITING = auto()
    DELAYED = auto()  # before its next attempt
    HOME = auto()  # runs at home
    ORPHANED = auto()  # its worker is gone, and its lease not over
    SENT = auto()  # to the cloud, and not begun there
    CLOUD = auto()  # runs in the cloud
    ENDED = auto()


class Job:
    """A job. `stamp` changes with each move, so what was to happen before it does not any more."""

    __slots__ = ("accepted_s", "begun_s", "cost", "errors", "first_s", "gateway", "lane", "lost", "order", "run_s",
                 "sent_s", "stamp", "there_s", "tokens", "where", "worst_tokens")

    def __init__(self, *, accepted_s: float, run_s: float, tokens: float, worst_tokens: float, lane: Lane,
                 gateway: int) -> None:
        self.accepted_s = accepted_s
        self.run_s = run_s  # at home
        self.tokens = tokens
        self.worst_tokens = worst_tokens
        self.lane = lane
        self.gateway = gateway  # number of the server whose gateway took it
        self.where = Where.WAITING
        self.stamp = 0
        self.order = 0.0
        self.errors = 0
        self.lost = 0
        self.first_s: float | None = None  # when its first attempt began
        self.begun_s = 0.0  # when its last attempt began
        self.sent_s = 0.0
        self.there_s = 0.0  # when MNS has it and a worker could
        self.cost: list[float] | None = None  # what it takes of the caps (spend.py)

    def moves(self, where: Where) -> int:
        """It is somewhere else now; return its new stamp."""
        self.where = where
        self.stamp += 1
        return self.stamp


class Line:
    """Jobs that wait at home."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, deque[Job]] = {lane: deque() for lane in Lane}
        self._last = dict.fromkeys(Lane, 0.0)
        self._time = 0.0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def join(self, job: Job) -> None:
        """A job waits for the first time."""
        job.order = self._pay(job.lane)
        self._lanes[job.lane].append(job)
        self._length += 1

    def pass_by(self, job: Job) -> None:
        """A job begins that need not wait, as nobody does."""
        self._time = job.order = self._pay(job.lane)

    def join_again(self, job: Job, *, paid_back: bool = False) -> None:
        """A job waits again, at the place that it had; `paid_back`: its flow got back what it paid, and pays again."""
        lane = self._lanes[job.lane]
        if paid_back:
            self._pay(job.lane)
        if not lane or job.order >= lane[-1].order:
            lane.append(job)
        elif job.order <= lane[0].order:
            lane.appendleft(job)
        else:
            lane.insert(next(place for place, other in enumerate(lane) if other.order > job.order), job)
        self._length += 1

    def take_first(self) -> Job:
        """Take the job whose turn it is. There must be one."""
        job = min((lane for lane in self._lanes.values() if lane), key=_first_order).popleft()
        self._length -= 1
        self._time = max(self._time, job.order)
        return job

    def take_last(self) -> Job:
        """Take the job that would wait longest, for the cloud. There must be one."""
        job = max((lane for lane in self._lanes.values() if lane), key=_last_order).pop()
        self._length -= 1
        if job.first_s is None:
            self._last[job.lane] -= LANE_COST[job.lane]
        return job

    def oldest_s(self, now_s: float) -> float:
        """How long the oldest has waited; each lane is nearly by age."""
        if not self._length:
            return 0.0
        return max(now_s - lane[0].accepted_s for lane in self._lanes.values() if lane)

    def _pay(self, lane: Lane) -> float:
        """Return the place after the last of a lane."""
        self._last[lane] = paid = max(self._last[lane], self._time) + LANE_COST[lane]
        return paid


def _first_order(lane: deque[Job]) -> float:
    return lane[0].order


def _last_order(lane: deque[Job]) -> float:
    return lane[-1].order
