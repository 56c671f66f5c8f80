"""Figures over the last `WINDOW_S` seconds, kept second by second."""

from bisect import bisect_left
from itertools import accumulate

from app.signals import BOUNDS_S, WINDOW_S, Times


class Counts:
    """Two counts in the window: all, and those that failed."""

    def __init__(self) -> None:
        self._all = [0] * WINDOW_S
        self._failed = [0] * WINDOW_S
        self._now = 0
        self.all = 0
        self.failed = 0

    def add(self, count: int = 1, failed: int = 0) -> None:
        """Count in the present second."""
        self._all[self._now] += count
        self._failed[self._now] += failed
        self.all += count
        self.failed += failed

    def tick(self) -> None:
        """The next second begins, and the oldest goes."""
        self._now = (self._now + 1) % WINDOW_S
        self.all -= self._all[self._now]
        self.failed -= self._failed[self._now]
        self._all[self._now] = self._failed[self._now] = 0


class Durations:
    """Times in the window, in the buckets in which gateways keep theirs."""

    def __init__(self) -> None:
        self._seconds: list[list[float]] = [[] for _ in range(WINDOW_S)]
        self._buckets = [0] * (len(BOUNDS_S) + 1)
        self._now = 0
        self._count = 0
        self._total_s = 0.0

    def add(self, time_s: float) -> None:
        """Note a time in the present second."""
        self._seconds[self._now].append(time_s)
        self._buckets[bisect_left(BOUNDS_S, time_s)] += 1
        self._count += 1
        self._total_s += time_s

    def tick(self) -> None:
        """The next second begins, and the oldest goes."""
        self._now = (self._now + 1) % WINDOW_S
        gone = self._seconds[self._now]
        if gone:
            for time_s in gone:
                self._buckets[bisect_left(BOUNDS_S, time_s)] -= 1
            self._count -= len(gone)
            self._total_s = self._total_s - sum(gone) if self._count else 0.0
            gone.clear()

    def times(self) -> Times:
        """Return what there is in the window."""
        if not self._count:
            return Times(count=0, mean_s=0.0, p50_s=0.0, p95_s=0.0)
        reached = list(accumulate(self._buckets))
        p50_s, p95_s = (BOUNDS_S[min(bisect_left(reached, part * self._count), len(BOUNDS_S) - 1)] for part in (0.5, 0.95))
        return Times(count=self._count, mean_s=self._total_s / self._count, p50_s=p50_s, p95_s=p95_s)
