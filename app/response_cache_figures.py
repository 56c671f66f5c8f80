"""What all processes count of the response cache. It is kept on the main Redis, so that it tells of a broken cache too.

Counted in the process, and written about once a second while there is something to write.

    answers:figures   hash, the counters
    answers:open      sorted set: a process and a server that it leaves alone, by the time until when (s)
    answers:index     sorted set: entries on the main Redis, each with its bytes, by when they end (ms)
    answers:bytes     of those entries
"""

import threading
import time
import uuid
from collections import Counter

import redis

INDEX, BYTES = "answers:index", "answers:bytes"
_FIGURES, _OPEN = "answers:figures", "answers:open"
_COUNTERS = ("hits", "misses", "stores", "errors", "bytes_stored")
_EVERY_S = 1.0


class Figures:
    """Counts. Safe to share between threads."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._process = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._left_alone: dict[str, float] = {}  # until when, by server; 0: no longer. What is not written yet
        self._timer: threading.Timer | None = None

    def count(self, **counts: int) -> None:
        """Add to counters; they are written soon."""
        with self._lock:
            self._counts.update(counts)
            self._write_soon()

    def left_alone(self, server: str, for_s: float) -> None:
        """A server is left alone by this process."""
        with self._lock:
            self._left_alone[server] = time.time() + for_s + _EVERY_S
            self._write_soon()

    def answers_again(self, server: str) -> None:
        """A server is not left alone any longer."""
        with self._lock:
            self._left_alone[server] = 0.0
            self._write_soon()

    def write(self) -> None:
        """Write what was counted since the last time. Raises redis-py's errors, and then it is written later."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            left_alone, self._left_alone = self._left_alone, {}
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for name, count in counts.items():
                    pipeline.hincrby(_FIGURES, name, count)
                for server, until_s in left_alone.items():
                    pipeline.zadd(_OPEN, {f"{self._process} {server}": until_s})
                if left_alone:
                    pipeline.zremrangebyscore(_OPEN, "-inf", time.time())
                pipeline.execute()
        except (redis.exceptions.RedisError, OSError):
            with self._lock:
                self._counts.update(counts)
                self._left_alone = left_alone | self._left_alone
            raise

    def read(self, *, held: bool) -> dict[str, float]:
        """Return the counters of all processes and how many servers are left alone; with `held`, the entries on the main
        Redis as well. Raises redis-py's errors."""
        self.write()
        now_s = time.time()
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(_FIGURES).zcount(_OPEN, now_s, "+inf").zcount(INDEX, now_s * 1000, "+inf").get(BYTES)
            counted, left_alone, entries, bytes_held = pipeline.execute()
        figures = {name: float(counted.get(name.encode(), 0)) for name in _COUNTERS}
        figures["breaker_open"] = float(left_alone)
        return {**figures, "entries": float(entries), "bytes_held": float(bytes_held or 0)} if held else figures

    def _write_soon(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(_EVERY_S, self._write_now)
            self._timer.daemon = True
            self._timer.start()

    def _write_now(self) -> None:
        with self._lock:
            self._timer = None
        try:
            self.write()
        except (redis.exceptions.RedisError, OSError):
            with self._lock:
                self._write_soon()
