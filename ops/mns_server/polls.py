"""Receives that wait for a message: in the order in which they came, each queue a line of its own."""

import threading
from collections import deque
from dataclasses import dataclass, field

from ops.mns_server.errors import Refused
from ops.mns_server.message import Delivery
from ops.mns_server.queue import Queue, Twist


@dataclass(slots=True, eq=False)
class Poll:
    """One waiting receive. `done` is set when it has deliveries, or a refusal, or its time is over."""

    most: int
    until_ms: int
    twist: Twist
    done: threading.Event = field(default_factory=threading.Event)
    deliveries: list[Delivery] = field(default_factory=list)
    refusal: Refused | None = None


class Polls:
    """The lines. Its owner holds a lock around every call."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Poll]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def count(self, queue: str) -> int:
        """Return how many wait at the queue."""
        return len(self._lines.get(queue, ()))

    def queues(self) -> list[str]:
        """Return the queues at which somebody waits."""
        return list(self._lines)

    def join(self, queue: str, poll: Poll) -> None:
        """Stand at the end of the queue's line."""
        self._lines.setdefault(queue, deque()).append(poll)

    def serve(self, queue: Queue, now_ms: int) -> None:
        """Hand the queue's active messages to those who wait, first come first served, and let those go whose time is
        over."""
        line = self._lines.get(queue.name)
        while line:
            found = queue.receive(line[0].most, now_ms=now_ms, twist=line[0].twist)
            if not found:
                break
            poll = line.popleft()
            poll.deliveries = found
            poll.done.set()
        for poll in [one for one in line or () if one.until_ms <= now_ms]:
            self._lines[queue.name].remove(poll)
            poll.done.set()
        if not line:
            self._lines.pop(queue.name, None)

    def next_end_ms(self, queue: str) -> int:
        """Return when the first of the queue's waiters, of whom there must be one, gives up."""
        return min(poll.until_ms for poll in self._lines[queue])

    def dismiss(self, queue: str, refusal: Refused | None) -> None:
        """Let everybody go who waits at the queue."""
        for poll in self._lines.pop(queue, ()):
            poll.refusal = refusal
            poll.done.set()
