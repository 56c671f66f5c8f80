"""Clocks for the messages' times: seconds since 1970, as `time.time` gives them."""

import threading
import time
from collections.abc import Callable

Clock = Callable[[], float]

#: The clock that nobody moves.
real: Clock = time.time


class HandClock:
    """A clock for tests: it goes with the time from `start_s` on, or stands still, and moves when it is told to."""

    def __init__(self, start_s: float | None = None, *, still: bool = False) -> None:
        self._lock = threading.Lock()
        self._from = time.monotonic()
        self._shown_s = time.time() if start_s is None else start_s
        self._still = still

    def __call__(self) -> float:
        """Return the time it shows."""
        with self._lock:
            return self._shown_s if self._still else self._shown_s + time.monotonic() - self._from

    def skip(self, seconds: float) -> None:
        """Put it forward."""
        with self._lock:
            self._shown_s += seconds
