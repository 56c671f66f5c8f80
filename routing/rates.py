"""How fast the services end jobs, and how long a job would wait that comes last now. Without I/O: what was counted, and the
time, is handed in.
"""

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from app.job import Service
from app.queues import Queue
from app.signals import QueueSignals

#: Over what time a rate is told. After a longer time without a count, as where another led meanwhile, or where the clock
#: went back, what was counted before says nothing of now.
RATE_S = 10.0

_ENDED_ENOUGH = 30  # jobs that ended in that time, for their rate to be more than chance


@dataclass(frozen=True, slots=True)
class _Count:
    """What was counted at one moment."""

    at_s: float
    served: Mapping[str, int]  # service -> jobs that ever ended at home
    waiting: frozenset[Service]  # services of which jobs waited then


class Rates:
    """How fast the services end jobs, over the last `RATE_S`. Nothing is told before something was noted."""

    def __init__(self) -> None:
        self._counts: deque[_Count] = deque()

    def note(self, now_s: float, served: Mapping[str, int], waiting: Collection[Service]) -> None:
        """Take what has been counted up to now, and of which services jobs wait."""
        if self._counts and not self._goes_on(now_s, served):
            self._counts.clear()
        self._counts.append(_Count(now_s, dict(served), frozenset(waiting)))
        while len(self._counts) > 2 and self._counts[1].at_s <= now_s - RATE_S:
            self._counts.popleft()

    def _goes_on(self, now_s: float, served: Mapping[str, int]) -> bool:
        """Whether this count follows the last one: in time, and in a Redis that was not emptied, which counts anew."""
        last = self._counts[-1]
        return (0 <= now_s - last.at_s <= RATE_S
                and all(served.get(name, 0) >= count for name, count in last.served.items()))

    def rate(self, service: Service) -> float | None:
        """Return the jobs that ended in a second; None before two counts."""
        over_s = self._counts[-1].at_s - self._counts[0].at_s
        return self._ended(service) / over_s if over_s > 0 else None

    def told(self, service: Service, line: Queue, *, slots: int, pace_s: float | None) -> QueueSignals:
        """Return what is told of a queue."""
        running = max(line.running - line.in_cloud, 0)
        return QueueSignals(
            waiting=line.waiting, reserved=line.woken, running=running, slots=slots, oldest_s=line.oldest_s,
            rate=self.rate(service), pace_s=pace_s,
            wait_s=wait_s(line.waiting, running=running, slots=slots, pace_s=pace_s, most_rate=self._busy_rate(service)))

    def _busy_rate(self, service: Service) -> float | None:
        """Return the rate of a service that never ran out of waiting jobs, so that it was as fast as it can be; None where
        that is not known."""
        busy = all(service in count.waiting for count in self._counts)
        return self.rate(service) if busy and self._ended(service) >= _ENDED_ENOUGH else None

    def _ended(self, service: Service) -> int:
        first, last = (self._counts[index].served.get(service.value, 0) for index in (0, -1))
        return last - first


def wait_s(waiting: int, *, running: int, slots: int, pace_s: float | None, most_rate: float | None) -> float | None:
    """Return how long a job would wait that comes last now; None where nothing says how fast jobs end.

    By Little's law it waits for as many ends as there are jobs before it without a slot, at `slots / pace_s` ends a second.
    Where fewer were seen to end with work at hand (`most_rate`), which is so for jobs that are shorter than what lies
    between two of them, it waits so long as that takes.
    """
    if not slots or not pace_s:
        return None
    rate = slots / pace_s
    ahead = max(waiting + running + 1 - slots, 0)
    return ahead / (min(rate, most_rate) if most_rate else rate)
