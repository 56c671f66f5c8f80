"""Tells those who wait for a job that it has ended.

The ledger announces each end on one Redis stream; each process that has somebody waiting reads it in one thread, and wakes
its own. Nothing depends on an announcement arriving: a waiter also looks by itself, and after a broken connection all look.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import redis

from app import logs
from app.errors import StoreUnavailable
from app.job import Job
from app.settings import Settings
from app.store import open_redis

_BLOCK_MS = 2000  # how long one read waits; the socket timeout is above it
_LOOK_AGAIN_S = 15.0  # how often a waiter looks by itself
_PAUSE_S = 0.5  # between two tries to reach Redis


class Settable(Protocol):
    """An event, or what does something else when it is told."""

    def set(self) -> None:
        """The job may have ended. Must return at once."""
        ...


Told = TypeVar("Told", bound=Settable)


class Announcements:
    """Wakes waiters of this process. The reading thread lives while there are any: to read of ends that nobody waits for
    would be a good part of a short job's cost."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._waiters: dict[str, list[Settable]] = defaultdict(list)
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = None
        self._client: redis.Redis | None = None
        self._stopping = threading.Event()

    @contextmanager
    def waiter(self, job_id: str) -> Iterator[threading.Event]:
        """An event that is set when the job may have ended. Enter before the job can end, or look once yourself."""
        with self.telling(job_id, threading.Event()) as event:
            yield event

    @contextmanager
    def telling(self, job_id: str, waiter: Told) -> Iterator[Told]:
        """Set `waiter` when the job may have ended."""
        with self._lock:
            self._waiters[job_id].append(waiter)
            if self._reader is None:
                self._reader = self._begin()
        try:
            yield waiter
        finally:
            with self._lock:
                self._waiters[job_id].remove(waiter)
                if not self._waiters[job_id]:
                    del self._waiters[job_id]

    def wait(self, event: threading.Event, look: Callable[[], Job], *, timeout_s: float, known: Job | None = None,
             stopped: Callable[[], bool] = lambda: False, every_s: float = _LOOK_AGAIN_S) -> Job:
        """Return the job when it has ended, or as it is after `timeout_s`, or once `stopped` says so (asked every
        `every_s`).

        Once there is a job, `known` or seen, an outage of Redis is waited out like the job itself; before, it raises
        `StoreUnavailable`.
        """
        end = time.monotonic() + timeout_s
        job, looked_at = known or look(), time.monotonic()
        while not job.state.terminal and (left_s := end - time.monotonic()) > 0 and not stopped():
            if event.wait(min(left_s, every_s)) or time.monotonic() - looked_at >= _LOOK_AGAIN_S:
                event.clear()
                job, looked_at = _look_again(look, job), time.monotonic()
        return job if job.state.terminal else _look_again(look, job)

    def stop(self) -> None:
        """End the reading thread."""
        self._stopping.set()

    def _begin(self) -> threading.Thread:
        """Note where the stream ends now, then read on from there in a thread."""
        if self._client is None:
            self._client = open_redis(self._settings, timeout_s=_BLOCK_MS / 1000 + self._settings.redis_timeout_s)
        thread = threading.Thread(target=self._read_on, args=(self._client, _end_of(self._client)), daemon=True,
                                  name="tandem-announcements")
        thread.start()
        return thread

    def _read_on(self, client: redis.Redis, last: bytes) -> None:
        while self._wanted():
            try:
                for _, entries in client.xread({"announcements": last}, block=_BLOCK_MS, count=1000) or []:
                    last = entries[-1][0]
                    self._wake(entry[b"id"].decode() for _, entry in entries)
            except (redis.exceptions.RedisError, OSError) as exc:
                logs.event("announcements_broken", why=str(exc))
                self._stopping.wait(_PAUSE_S)
                with self._lock:
                    everyone = list(self._waiters)
                self._wake(iter(everyone))

    def _wanted(self) -> bool:
        """Whether anybody waits; if not, the thread that asks is to end, and the next waiter begins another."""
        with self._lock:
            if self._waiters and not self._stopping.is_set():
                return True
            self._reader = None
            return False

    def _wake(self, job_ids: Iterator[str]) -> None:
        with self._lock:
            for job_id in job_ids:
                for event in self._waiters.get(job_id, ()):
                    event.set()


def _look_again(look: Callable[[], Job], job: Job) -> Job:
    """Return the job as it is now, or as it was when Redis cannot tell."""
    try:
        return look()
    except StoreUnavailable:
        return job


def _end_of(client: redis.Redis) -> bytes:
    try:
        newest = client.xrevrange("announcements", count=1)
    except (redis.exceptions.RedisError, OSError):
        return b"$"  # what is announced meanwhile is found by looking again
    return newest[0][0] if newest else b"0-0"
