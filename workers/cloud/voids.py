"""The tickets and runs that this worker knows to be void.

Remembered for a while, because MNS may give out an errand long after the word that its ticket is void; not for ever,
because home refuses what a void run reports anyway.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

_REMEMBERED_S = 3600.0
_MOST = 100_000  # some 20 MB


class Voids:
    """Remembers names. For any thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until_s: OrderedDict[str, float] = OrderedDict()  # the oldest first
        self._lock = threading.Lock()

    def add(self, names: Iterable[str]) -> None:
        """Remember that these are void."""
        now_s = self._clock()
        with self._lock:
            for name in names:
                self._until_s[name] = now_s + _REMEMBERED_S
                self._until_s.move_to_end(name)
            while self._until_s and (len(self._until_s) > _MOST or next(iter(self._until_s.values())) <= now_s):
                self._until_s.popitem(last=False)

    def __contains__(self, name: object) -> bool:
        with self._lock:
            until_s = self._until_s.get(str(name))
        return until_s is not None and until_s > self._clock()
