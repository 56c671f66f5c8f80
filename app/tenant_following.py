"""Follows what happens to one tenant's jobs, from any event on.

An event's id is its entry's in the stream `events:<tenant>`, so it means the same on every gateway. Who comes back with an
id whose followers have been trimmed away is told so by an event `gap`, and goes on from the oldest that is kept.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import redis

from app.errors import StoreUnavailable
from app.job import timestamp
from app.ledger.scripts import unavailable
from app.tenant_events import Entry, StreamId, TenantEvents, TenantListener, read

#: What the ledger keeps of a stream (app/ledger/lua/prelude/keys.lua): so many of the newest, for so long at least.
KEPT = 20_000
KEPT_MS = 86_400_000

QUIET_S = 15.0  # after so long without an event the reader is told that we are there
_AGAIN_S = 1.0  # between two tries where Redis is away
_PAGE = 500  # entries read at a time
_START = StreamId(0, 0)
_SKEW_MS = 60_000  # by which the clock of a Redis that has become the master may be behind


class TenantEvent(msgspec.Struct, frozen=True):
    """An event as its reader gets it."""

    id: StreamId
    name: str  # queued, started, succeeded, failed, cancelled, expired or gap
    data: Mapping[str, Any]


class TenantFollowing:
    """One reader's way through his tenant's events. `mark` is the last event that he had; None: he begins now."""

    def __init__(self, tenant: str, *, client: redis.Redis, mark: StreamId | None) -> None:
        self._tenant = tenant
        self._client = client
        self._mark = mark
        self._end = _START  # of the stream, as it was seen first
        self._gap_told: StreamId | None = None

    @property
    def mark(self) -> StreamId:
        """The event that he had last, or where he began. `begin` first."""
        return self._mark or self._end

    def begin(self) -> None:
        """See where the stream ends, and he begins. Raises `StoreUnavailable`."""
        try:
            with self._client.pipeline(transaction=True) as pipeline:
                pipeline.time()
                pipeline.xrevrange(self._stream, count=1)
                (seconds, micros), last = pipeline.execute()
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc
        # of an empty stream: before all that may yet come, and not so long ago that he would be told of a gap
        self._end = read(last)[0].id if last else StreamId(seconds * 1000 + micros // 1000, 0).before()
        self._mark = self._mark or self._end

    def events(self, hub: TenantEvents, stopping: Callable[[], bool]) -> Iterator[Sequence[TenantEvent]]:
        """Yield events as they come, and nothing now and then; until this process is to stop. While Redis is away, nothing
        comes."""
        with hub.listener(self._tenant, self._end) as listener:
            told_s = time.monotonic()
            while not stopping():
                events = self._next(listener)
                if events or time.monotonic() - told_s >= QUIET_S:
                    yield events
                    told_s = time.monotonic()
                else:
                    left_s = max(told_s + QUIET_S - time.monotonic(), 0.0)
                    listener.something.wait(min(left_s, _AGAIN_S) if listener.behind else left_s)

    @property
    def _stream(self) -> str:
        return f"events:{self._tenant}"

    def _next(self, listener: TenantListener) -> list[TenantEvent]:
        """Return the events that the listener was told, or that the stream holds where it has fallen behind."""
        taken = listener.take()
        if not listener.behind:
            return self._told([entry for entry in taken if entry.id > self.mark])
        listener.behind = False  # first: what it misses from now on is to be read after this
        try:
            events, whole = self._look()
        except StoreUnavailable:
            events, whole = [], False
        listener.behind = listener.behind or not whole
        return events

    def _look(self) -> tuple[list[TenantEvent], bool]:
        """Return what the stream holds next, and whether that was all. Raises `StoreUnavailable`."""
        try:
            with self._client.pipeline(transaction=True) as pipeline:
                pipeline.time()
                pipeline.xlen(self._stream)
                pipeline.xrange(self._stream, count=1)
                pipeline.xrange(self._stream, min=str(self.mark), max=str(self.mark))
                pipeline.xrange(self._stream, min=f"({self.mark}", count=_PAGE)
                (seconds, micros), length, first, kept, found = pipeline.execute()
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc
        now_ms = seconds * 1000 + micros // 1000
        oldest = read(first)[0].id if first else None
        if not kept and self._has_missed(now_ms, length, oldest):
            return [self._gap(oldest or StreamId(now_ms, 0))], False
        return self._told(read(found)), len(found) < _PAGE

    def _has_missed(self, now_ms: int, length: int, oldest: StreamId | None) -> bool:
        """Whether events after the mark may have been trimmed away, or it is of another stream than this. A mark that is
        no entry's may be from before the first one: then nothing is missing, if nothing can have been trimmed since."""
        if self.mark in (_START, self._gap_told):
            return False
        if self.mark.ms > now_ms + _SKEW_MS:
            return True
        return (oldest is None or self.mark < oldest) and (length >= KEPT or now_ms - self.mark.ms >= KEPT_MS)

    def _gap(self, oldest: StreamId) -> TenantEvent:
        missed, self._mark = self.mark, oldest.before()
        self._gap_told = self._mark
        return TenantEvent(self._mark, "gap", {"after": str(missed)})

    def _told(self, entries: Sequence[Entry]) -> list[TenantEvent]:
        if entries:
            self._mark = entries[-1].id
        return [TenantEvent(entry.id, entry.fields[b"event"].decode(), {
            "job": entry.fields[b"id"].decode(), "service": entry.fields[b"service"].decode(),
            "attempt": int(entry.fields[b"attempt"]), "at": timestamp(entry.id.ms)}) for entry in entries]
