"""How many attempts ended in the last minute, and how many of them failed by the engine's or our own fault."""

import threading
import time
from collections import deque
from collections.abc import Callable

from app.signals import WINDOW_S


class AttemptWindow:
    """Counts by second. Safe to share between threads; `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds: deque[list[int]] = deque()  # second, attempts, failed; oldest first

    def ended(self, *, failed: bool) -> None:
        """Count an attempt."""
        with self._lock:
            second = int(self._clock())
            if not self._seconds or self._seconds[-1][0] != second:
                self._seconds.append([second, 0, 0])
                self._forget()
            self._seconds[-1][1] += 1
            self._seconds[-1][2] += failed

    def counts(self) -> tuple[int, int]:
        """Return how many ended in the last `WINDOW_S`, and how many of these failed."""
        with self._lock:
            self._forget()
            return sum(each[1] for each in self._seconds), sum(each[2] for each in self._seconds)

    def _forget(self) -> None:
        oldest = int(self._clock()) - WINDOW_S
        while self._seconds and self._seconds[0][0] <= oldest:
            self._seconds.popleft()
