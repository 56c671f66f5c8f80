"""Reads histograms of times: what several processes measured, as one, and what is told of it."""

import math
from collections.abc import Iterable, Sequence

from app.signals import BOUNDS_S, Histogram, Times


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """Return all of these times as one histogram."""
    counts, total_s = [0] * (len(BOUNDS_S) + 1), 0.0
    for histogram in histograms:
        counts = [have + more for have, more in zip(counts, histogram.counts, strict=True)]
        total_s += histogram.total_s
    return Histogram(counts=tuple(counts), total_s=total_s)


def times(histogram: Histogram) -> Times:
    """Return what is told of a histogram: a mean that is exact, and percentiles that are at most a tenth off, between the
    first bound and the last. Without any times all is 0."""
    count = sum(histogram.counts)
    return Times(count=count, mean_s=histogram.total_s / count if count else 0.0,
                 p50_s=percentile_s(histogram.counts, 50), p95_s=percentile_s(histogram.counts, 95))


def percentile_s(counts: Sequence[int], percent: float) -> float:
    """Return the least time that so many percent of the times do not exceed: of its bucket the middle, as bounds grow by a
    factor, so that it is as far from the one as from the other. 0 where there are none."""
    rank, reached = math.ceil(sum(counts) * percent / 100), 0
    for index, count in enumerate(counts):
        reached += count
        if count and reached >= rank:
            return _middle_s(index)
    return 0.0


def _middle_s(bucket: int) -> float:
    if bucket == len(BOUNDS_S):
        return BOUNDS_S[-1]  # it is longer, and nobody knows how much
    return BOUNDS_S[0] / 2 if bucket == 0 else math.sqrt(BOUNDS_S[bucket - 1] * BOUNDS_S[bucket])
