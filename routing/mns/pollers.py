"""One thread for each consumed queue, which asks for messages while there is room for them.

Trouble is waited out, longer and longer, and said once; if it lasts, which for a refusal is sooner, the thread that drains
the connection is told, so that Celery makes a new connection and says why. But not while messages are held whose leases are
good: to close the connection gives them back, and their tasks, which go on, would run a second time elsewhere.
"""

import logging
import threading
import time

from routing.mns.errors import MnsError, QueueMissing, Transient
from routing.mns.intake import Intake
from routing.mns.leases import Lease
from routing.mns.link import Link
from routing.mns.patience import Backoff
from routing.mns.rooms import Room, Slot
from routing.mns.service import BATCH, Received

_log = logging.getLogger(__name__)

_CROWDED_POLL_S = 1  # how long a poll waits that keeps another queue from being polled
_EARLY = 0.5  # of what was asked: an empty answer before that part of the time means that the service cut the poll short
_REFUSED_S = 10.0  # so long a refusal may last, as of a token that is just being renewed


class Poller:
    """Polls one queue for one channel."""

    def __init__(self, link: Link, channel: object, queue: str, room: Room) -> None:
        self._link, self._channel, self._queue, self._room = link, channel, queue, room
        self._name = link.name(queue)
        self._intake = Intake(link, channel, queue)
        self._stopped = threading.Event()
        self._backoff = Backoff()
        self._failing_since: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"mns-poll-{self._name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._room.join()
        self._thread.start()

    def stop(self) -> None:
        """Ask for nothing more, and give back what was not delivered. Returns at once; see `join`."""
        self._stopped.set()
        self._room.wake()

    def join(self, until: float) -> bool:
        """Wait until the poll in flight has come back and what it brought is given back, or until `until` (monotonic).
        Return whether that was in time."""
        if self._thread is not threading.current_thread():
            self._thread.join(max(0.0, until - time.monotonic()))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._round()
            except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: without it the queue would go deaf
                self._note(exc)
        self._room.leave()
        mine = self._link.inbox.withdraw(lambda one: one.channel is self._channel and one.queue == self._queue)
        self._give_back([delivery.lease for delivery in mine])

    def _round(self) -> None:
        slots = self._room.take(BATCH, self._stopped)
        if not slots:
            return
        received: list[Received] = []
        wait_s = min(self._link.options.poll_s, _CROWDED_POLL_S) if self._room.crowded else self._link.options.poll_s
        visibility_s = 0
        began = time.monotonic()
        try:
            visibility_s = self._link.queues.get(self._name).visibility_s
            received = self._link.service.receive(self._name, slots, wait_s=wait_s)
        except QueueMissing:
            self._link.queues.forget(self._name)
            self._link.queues.get(self._name)  # made anew, if that is allowed
        finally:
            self._room.move(taken=len(received) - slots)
        self._recovered()
        self._take(received, visibility_s)
        if not received:
            self._wait_out(wait_s, time.monotonic() - began)

    def _take(self, received: list[Received], visibility_s: int) -> None:
        leases = [self._intake.hold(one, Slot(self._room), visibility_s=visibility_s) for one in received]
        if self._stopped.is_set():
            self._give_back(leases)
            return
        for one, lease in zip(received, leases, strict=True):
            try:
                delivery = self._intake.take(one, lease)
            except Exception:  # noqa: BLE001 - a message that trips a bug must not take the others along
                _log.exception("could not take message %s of queue %s", one.message_id, self._name)
                self._link.leases.give_back(lease)
            else:
                if delivery is not None:
                    self._link.inbox.put(delivery)

    def _give_back(self, leases: list[Lease]) -> None:
        self._link.leases.close(leases, until=time.monotonic() + self._link.options.close_within_s)

    def _wait_out(self, asked_s: float, took_s: float) -> None:
        """Above a cap on concurrent polls the service answers at once that there is nothing, and charges for it."""
        if took_s < asked_s * _EARLY:
            self._stopped.wait(asked_s - took_s)
        elif not asked_s:
            self._stopped.wait(self._backoff.pause_s())

    def _recovered(self) -> None:
        if self._failing_since is not None:
            _log.info("receiving from queue %s again, after %.1f s", self._name, time.monotonic() - self._failing_since)
            self._failing_since = None
        self._backoff.reset()

    def _note(self, exc: Exception) -> None:
        if self._stopped.is_set():
            return
        now = time.monotonic()
        first, passing = self._failing_since is None, isinstance(exc, Transient)
        if self._failing_since is None:
            self._failing_since = now
        if not isinstance(exc, MnsError):
            _log.exception("receiving from queue %s failed in a way not foreseen; going on", self._name)
        else:
            if first:
                _log.log(logging.WARNING if passing else logging.ERROR,
                         "cannot receive from queue %s for now; trying again until it works: %s", self._name, exc)
            most_s = self._link.options.outage_s
            lasts = now - self._failing_since >= (most_s if passing else min(most_s, _REFUSED_S))
            if lasts and not self._link.leases.holding:
                self._link.inbox.fail(exc)
        self._stopped.wait(self._backoff.pause_s())
