"""All queues of an account behind one lock: who may ask for what at once, who waits, and what is counted.

Everything here is thread-safe. A method changes the queues under the lock and tells the journal; the change lasts when
`commit` has returned, which whoever answers a client calls before the answer (many threads' changes go in one commit).

Receives that wait are served in the order in which they came: by the send that brings a message, or by the one thread
of this class, which sleeps until the next delay, visibility or wait ends.
"""

import contextlib
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ops.mns_server.attributes import Attributes, DeadLetters
from ops.mns_server.clock import Clock, real
from ops.mns_server.errors import Refused, queue_missing
from ops.mns_server.journal import Counts, Journal, QueueRecord
from ops.mns_server.message import Delivery, Draft, Message, Property, State, new_id
from ops.mns_server.polls import Poll, Polls
from ops.mns_server.queue import PLAIN, Queue, Twist, check_fits

_LOOK_S = 0.02  # how often a clock is looked at that may be moved by hand
_LONGEST_SLEEP_S = 3600.0


@dataclass(slots=True)
class Memory:
    """What a journal remembers of an earlier process: queues, their messages, all counts ever, the account."""

    queues: list[QueueRecord]
    messages: list[tuple[str, Message]]
    counts: dict[str, Counts]
    account: dict[str, str]


NOTHING = Memory([], [], {}, {})


