"""Sends jobs to the cloud for the routing task, in a thread of its own: a message may take as long as MNS likes, and no
round waits for it.

An order says how many jobs are to leave, and until when that may be believed: a second or two, well within the lead. The
next order takes its place, with what has left meanwhile taken off. So whatever happens to the leader, soon nothing more
leaves by its word; what had left by then, the ledger keeps to the caps and to one ticket a job, whoever else sends.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import redis

from app import logs
from app.errors import StoreUnavailable
from app.ledger import CloudLedger
from app.routing_rules import Rules
from app.settings import Settings
from routing.cloud.post import Post
from routing.cloud.sending import Sender, Sent

_ANSWER_S = 4.0  # for MNS to take a message; what it does not take in time counts for the breaker
_BATCH = 16  # jobs at a time, before it is looked whether the order still stands


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Jobs that are to leave."""

    jobs: int
    decision: bytes  # why, as JSON
    rules: Rules
    until_s: float  # by the monotonic clock


class Sending:
    """The thread. `mark` and `order` are for the routing task's."""

    def __init__(self, client: redis.Redis, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._post = Post(settings, answer_timeout_s=_ANSWER_S)
        self._sender = Sender(CloudLedger(client, settings), self._post, settings)
        self._lock = threading.Lock()
        self._order: Order | None = None
        self._until_s = 0.0
        self._tried = 0  # jobs, since the start
        self._sound = True  # MNS took the last message; if not, only one job at a time waits for what becomes of the next
        self._due = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send_for_ever, name="tandem-routing-sending", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the message that is on its way."""
        self.halt()
        self._stopping.set()
        self._due.set()

    def join(self, timeout_s: float) -> None:
        """Wait for what `stop` began."""
        self._thread.join(timeout_s)

    def close(self) -> None:
        """Give up the connection, unless a message is still on its way."""
        if not self._thread.is_alive():
            self._post.close()

    def mark(self) -> int:
        """Return what `order` takes as `since`: call it before the queue is looked at."""
        with self._lock:
            return self._tried

    def order(self, order: Order, *, since: int) -> None:
        """Have so many jobs leave, in place of what was ordered before; less those that have left since the mark."""
        with self._lock:
            left = max(order.jobs - max(self._tried - since, 0), 0)
            self._order = replace(order, jobs=left) if left else None
            self._until_s = order.until_s
        if left:
            self._due.set()

    def halt(self) -> None:
        """Have nothing more leave."""
        with self._lock:
            self._order, self._until_s = None, 0.0

    def work(self) -> None:
        """Carry out the order, and those that take its place, to the end. Raises `StoreUnavailable`."""
        while order := self._current():
            batch = min(order.jobs, _BATCH if self._sound else 1)
            with self._lock:
                self._tried += batch  # the ledger lets go of them at once, and the messages follow
            sent = self._sender.send_waiting(batch, decision=order.decision, rules=order.rules, go_on=self._goes_on)
            self._take_off(order, sent, batch)

    def _current(self) -> Order | None:
        with self._lock:
            return self._order if self._order and self._goes_on() else None

    def _goes_on(self) -> bool:
        """Whether a leader still wants this, and this process lives on; asked before each message."""
        return self._clock() < self._until_s and not self._stopping.is_set()

    def _take_off(self, order: Order, sent: Sent, batch: int) -> None:
        """Take off what has left of a batch; all of the order where there is no more to send, or it cannot be."""
        left = len(sent.sent) + len(sent.perhaps) + len(sent.kept)
        ended = sent.failure is not None or sent.cap is not None or left < batch
        self._sound = sent.failure is None
        with self._lock:
            self._tried -= batch - left
            if ended:
                self._order = None
            elif self._order is order:
                self._order = replace(order, jobs=order.jobs - left) if order.jobs > left else None
        if left or sent.failure or sent.cap:
            logs.event("jobs_sent", level=logging.DEBUG, jobs=len(sent.sent), perhaps=len(sent.perhaps),
                       kept=len(sent.kept), cap=sent.cap, why=str(sent.failure or ""))

    def _send_for_ever(self) -> None:
        while not self._stopping.is_set():
            self._due.wait()
            self._due.clear()
            try:
                self.work()
            except StoreUnavailable as exc:
                logs.event("routing_sending_unreachable", why=str(exc))
            except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: without it nothing would ever leave again
                self._post.close()
                logs.event("routing_sending_failed", level=logging.ERROR, exc_info=True, why=str(exc))
