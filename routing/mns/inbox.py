"""Where pollers put what they received, and where the thread that drains the connection takes it."""

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from routing.mns.errors import MnsError
from routing.mns.leases import Lease

#: How often a wait looks whether the worker is to stop. Celery waits 2 s at a time, and once more after its signal.
_LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that waits for its consumer."""

    channel: Any  # the one whose poller received it
    queue: str  # kombu's name
    message: dict[str, Any] = field(repr=False)  # kombu's
    lease: Lease


class Inbox:
    """Messages, and what goes wrong with receiving them. Threads may share it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[Delivery] = deque()
        self._error: MnsError | None = None

    def put(self, delivery: Delivery) -> None:
        """Add a message."""
        with self._changed:
            self._waiting.append(delivery)
            self._changed.notify()

    def fail(self, error: MnsError) -> None:
        """Let the next `get` raise this, once."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def get(self, timeout_s: float | None) -> Delivery:
        """Wait for a message and return it. Raises TimeoutError, early in the main thread of a Celery worker that was told
        to stop, and what `fail` was given."""
        until = math.inf if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not self._waiting and self._error is None:
                left_s = until - time.monotonic()
                if left_s <= 0 or (timeout_s is not None and worker_is_stopping()):
                    raise TimeoutError("no message came in time")  # what kombu calls socket.timeout
                self._changed.wait(min(left_s, _LOOK_S))
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            return self._waiting.popleft()

    def withdraw(self, chosen: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out, and return, the messages that will not be delivered."""
        with self._changed:
            taken = [delivery for delivery in self._waiting if chosen(delivery)]
            self._waiting = deque(delivery for delivery in self._waiting if not chosen(delivery))
            return taken


def worker_is_stopping() -> bool:
    """Whether this is the main thread of a Celery worker that has got the signal to stop: it should not be kept waiting.

    Its other threads that consume go on, for as long as its last tasks run; ending their waits early would have them spin.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    state = sys.modules.get("celery.worker.state")
    told = [getattr(state, name, None) for name in ("should_stop", "should_terminate")]
    return any(exit_code is not None and exit_code is not False for exit_code in told)  # 0 means to stop
