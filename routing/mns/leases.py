"""The messages that we hold: each is kept from others until it is done, given back, or held too long.

MNS hands a message out for its visibility timeout and gives a handle with it. A thread makes that longer every third of
the timeout; each time the old handle dies and a new one comes, so a lock for each lease orders this and what ends it.

A message that was acknowledged while the service could not be reached stays here until its deletion has been made good.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from routing.mns.crew import at_once
from routing.mns.errors import Gone, MnsError, Throttled, Transient
from routing.mns.figures import Figures
from routing.mns.options import LostLease
from routing.mns.patience import Backoff, patiently
from routing.mns.rooms import Room, Slot
from routing.mns.service import Received, Service
from routing.mns.stores import Store

_log = logging.getLogger(__name__)

_PART = 3  # a lease is made longer every third of the visibility timeout: two attempts may fail
_RETRY_S = 5.0  # at most, after one that failed
_GIVEN_BACK_S = 1  # 0 is not allowed (https://www.alibabacloud.com/help/doc-detail/35142.htm)


class State(Enum):
    """Of a lease."""

    HELD = "held"  # from the receipt on; kept from others
    ENDING = "ending"  # acknowledged; its deletion did not reach the service yet
    LOST = "lost"  # the service gave the message, or may have given it, to another
    OVER = "over"  # deleted or given back


@dataclass(slots=True)
class Lease:
    """A message that we hold. `lock` orders what uses or changes the handle."""

    tag: str  # kombu's delivery tag
    queue: str
    message_id: str
    handle: str = field(repr=False)
    slot: Slot
    until: float  # by the clock of `Leases`: then the service gives it to another
    due: float  # when to make it longer, or to try again to delete it
    taken: float
    headers: dict[str, Any] = field(default_factory=dict, repr=False)
    object_name: str | None = None  # of its body in the store
    state: State = State.HELD
    lost: bool = False  # it was at some time
    refused: bool = False  # a deletion was, and that was said
    unsure: bool = False  # a deletion was sent and not answered
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    backoff: Backoff = field(default_factory=Backoff, repr=False)


class Leases:
    """All leases of a transport, with the thread that tends them. Threads may share it; a forked process may not."""

    def __init__(self, service: Service, *, visibility_s: int, longest_s: float, store: Store | None, figures: Figures,
                 on_lost: Callable[[LostLease], None] | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._service, self._store, self._figures, self._on_lost = service, store, figures, on_lost
        self._visibility_s, self._longest_s, self._now = visibility_s, longest_s, now
        self._changed = threading.Condition()
        self._leases: dict[str, Lease] = {}
        self._thread: threading.Thread | None = None
        self._stopped = False

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def holding(self) -> bool:
        """Whether there are messages that would be given to others if we let go now."""
        with self._changed:
            return any(lease.state is State.HELD for lease in self._leases.values())

    def add(self, tag: str, queue: str, received: Received, *, visibility_s: int, slot: Slot) -> Lease:
        """Hold a message that was just received, with the queue's visibility timeout."""
        now = self._now()
        lease = Lease(tag, queue, received.message_id, received.handle, slot, until=now + visibility_s, taken=now,
                      due=now + min(visibility_s, self._visibility_s) / _PART)
        with self._changed:
            self._leases[tag] = lease
            if not self._stopped and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name="mns-leases", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return lease

    def get(self, tag: str) -> Lease | None:
        """Return the lease, None if it is over or was never here."""
        return self._leases.get(tag)

    def of(self, room: Room) -> list[Lease]:
        """Return the leases of one channel, in the order in which the messages came."""
        with self._changed:
            return [lease for lease in self._leases.values() if lease.slot.room is room]

    def finish(self, lease: Lease) -> None:
        """The message is done: delete it, and its body in the store. Its slot is free afterwards, whatever happens.

        When that fails, it is tried again until it succeeds or another has the message.
        """
        try:
            with lease.lock:
                if lease.state in (State.HELD, State.LOST):  # a lost one may still be there to be deleted
                    lease.state = State.ENDING
                    self._delete(lease)
        finally:
            lease.slot.leave()
            if lease.state is State.OVER:
                self._remove(lease)

    def give_back(self, lease: Lease, *, after_s: int = _GIVEN_BACK_S, until: float | None = None) -> None:
        """Let the message be received again, by anyone, in `after_s` seconds. If that fails, or has not begun by the time
        `until`, it can be when its visibility timeout ends."""
        if not lease.lock.acquire(timeout=-1 if until is None else max(0.0, until - self._now())):
            _log.warning("message %s of queue %s is not given back: no answer in time", lease.message_id, lease.queue)
            return
        try:
            if lease.state is State.HELD:
                lease.state = State.OVER
                patiently(lambda: self._release(lease, after_s, until), go_on=lambda: until is None or self._now() < until)
                self._figures.count("released")
        except Gone:
            _log.debug("message %s of queue %s is another's already", lease.message_id, lease.queue)
        except MnsError as exc:
            _log.warning("could not give back message %s of queue %s; it can be received again when its visibility timeout "
                         "ends, in at most %.0f s: %s", lease.message_id, lease.queue, lease.until - self._now(), exc)
        finally:
            lease.lock.release()
            lease.slot.leave()
            if lease.state is not State.ENDING:
                self._remove(lease)

    def close(self, leases: Iterable[Lease], *, until: float) -> None:
        """Give back, and delete what is still to be deleted, until the time `until` (of the clock); then leave the rest."""
        waiting = at_once(lambda lease: self._end(lease, until), leases, go_on=lambda: self._now() < until,
                          join_s=lambda: max(0.1, until - self._now()))
        for lease in waiting:
            lease.slot.leave()
            self._remove(lease)
        if waiting:
            _log.warning("closing took too long: %d messages were not given back and can be received again when their "
                         "visibility timeout ends", len(waiting))

    def stop(self) -> None:
        """End the thread, for good. No lease is made longer from now on; one may still be given back."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)  # it may be waiting for an answer; it is a daemon and holds nothing

    def tend(self) -> None:
        """Make longer, or end, what is due, several at once, those first that run out first."""
        with self._changed:
            due = [lease for lease in self._leases.values() if lease.due <= self._now()]
        at_once(self._tend_one, sorted(due, key=lambda lease: lease.until))

    def _tend_one(self, lease: Lease) -> None:
        if not lease.lock.acquire(blocking=False):  # it is being ended just now
            return
        try:
            self._tend(lease)
        except Exception:  # noqa: BLE001 - a thread's outermost loop: a bug that one message trips must not cost the others
            _log.exception("could not tend the lease of message %s; trying again", lease.message_id)
            lease.due = max(lease.due, self._now() + 1.0)
        finally:
            lease.lock.release()
            if lease.state is State.OVER:
                self._remove(lease)

    def _run(self) -> None:
        while not self._stopped:
            try:
                self.tend()
            except Exception:  # noqa: BLE001 - the thread's outermost loop: without it all messages would go to others
                _log.exception("could not tend the leases; trying again")
                time.sleep(1.0)
            with self._changed:
                due = min((lease.due for lease in self._leases.values()), default=math.inf)
                if not self._stopped:
                    self._changed.wait(None if due == math.inf else max(0.01, due - self._now()))

    def _tend(self, lease: Lease) -> None:
        if lease.state is State.ENDING:
            self._delete(lease)
        elif lease.state is State.HELD and self._now() - lease.taken >= self._longest_s:
            self._lose(lease, f"it has been held for {self._longest_s:.0f} s, the longest allowed; it is not kept from "
                              "others any longer")
        elif lease.state is State.HELD:
            self._extend(lease)

    def _extend(self, lease: Lease) -> None:
        asked = self._now()
        try:
            lease.handle = self._service.extend(lease.queue, lease.handle, self._visibility_s)
        except Gone as exc:
            self._lose(lease, f"another may have it: {exc}")
        except MnsError as exc:
            lease.due = self._now() + min(_RETRY_S, self._visibility_s / 10)
            _log.info("could not keep message %s of queue %s from others for longer; it is ours for %.0f s more: %s",
                      lease.message_id, lease.queue, lease.until - self._now(), exc)
            if lease.due >= lease.until:
                self._lose(lease, f"its lease could not be made longer in time: {exc}")
        else:
            self._figures.count("extended")
            lease.until, lease.due = asked + self._visibility_s, asked + self._visibility_s / _PART

    def _lose(self, lease: Lease, why: str) -> None:
        lease.state, lease.lost, lease.due = State.LOST, True, math.inf
        self._say_lost(lease, why)
        self._figures.count("lost")
        if self._on_lost is not None:
            self._on_lost(LostLease(lease.queue, lease.message_id, lease.headers))

    def _say_lost(self, lease: Lease, why: str) -> None:
        _log.warning("lost the lease of message %s of queue %s after %.1f s: %s", lease.message_id, lease.queue,
                     self._now() - lease.taken, why)

    def _delete(self, lease: Lease) -> None:
        try:
            self._service.delete(lease.queue, lease.handle)
        except Gone as exc:
            lease.state = State.OVER
            if not lease.unsure or self._now() >= lease.until:
                self._figures.count("lost", 0 if lease.lost else 1)
                self._say_lost(lease, f"it was done too late; another has it, or will: {exc}")
                return
            # most likely an earlier deletion did reach the service, and only its answer was lost
        except MnsError as exc:
            self._delete_again(lease, exc)
            return
        lease.state = State.OVER
        self._figures.count("deleted")
        self._forget_body(lease)

    def _forget_body(self, lease: Lease) -> None:
        if lease.object_name is None or self._store is None:
            return
        try:
            self._store.delete(lease.object_name)
        except MnsError as exc:
            _log.warning("the body of message %s, which is done, stays in the store until its own expiry: %s",
                         lease.message_id, exc)

    def _delete_again(self, lease: Lease, exc: MnsError) -> None:
        """A deletion failed. What is refused may be put right; but once the lease is over, that is of no use any more."""
        passing = isinstance(exc, Transient)
        lease.unsure = lease.unsure or (passing and not isinstance(exc, Throttled))
        lease.due = self._now() + lease.backoff.pause_s()
        if not passing and self._now() >= lease.until:
            lease.state = State.OVER
            _log.error("message %s of queue %s is done and could not be deleted; it will be received again: %s",
                       lease.message_id, lease.queue, exc)
        elif not passing and not lease.refused:
            lease.refused = True
            _log.error("message %s of queue %s is done and cannot be deleted for now; trying again: %s",
                       lease.message_id, lease.queue, exc)
        with self._changed:
            self._changed.notify_all()

    def _release(self, lease: Lease, after_s: int, until: float | None) -> None:
        with self._service.http.within(math.inf if until is None else until - self._now()):
            self._service.extend(lease.queue, lease.handle, after_s)

    def _end(self, lease: Lease, until: float) -> None:
        if lease.state is not State.ENDING:
            self.give_back(lease, until=until)
            return
        if lease.lock.acquire(timeout=max(0.0, until - self._now())):
            try:
                with self._service.http.within(until - self._now()):
                    self._delete(lease)
            finally:
                lease.lock.release()
                self._remove(lease)

    def _remove(self, lease: Lease) -> None:
        with self._changed:
            self._leases.pop(lease.tag, None)
