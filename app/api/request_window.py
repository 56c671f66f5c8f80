"""What this gateway process measured in the last minute: how long its requests took, how many failed, and who made them.

Two kinds of times. `calls` were answered without waiting for a job: until the answer. `answers` waited for one: from its
acceptance until its first word, not until its end, for a long answer is not a slow service: one that takes 20 s and begins
after 0.3 s kept its reader waiting for 0.3 s, also where he wanted it whole. One for which somebody has waited longer than
`PATIENCE_S` counts already, by how long it has been: else a service that has stopped answering would look as if nobody
asked.

The hot path adds to the second at hand; the thread that reports closes it, and keeps the sums of those that the window
covers. gevent switches at none of these steps; under plain threads a count may get lost.
"""

import math
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Collection

from app.job import Job
from app.signals import BOUNDS_S, WINDOW_S, GatewayReport, Histogram

#: Younger waits say nothing yet: most of them will have been short.
PATIENCE_S = 1.0

_BUCKETS = len(BOUNDS_S) + 1


class Tally:
    """What was counted in a while."""

    __slots__ = ("answers", "answers_s", "calls", "calls_s", "failed", "requests")

    def __init__(self) -> None:
        self.calls = [0] * _BUCKETS
        self.calls_s = 0.0
        self.answers = [0] * _BUCKETS
        self.answers_s = 0.0
        self.requests = 0
        self.failed = 0

    def request(self, took_s: float | None, *, failed: bool) -> None:
        """Count a request, and the time that it took, where that counts."""
        self.requests += 1
        if failed:
            self.failed += 1
        if took_s is not None:
            self.calls_s += took_s
            self.calls[bisect_left(BOUNDS_S, took_s)] += 1


class RequestWindow:
    """The requests of this process. `now` is the second at hand, `seen` the tenants that were seen in it."""

    def __init__(self) -> None:
        self.now = Tally()
        self.seen: set[str] = set()
        self._closed: deque[tuple[float, Tally]] = deque()
        self._calls = [0] * _BUCKETS  # sums over what is closed
        self._answers = [0] * _BUCKETS
        self._waits: dict[str, float] = {}  # job of which somebody waits for the first word -> since when (monotonic)

    def waits(self, job_id: str) -> None:
        """Somebody waits for a job that was accepted just now. Say `heard` or `forget` in the end."""
        self._waits[job_id] = time.monotonic()

    def heard(self, job_id: str, job: Job | None = None) -> None:
        """A job has said its first word, or ended, or nobody waits for it any more: count how long it was waited for, once.
        `job` is how it stands; without it, until now."""
        if (since_s := self._waits.get(job_id)) is not None:
            waited_s = time.monotonic() - since_s
            self.answered(job_id, first_word_s(job, waited_s) if job else waited_s)

    def answered(self, job_id: str, took_s: float) -> None:
        """Count how long it took until a job's first word, if that is still waited for."""
        if self._waits.pop(job_id, None) is not None:
            self.now.answers_s += took_s
            self.now.answers[bisect_left(BOUNDS_S, took_s)] += 1

    def forget(self, job_id: str) -> None:
        """Nobody waits for a job any more, and nobody knows whether it has said a word."""
        self._waits.pop(job_id, None)

    def unheard(self, now_s: float) -> dict[str, float]:
        """Return the jobs that have been waited for too long to say nothing of it, and for how long each."""
        return {job_id: now_s - since_s for job_id, since_s in list(self._waits.items()) if now_s - since_s > PATIENCE_S}

    def turn(self, now_s: float) -> None:
        """Close the second at hand, and forget those that have left the window. `now_s` is monotonic."""
        tally, self.now = self.now, Tally()
        self._closed.append((now_s, tally))
        self._add(tally, 1)
        while self._closed[0][0] <= now_s - WINDOW_S:
            self._add(self._closed.popleft()[1], -1)

    def take_seen(self) -> Collection[str]:
        """Return the tenants that were seen since the last call."""
        seen, self.seen = self.seen, set()
        return list(seen)

    def report(self, server: str, pid: int, at_ms: int, now_s: float) -> GatewayReport:
        """Return what the closed seconds of the window hold, and how long those wait that do."""
        tallies = [tally for _, tally in self._closed]
        answers, so_far_s = list(self._answers), list(self.unheard(now_s).values())
        for waited_s in so_far_s:
            answers[bisect_left(BOUNDS_S, waited_s)] += 1
        return GatewayReport(
            server=server, pid=pid, at_ms=at_ms,
            calls=Histogram(counts=tuple(self._calls), total_s=math.fsum(tally.calls_s for tally in tallies)),
            answers=Histogram(counts=tuple(answers),
                              total_s=math.fsum([*(tally.answers_s for tally in tallies), *so_far_s])),
            requests=sum(tally.requests for tally in tallies), requests_failed=sum(tally.failed for tally in tallies))

    def _add(self, tally: Tally, sign: int) -> None:
        self._calls = [have + sign * more for have, more in zip(self._calls, tally.calls, strict=True)]
        self._answers = [have + sign * more for have, more in zip(self._answers, tally.answers, strict=True)]


def first_word_s(job: Job, waited_s: float) -> float:
    """Return how long a job was waited for: until its first word, or its end, if it said nothing before, or until now,
    `waited_s` after its acceptance, where neither has come."""
    came_ms = job.first_ms or job.finished_ms
    return waited_s if came_ms is None else max(came_ms - job.created_ms, 0) / 1000