class Service:
    """See the module. Close it: it has a thread."""

    def __init__(self, journal: Journal, *, memory: Memory = NOTHING, account: str, clock: Clock = real) -> None:
        self.account = account
        self.most_polls: int | None = None  # more waiting receives than that are answered at once, empty
        self.logging_bucket = memory.account.get("LoggingBucket", "")
        self._journal, self._clock = journal, clock
        self._changed = threading.Condition()
        self._queues: dict[str, Queue] = {}
        self._counts: dict[str, Counts] = memory.counts.copy()
        self._orders = itertools.count(1 + max((message.order for _, message in memory.messages), default=0))
        self._polls = Polls()
        self._wake_ms: int | None = None  # when the thread will look again by itself
        self._closing = False
        for record in memory.queues:
            self._queues[record.name] = self._open(record)
        for name, message in memory.messages:
            self._queues[name].restore(message)
        self._thread = threading.Thread(target=self._keep_time, name="mns-time", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send those who wait away empty, and stop the thread. The journal stays open."""
        with self._changed:
            self._closing = True
            for name in self._polls.queues():
                self._polls.dismiss(name, None)
            self._changed.notify_all()
        self._thread.join()

    def commit(self) -> None:
        """Return when every change made so far lasts."""
        self._journal.commit()

    # --- queues ---

    def create(self, name: str, attributes: Attributes) -> bool:
        """Make a queue; return False if one like it is there. Raises `Refused` (QueueAlreadyExist) if it differs."""
        with self._changed:
            if found := self._queues.get(name):
                if found.attributes != attributes:
                    raise Refused("QueueAlreadyExist", "The queue you want to create is already exist.")
                return False
            now_ms = self.now_ms()
            record = QueueRecord(name, attributes, None, now_ms, now_ms)
            self._queues[name] = self._open(record)
            self._journal.queue(record)
            return True

    def set_attributes(self, name: str, change: Callable[[Attributes], Attributes]) -> None:
        """Change a queue's attributes."""
        with self._at(name) as (queue, now_ms):
            queue.set(change(queue.attributes), now_ms=now_ms)

    def set_dead_letters(self, name: str, policy: DeadLetters | None) -> None:
        """Set where a queue's messages go that are received too often, or that they don't. Raises `Refused`."""
        with self._at(name) as (queue, now_ms):
            if policy is not None and policy.target == name:
                raise Refused("InvalidArgument", "A queue can not be its own dead-letter queue.")
            if policy is not None and policy.target not in self._queues:
                raise queue_missing()
            queue.set_dead_letters(policy, now_ms=now_ms)

    def delete_queue(self, name: str) -> None:
        """Delete a queue with its messages, which count as deleted. Deleting one that is not there is no fault."""
        with self._changed:
            if queue := self._queues.pop(name, None):
                queue.settle(self.now_ms())
                queue.empty()
                self._journal.queue_gone(name)
                self._polls.dismiss(name, queue_missing())

    def look(self, name: str) -> tuple[QueueRecord, dict[State, int]]:
        """Return a queue as it is set, and how many messages are in each state."""
        with self._at(name) as (queue, now_ms):
            return queue.record, queue.census(now_ms)

    def names(self, *, prefix: str = "", after: str = "", most: int) -> tuple[list[str], bool]:
        """Return the names that begin with `prefix` and come after `after`, in order, and whether there are more."""
        with self._changed:
            found = sorted(name for name in self._queues if name.startswith(prefix) and name > after)
        return found[:most], len(found) > most

    def set_logging_bucket(self, bucket: str) -> None:
        """Set the account's only attribute."""
        with self._changed:
            self.logging_bucket = bucket
            self._journal.account("LoggingBucket", bucket)

    # --- messages ---

    def send(self, name: str, draft: Draft, *, copies: int = 1) -> Delivery:
        """Take a message, and return the last of its copies (one, but for an injected fault). Raises `Refused`."""
        with self._at(name) as (queue, now_ms):
            check_fits(draft, queue.attributes)
            return [queue.send(draft, now_ms=now_ms) for _ in range(copies)][-1]

    def receive(self, name: str, most: int, *, wait_s: int | None = None, twist: Twist = PLAIN) -> list[Delivery]:
        """Hand out up to `most` messages; wait for the first up to `wait_s` (None: as the queue is set).

        Raises `Refused` if there is no such queue, or if it is deleted meanwhile. An abandoned wait still takes its
        message, as the service's does: the message comes back when its visibility ends.
        """
        with self._at(name) as (queue, now_ms):
            if found := queue.receive(most, now_ms=now_ms, twist=twist):
                return found
            wait_s = queue.attributes.polling_wait_s if wait_s is None else wait_s
            full = self.most_polls is not None and len(self._polls) >= self.most_polls
            if wait_s == 0 or full or self._closing:
                return []
            poll = Poll(most, now_ms + wait_s * 1000, twist)
            self._polls.join(name, poll)
        poll.done.wait()
        if poll.refusal:
            raise poll.refusal
        return poll.deliveries

    def peek(self, name: str, most: int) -> list[Delivery]:
        """Return up to `most` active messages, which stay so."""
        with self._at(name) as (queue, now_ms):
            return queue.peek(most, now_ms=now_ms)

    def delete(self, name: str, handle: str) -> None:
        """Delete a message. Raises `Refused`."""
        with self._at(name) as (queue, now_ms):
            queue.delete(handle, now_ms=now_ms)

    def change(self, name: str, handle: str, visibility_s: int) -> Delivery:
        """Set when a message becomes visible again. Raises `Refused`."""
        with self._at(name) as (queue, now_ms):
            return queue.change(handle, visibility_s, now_ms=now_ms)

    # --- what the operator sees ---

    def audit(self, name: str | None = None) -> dict[str, int]:
        """Return the counts of a queue's name, or of all together, queues since deleted included."""
        with self._changed:
            now_ms = self.now_ms()
            names = [name] if name is not None else list(self._counts)
            total: Counter[str] = Counter()
            for queue in list(self._queues.values()):  # first all: one may move messages to another
                queue.settle(now_ms)
            for one in names:
                counts = self._counts.get(one, Counts())
                total.update(sent=counts.sent, deleted=counts.deleted, dead=counts.dead, expired=counts.expired)
                census = self._queues[one].census(now_ms) if one in self._queues else dict.fromkeys(State, 0)
                total.update({str(state): number for state, number in census.items()})
            return dict(total)

    def oldest_age_s(self, name: str) -> float:
        """Return how long ago the queue's oldest message came, 0.0 where there is none. Raises `Refused`."""
        with self._at(name) as (queue, now_ms):
            queue.settle(now_ms)
            came_ms = queue.oldest_ms()
            return 0.0 if came_ms is None else (now_ms - came_ms) / 1000

    def waiting(self, name: str) -> int:
        """Return how many receives wait at the queue."""
        with self._changed:
            return self._polls.count(name)

    def now_ms(self) -> int:
        """Return the time of the messages, in ms since 1970."""
        return int(self._clock() * 1000)

    # --- inside ---

    @contextlib.contextmanager
    def _at(self, name: str) -> Iterator[tuple[Queue, int]]:
        """Look at one queue, or change it, under the lock. Then those are served who wait there, and the thread is woken
        if it would now sleep too long. Raises `Refused` (QueueNotExist)."""
        with self._changed:
            queue = self._queues.get(name)
            if queue is None:
                raise queue_missing()
            now_ms = self.now_ms()
            self._polls.serve(queue, now_ms)  # who waits comes before who asks now
            try:
                yield queue, now_ms
            finally:
                self._polls.serve(queue, now_ms)
                next_ms = self._next_look_ms()
                if next_ms is not None and (self._wake_ms is None or next_ms < self._wake_ms):
                    self._changed.notify_all()

    def _open(self, record: QueueRecord) -> Queue:
        counts = self._counts.setdefault(record.name, Counts())
        return Queue(record, counts, journal=self._journal, bury=self._bury, orders=self._orders)

    def _bury(self, queue: Queue, message: Message) -> bool:
        """Move a message to the dead letters; without their queue it stays. It gets a new id and keeps its age (the
        service documents that the retention is not begun anew; what the two properties hold is our assumption)."""
        target = self._queues.get(queue.dead_letters.target) if queue.dead_letters else None
        if target is None:
            return False
        queue.buried(message)
        origin = (Property("DLQOriginMessageId", message.id, "STRING"),
                  Property("DLQSourceArn", f"acs:mns:local:{self.account}:/queues/{queue.name}", "STRING"))
        draft = replace(message.draft, system_properties=(*message.draft.system_properties, *origin))
        target.arrive(Message(new_id(), draft, next(self._orders), message.enqueued_ms, message.enqueued_ms))
        return True  # who waits there is served by the thread: we may be in the midst of serving that queue ourselves

    def _keep_time(self) -> None:
        with self._changed:
            while not self._closing:
                now_ms = self.now_ms()
                names = self._by_themselves()
                for name in names:  # first all: what dies in one arrives in another
                    self._queues[name].settle(now_ms)
                for name in names:
                    self._polls.serve(self._queues[name], now_ms)
                self._wake_ms = self._next_look_ms()
                self._changed.wait(self._sleep_s())

    def _sleep_s(self) -> float:
        if self._wake_ms is None:
            return _LONGEST_SLEEP_S
        left_s = max(0.0, self._wake_ms / 1000 - self._clock())
        return left_s + 0.001 if self._clock is real else min(left_s, _LOOK_S)

    def _by_themselves(self) -> set[str]:
        """The queues in which something has to happen in time without a request: somebody waits, or messages die."""
        return {*self._polls.queues(), *(queue.name for queue in self._queues.values() if queue.dead_letters)}

    def _next_look_ms(self) -> int | None:
        """Return when the next wait ends, or the next message becomes active in one of those queues."""
        ends = [self._polls.next_end_ms(name) for name in self._polls.queues()]
        changes = [self._queues[name].next_change_ms() for name in self._by_themselves()]
        return min([*ends, *(time_ms for time_ms in changes if time_ms is not None)], default=None)
