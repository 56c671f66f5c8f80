"""Hears what happens to tenants' jobs while it happens, for those who follow a tenant's events.

The ledger writes the events on one Redis stream a tenant, `events:<tenant>`. Each process that has a follower reads all the
streams that are followed there in one thread, over one connection, and hands the entries out. A listener that does not take
them is told that it has fallen behind, and reads the stream by itself (`app.tenant_following`).
"""

import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import redis

from app import logs
from app.settings import Settings
from app.store import open_redis

_BLOCK_MS = 500  # how long a read waits, and so how late a stream that is newly followed may be heard
_AT_A_TIME = 500  # entries of a stream
_MOST_KEPT = 1000  # entries for a listener that does not take them
_PAUSE_S = 0.5  # after Redis failed

_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")
_LARGEST = 2**64 - 1

Fields = dict[bytes, bytes]


class StreamId(NamedTuple):
    """The id of an entry of a Redis stream, in its order: when it was written (Unix ms), and a number."""

    ms: int
    number: int

    @classmethod
    def parse(cls, text: str) -> "StreamId":
        """Return what `text` says. Raises `ValueError`."""
        found = _ID.fullmatch(text)
        if not found or max(int(part) for part in found.groups()) > _LARGEST:
            raise ValueError(f"'{text[:60]}' is no id of an event")
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        return f"{self.ms}-{self.number}"

    def before(self) -> "StreamId":
        """Return the last id that comes before this one."""
        if self.number:
            return StreamId(self.ms, self.number - 1)
        return StreamId(self.ms - 1, _LARGEST) if self.ms else self


class Entry(NamedTuple):
    """An event as it stands in the stream."""

    id: StreamId
    fields: Fields


class TenantListener:
    """What one follower has to see to. Safe to share between the thread that tells and the one that takes."""

    __slots__ = ("_entries", "behind", "something")

    def __init__(self) -> None:
        self.something = threading.Event()
        self.behind = True  # entries were missed: read the stream
        self._entries: deque[Entry] = deque()

    def tell(self, entries: Sequence[Entry]) -> None:
        """Here are entries."""
        if len(self._entries) + len(entries) <= _MOST_KEPT:
            self._entries.extend(entries)
        else:
            self.behind = True
        self.something.set()

    def take(self) -> list[Entry]:
        """Return the entries told since the last call, in order."""
        self.something.clear()
        taken = []
        while self._entries:
            taken.append(self._entries.popleft())
        return taken


class TenantEvents:
    """Tells the listeners of this process. The reading thread lives while there are any."""

    def __init__(self, settings: Settings, *, stopping: Callable[[], bool] = lambda: False) -> None:
        """`stopping` says that the process is about to stop: then all listeners are woken, to see that for themselves."""
        self._settings = settings
        self._stopping = stopping
        self._listeners: dict[str, list[TenantListener]] = {}
        self._read: dict[str, StreamId] = {}  # tenant -> what was read last of its stream
        self._lock = threading.Lock()
        self._reading = False

    @contextmanager
    def listener(self, tenant: str, after: StreamId) -> Iterator[TenantListener]:
        """One that is told of the entries after an id, which must have been the stream's last a moment ago. Read the stream
        up to there by yourself; some entries may be told twice."""
        listener = TenantListener()
        with self._lock:
            self._listeners.setdefault(tenant, []).append(listener)
            self._read.setdefault(tenant, after)
            if not self._reading:
                threading.Thread(target=self._read_on, name="tandem-tenant-events", daemon=True).start()
                self._reading = True  # by a thread that did start
        try:
            yield listener
        finally:
            with self._lock:
                self._listeners[tenant].remove(listener)
                if not self._listeners[tenant]:
                    del self._listeners[tenant], self._read[tenant]

    def _read_on(self) -> None:
        with open_redis(self._settings, timeout_s=_BLOCK_MS / 1000 + self._settings.redis_timeout_s) as client:
            while streams := self._wanted():
                try:
                    for name, entries in client.xread(streams, block=_BLOCK_MS, count=_AT_A_TIME) or []:
                        self._tell(name.decode().partition(":")[2], read(entries))
                except (redis.exceptions.RedisError, OSError) as exc:
                    logs.event("tenant_events_broken", why=str(exc))
                    threading.Event().wait(_PAUSE_S)
                except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: nobody would begin another
                    logs.event("tenant_events_failed", level=logging.ERROR, exc_info=True, why=str(exc))
                    threading.Event().wait(_PAUSE_S)

    def _wanted(self) -> dict[str, str]:
        """What is to be read, and from where; if nothing, the thread that asks is to end, and the next listener begins
        another."""
        with self._lock:
            if self._stopping():
                for listeners in self._listeners.values():
                    for listener in listeners:
                        listener.something.set()
            self._reading = bool(self._read)
            return {f"events:{tenant}": str(last) for tenant, last in self._read.items()}

    def _tell(self, tenant: str, entries: Sequence[Entry]) -> None:
        with self._lock:
            if tenant not in self._read:
                return
            self._read[tenant] = entries[-1].id
            for listener in self._listeners[tenant]:
                listener.tell(entries)


def read(entries: Sequence[tuple[bytes, Fields]]) -> list[Entry]:
    """Return entries as redis-py gives them as ours."""
    return [Entry(StreamId.parse(entry_id.decode()), fields) for entry_id, fields in entries]
