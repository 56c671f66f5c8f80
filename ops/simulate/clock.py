"""Virtual time: what is due, in order."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Clock:
    """Runs what is due. Two things due at the same time run in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, int, Callable[[Any, int], None], Any, int]] = []
        self._asked = 0

    def at(self, time_s: float, act: Callable[[Any, int], None], what: Any, stamp: int = 0) -> None:
        """Call `act(what, stamp)` at that time; the stamp lets it see whether `what` has moved on since."""
        self._asked += 1
        heappush(self._due, (time_s, self._asked, act, what, stamp))

    def run_until(self, end_s: float) -> None:
        """Run all that is due before then; after it, that is the time."""
        due = self._due
        while due and due[0][0] < end_s:
            self.now_s, _, act, what, stamp = heappop(due)
            act(what, stamp)
        self.now_s = end_s
