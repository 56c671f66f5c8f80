"""What a transport has done so far, in numbers, for operators."""

import os
import threading
from collections import Counter

#: The names, each with what it counts.
NAMES = {
    "sent": "messages sent",
    "received": "messages received, each time",
    "deleted": "messages deleted after they were acknowledged or rejected",
    "released": "messages given back, to be received again",
    "extended": "leases made longer",
    "lost": "leases that ran out before their message was acknowledged",
    "dead": "messages put aside in a dead queue",
    "throttled": "requests refused because there were too many",
    "failed": "requests that failed for a time: no answer, or an error of the service",
}


class Figures:
    """Counts events. Threads may share it; a forked process goes on counting for itself."""

    def __init__(self) -> None:
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._counts = Counter(dict.fromkeys(NAMES, 0))

    def count(self, name: str, by: int = 1) -> None:
        """Add to a figure, which must be one of NAMES."""
        if name not in NAMES:
            raise KeyError(name)
        if self._pid != os.getpid():  # a fork may have copied the lock while another thread held it
            self._pid, self._lock = os.getpid(), threading.Lock()
        with self._lock:
            self._counts[name] += by

    def read(self) -> dict[str, int]:
        """Return all figures, by their names."""
        with self._lock:
            return dict(self._counts)
