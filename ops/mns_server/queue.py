"""One queue as a state machine: every method is told the time, and nothing here waits, locks or knows of HTTP.

A message arrives delayed or active. A receive makes an active one inactive and gives out a handle, which is good until
its visibility ends or another handle of the same message is given out, whichever is first. At the end of its visibility
(or delay) a message is active again; one that was handed out as often as the dead letters' policy allows leaves for
them instead. At the end of the retention, counted from its arrival, a message leaves whatever its state.

The order among active messages is by priority, then by arrival. (The service promises no order; `Twist` shakes ours.)
"""

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ops.mns_server import handles
from ops.mns_server.attributes import Attributes, DeadLetters
from ops.mns_server.errors import Refused, message_missing
from ops.mns_server.journal import Counts, Journal, QueueRecord
from ops.mns_server.message import Delivery, Draft, Message, State, delivery, new_id

_SPREAD = 64  # among how many active messages an injected disorder picks


@dataclass(frozen=True, slots=True)
class Twist:
    """How an injected fault bends one receive."""

    reorder: random.Random | None = None  # pick at random
    most: int | None = None  # hand out no more than so many
    duplicate: bool = False  # what is handed out can at once be received again


PLAIN = Twist()


class Queue:
    """See the module. `bury` is told of a message that is due for the dead letters, and returns whether it took it."""

    def __init__(self, record: QueueRecord, counts: Counts, *, journal: Journal, bury: Callable[["Queue", Message], bool],
                 orders: Iterator[int]) -> None:
        self.name = record.name
        self.attributes = record.attributes
        self.dead_letters = record.dead_letters
        self.created_ms, self.modified_ms = record.created_ms, record.modified_ms
        self.counts = counts
        self._journal, self._bury, self._orders = journal, bury, orders
        self._messages: dict[str, Message] = {}
        self._stamps = itertools.count(1)
        # heaps; their entries go stale rather than being searched for, see Message.stamp
        self._active: list[tuple[int, int, int, str]] = []  # priority, order, stamp, id
        self._coming: list[tuple[int, int, str]] = []  # visible_ms, stamp, id
        self._born: list[tuple[int, str]] = []  # enqueued_ms, id

    @property
    def record(self) -> QueueRecord:
        """The queue without its messages."""
        return QueueRecord(self.name, self.attributes, self.dead_letters, self.created_ms, self.modified_ms)

    def set(self, attributes: Attributes, *, now_ms: int) -> None:
        """Change the attributes; they hold for messages that are here already, too."""
        self.attributes, self.modified_ms = attributes, now_ms
        self._journal.queue(self.record)

    def set_dead_letters(self, policy: DeadLetters | None, *, now_ms: int) -> None:
        """Change or take away the dead letters."""
        self.dead_letters, self.modified_ms = policy, now_ms
        self._journal.queue(self.record)

    def send(self, draft: Draft, *, now_ms: int) -> Delivery:
        """Take a message. One that is delayed gets a handle, with which it can be deleted before it is due."""
        delay_s = self.attributes.delay_s if draft.delay_s is None else draft.delay_s
        message = Message(new_id(), draft, next(self._orders), now_ms, now_ms + delay_s * 1000)
        if delay_s:
            message.handle_until_ms = message.visible_ms
            message.tail = self._new_tail(message, now_ms=now_ms)
        self.arrive(message)
        return delivery(message, handles.whole(message.id, message.tail) if message.tail else "")

    def arrive(self, message: Message) -> None:
        """Take in a message that is new to this queue, and count it."""
        self.counts.sent += 1
        self._journal.message(self.name, message)
        self._journal.counted(self.name, self.counts)
        self.restore(message)

    def restore(self, message: Message) -> None:
        """Take in a message that was in this queue before."""
        self._messages[message.id] = message
        heapq.heappush(self._born, (message.enqueued_ms, message.id))
        self._schedule(message)

    def receive(self, most: int, *, now_ms: int, twist: Twist = PLAIN) -> list[Delivery]:
        """Hand out up to `most` active messages."""
        self.settle(now_ms)
        most = most if twist.most is None else min(most, twist.most)
        return [self._hand_out(message, now_ms, duplicate=twist.duplicate)
                for message in self._pick(most, among=twist.reorder)]

    def peek(self, most: int, *, now_ms: int) -> list[Delivery]:
        """Return what the next receive could hand out; nothing changes."""
        self.settle(now_ms)
        seen = self._pick(most, among=None)
        for message in seen:
            self._schedule(message)
        return [delivery(message, "") for message in seen]

    def delete(self, handle: str, *, now_ms: int) -> None:
        """Delete a message. Raises `Refused`: MessageNotExist or ReceiptHandleError."""
        self.settle(now_ms)
        message = self._held(handle, now_ms)
        self._leave(message)
        self.counts.deleted += 1
        self._journal.counted(self.name, self.counts)

    def change(self, handle: str, visibility_s: int, *, now_ms: int) -> Delivery:
        """Let a message become visible `visibility_s` from now, and give it a new handle. Raises `Refused` as `delete`."""
        self.settle(now_ms)
        message = self._held(handle, now_ms)
        message.visible_ms = message.handle_until_ms = now_ms + visibility_s * 1000
        message.tail = self._new_tail(message, now_ms=now_ms)
        self._journal.touched(message)
        self._schedule(message)
        return delivery(message, handles.whole(message.id, message.tail))

    def settle(self, now_ms: int) -> None:
        """Let the time that has passed take effect: retention ends, delays end, visibility ends."""
        self._expire(now_ms)
        while self._coming and self._coming[0][0] <= now_ms:
            _, stamp, message_id = heapq.heappop(self._coming)
            message = self._messages.get(message_id)
            if message is None or message.stamp != stamp:
                continue
            if not (self._is_dead(message) and self._bury(self, message)):
                heapq.heappush(self._active, (message.draft.priority, message.order, stamp, message_id))

    def next_change_ms(self) -> int | None:
        """Return when next, at the earliest, a message becomes active by itself."""
        while self._coming and not self._is_fresh(self._coming[0][2], self._coming[0][1]):
            heapq.heappop(self._coming)
        return self._coming[0][0] if self._coming else None

    def buried(self, message: Message) -> None:
        """Let a message go that the dead letters have taken."""
        self._leave(message)
        self.counts.dead += 1
        self._journal.counted(self.name, self.counts)

    def empty(self) -> None:
        """Delete every message, as the queue is being deleted."""
        self.counts.deleted += len(self._messages)
        self._messages.clear()
        self._journal.counted(self.name, self.counts)

    def census(self, now_ms: int) -> dict[State, int]:
        """Return how many messages are in each state."""
        self.settle(now_ms)
        result = dict.fromkeys(State, 0)
        for message in self._messages.values():
            result[message.state(now_ms)] += 1
        return result

    def oldest_ms(self) -> int | None:
        """Return when the oldest message came, or None where there is none."""
        return min((message.enqueued_ms for message in self._messages.values()), default=None)

    def _hand_out(self, message: Message, now_ms: int, *, duplicate: bool) -> Delivery:
        message.dequeues += 1
        if message.first_dequeued_ms is None:
            message.first_dequeued_ms = now_ms
        message.handle_until_ms = message.visible_ms = now_ms + self.attributes.visibility_s * 1000
        message.tail = self._new_tail(message, now_ms=now_ms)
        handed = delivery(message, handles.whole(message.id, message.tail))
        if duplicate:
            message.visible_ms = now_ms
        self._journal.touched(message)
        self._schedule(message)
        return handed

    def _new_tail(self, message: Message, *, now_ms: int) -> str:
        return handles.tail(priority=message.draft.priority, now_ms=now_ms, visibility_ms=message.handle_until_ms - now_ms,
                            dequeues=message.dequeues, order=message.order)

    def _pick(self, most: int, *, among: random.Random | None) -> list[Message]:
        """Take up to `most` messages off the heap of active ones; what they become is the caller's."""
        spread = self._pop_active(most if among is None else max(most, _SPREAD))
        if among is None:
            return spread
        among.shuffle(spread)
        for message in spread[most:]:
            self._schedule(message)
        return spread[:most]

    def _pop_active(self, most: int) -> list[Message]:
        found: list[Message] = []
        while self._active and len(found) < most:
            _, _, stamp, message_id = heapq.heappop(self._active)
            if self._is_fresh(message_id, stamp):
                found.append(self._messages[message_id])
        return found

    def _held(self, handle: str, now_ms: int) -> Message:
        message_id, tail = handles.parts(handle)
        message = self._messages.get(message_id)
        if message is None or message.tail != tail or now_ms >= message.handle_until_ms:
            raise message_missing()
        return message

    def _is_dead(self, message: Message) -> bool:
        return self.dead_letters is not None and message.dequeues >= self.dead_letters.max_receives

    def _is_fresh(self, message_id: str, stamp: int) -> bool:
        message = self._messages.get(message_id)
        return message is not None and message.stamp == stamp

    def _schedule(self, message: Message) -> None:
        """Enter a message anew where it will next be looked for; the entries it had are stale from now on."""
        message.stamp = next(self._stamps)
        heapq.heappush(self._coming, (message.visible_ms, message.stamp, message.id))
        if len(self._coming) + len(self._active) + len(self._born) > 6 * len(self._messages) + 256:
            self._sweep()

    def _sweep(self) -> None:
        """Throw stale entries out of the heaps, which else would keep those of deleted messages for days."""
        self._active = [entry for entry in self._active if self._is_fresh(entry[3], entry[2])]
        self._coming = [entry for entry in self._coming if self._is_fresh(entry[2], entry[1])]
        self._born = [entry for entry in self._born if entry[1] in self._messages]
        heapq.heapify(self._active)
        heapq.heapify(self._coming)
        heapq.heapify(self._born)

    def _expire(self, now_ms: int) -> None:
        before_ms = now_ms - self.attributes.retention_s * 1000
        expired = 0
        while self._born and self._born[0][0] <= before_ms:
            message = self._messages.get(heapq.heappop(self._born)[1])
            if message is not None:
                self._leave(message)
                expired += 1
        if expired:
            self.counts.expired += expired
            self._journal.counted(self.name, self.counts)

    def _leave(self, message: Message) -> None:
        del self._messages[message.id]
        self._journal.message_gone(message.id)


def check_fits(draft: Draft, attributes: Attributes) -> None:
    """Raise `Refused` (InvalidArgument) if the message's body is empty or longer than the queue allows."""
    if not 1 <= draft.size_bytes <= attributes.max_message_bytes:
        raise Refused("InvalidArgument",
                      f"The value of MessageBody should between 1 and {attributes.max_message_bytes} bytes.")
