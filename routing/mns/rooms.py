"""How many messages a channel may hold: its prefetch count, shared by the pollers of its queues.

A poller takes slots before it asks, and so never receives what may not be delivered. Slots that the poll did not fill go
back at once; a filled one is free again when its message is acknowledged, rejected or given back. While none is free, a
poller sleeps and sends nothing.
"""

import threading
from collections import deque

#: Without a prefetch count, a channel holds so many messages that were not delivered yet.
UNDELIVERED = 16


class Room:
    """Slots for messages. Threads may share it; those that wait are served in turn."""

    def __init__(self, limit: int = 0) -> None:
        self._changed = threading.Condition()
        self._limit = limit  # the prefetch count; 0: none
        self._taken = 0  # asked for, or received and not delivered
        self._out = 0  # delivered and not acknowledged
        self._pollers = 0
        self._line: deque[object] = deque()

    def set_limit(self, limit: int) -> None:
        """Set the prefetch count; 0: no limit."""
        with self._changed:
            self._limit = limit
            self._changed.notify_all()

    @property
    def free(self) -> int:
        """How many messages may be asked for now."""
        return max(0, self._limit - self._taken - self._out if self._limit else UNDELIVERED - self._taken)

    @property
    def crowded(self) -> bool:
        """Whether the pollers are more than the slots, so that a poll keeps another queue's poll from being made."""
        return 0 < self._limit < self._pollers

    def join(self) -> None:
        """A poller begins to use the room."""
        with self._changed:
            self._pollers += 1

    def leave(self) -> None:
        """A poller has ended."""
        with self._changed:
            self._pollers -= 1

    def take(self, most: int, stopped: threading.Event) -> int:
        """Wait for free slots and take up to `most`, and no more than this poller's share. Return how many: 0 if `stopped`
        was set (then call `wake`)."""
        me = object()
        with self._changed:
            self._line.append(me)
            try:
                while not stopped.is_set():
                    if self._line[0] is me and (free := self.free):
                        share = -(-(self._limit or UNDELIVERED) // max(1, self._pollers))
                        taken = min(most, free, share)
                        self._taken += taken
                        return taken
                    self._changed.wait()
                return 0
            finally:
                self._line.remove(me)
                self._changed.notify_all()

    def wake(self) -> None:
        """Let those who wait in `take` look whether they are stopped."""
        with self._changed:
            self._changed.notify_all()

    def move(self, *, taken: int = 0, out: int = 0) -> None:
        """Change, by so many, the messages not delivered yet and those delivered."""
        with self._changed:
            self._taken += taken
            self._out += out
            self._changed.notify_all()


class Slot:
    """The place of one message. It was taken from the room, or `delivered` counts it as delivered at once."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self._lock = threading.Lock()
        self._stage = "taken"

    @classmethod
    def delivered(cls, room: Room) -> "Slot":
        """Return the slot of a message that was got without asking for room."""
        slot = cls(room)
        room.move(taken=1)
        slot.deliver()
        return slot

    @property
    def is_delivered(self) -> bool:
        """Whether the message was given to its consumer, and is still held."""
        return self._stage == "out"

    def deliver(self) -> None:
        """The message is given to its consumer."""
        with self._lock:
            if self._stage == "taken":
                self._stage = "out"
                self.room.move(taken=-1, out=1)

    def leave(self) -> None:
        """The message is no longer held. May be called again."""
        with self._lock:
            stage, self._stage = self._stage, "left"
        if stage == "taken":
            self.room.move(taken=-1)
        elif stage == "out":
            self.room.move(out=-1)
