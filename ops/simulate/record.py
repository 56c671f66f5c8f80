"""What a run leaves: a row for each second, the policy's changes, and the figures that are asked for."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from app.routing_records import Change

#: Changes of the policy that count as transitions; steps of the share, and what follows from these, are counted apart.
TRANSITIONS = ("level", "server", "breaker", "shed", "scale")

#: The window of `peak_share`, and how many jobs must have begun in it.
SHARE_WINDOW_S, SHARE_LEAST_JOBS = 10, 20


class Second(NamedTuple):
    """How it stood at the end of a second. Money is in the currency of the prices."""

    arrivals: int
    accepted: int  # since the beginning, as `ended`
    ended: int
    shed: int  # in this second
    waiting: int  # at home
    running: int  # at home
    elsewhere: int  # lost their worker, or are delayed
    sent: int  # to the cloud and not begun there
    cloud: int  # live in the cloud, `sent` among them
    begun: int  # in this second
    begun_cloud: int
    oldest_s: float
    users: int | None
    cpu: tuple[float, ...]  # by server
    open: int  # servers that are up and take jobs
    slots: int  # of all servers that are up
    free: int  # slots of servers that take jobs
    jobs_minute: int  # sent
    money_hour: float
    money: float  # since the beginning
    share: float  # the policy's
    sending: int  # jobs sent in this second
    cloud_workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A simulated run."""

    name: str
    servers: tuple[str, ...]
    seconds: Sequence[Second]
    changes: Sequence[tuple[float, Change]]  # when, from the beginning
    accepted: int
    succeeded: int
    failed: int
    live: int  # at the end
    shed: Mapping[str, int]  # by lane
    unreachable: int  # jobs that came while no server was up
    waits_s: Sequence[float]  # from acceptance to the beginning, in order
    responses_s: Sequence[float]  # from acceptance to the end of those that succeeded, in order
    begun: Sequence[tuple[float, bool]]  # of each ended job: when its last attempt began, and whether in the cloud
    posts: int  # jobs that MNS took
    cpu_s: float  # of one processor, that the simulation took

    @property
    def money(self) -> float:
        """Spent in the cloud."""
        return self.seconds[-1].money if self.seconds else 0.0

    @property
    def in_cloud(self) -> int:
        """Jobs whose last attempt was in the cloud."""
        return sum(1 for _, cloud in self.begun if cloud)

    @property
    def peak_share(self) -> float:
        """See `peak_share`."""
        return peak_share(self.begun)

    @property
    def speed_up(self) -> float:
        """How many times faster than real it ran, with a processor of its own."""
        return len(self.seconds) / self.cpu_s if self.cpu_s else 0.0

    def transitions(self) -> Counter[str]:
        """Count the policy's transitions by kind."""
        return Counter(change.what for _, change in self.changes if change.what in TRANSITIONS)


def percentile(ordered: Sequence[float], part: float) -> float:
    """Return the value below which that part of them lies; 0 where there are none."""
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def peak_share(begun: Iterable[tuple[float, bool]]) -> float:
    """Return the largest share of jobs that began in the cloud, among those that began within ten seconds.

    `begun` has for each ended job when its last attempt began, in seconds from the beginning of the run, and whether in the
    cloud: in the ledger's records, (started_ms - begin_ms) / 1000 and route == "cloud". The windows begin at each whole
    second from 0: [0, 10), [1, 11) ... One in which fewer than `SHARE_LEAST_JOBS` jobs began does not count; 0 where none
    does.
    """
    home: Counter[int] = Counter()
    cloud: Counter[int] = Counter()
    for started_s, in_cloud in begun:
        (cloud if in_cloud else home)[int(started_s // 1)] += 1
    last = max([*home, *cloud], default=-1)
    peak = 0.0
    for first in range(last + 1):
        window = range(first, first + SHARE_WINDOW_S)
        away = sum(cloud[second] for second in window)
        jobs = away + sum(home[second] for second in window)
        if jobs >= SHARE_LEAST_JOBS:
            peak = max(peak, away / jobs)
    return peak
