"""Which services a worker takes nothing new of at the moment, and by whose wish.

The routing task's wish ends by itself when its time is over without a new word, so that a worker serves again when nobody
leads. An operator's (`celery control cancel_consumer SERVICE`) lasts until the operator takes it back. What an operator
took back from the routing task (`add_consumer`) is free until that speaks again.

Of two leaders the later one counts, as long as its word does: a Redis that lost its data counts epochs from 1 again, and
its leaders must not be refused for ever.

Written from the consumer's loop only, read from every thread.
"""

import time
from collections.abc import Callable, Iterable, Sequence

from app.errors import TandemError
from app.job import Service


class WordRefused(TandemError):
    """What the routing task, or who speaks like it, asks of a worker cannot be done."""

    code = "word-refused"
    title = "Word refused"


class Holding:
    """What is held of the services of a worker. `clock` is monotonic."""

    def __init__(self, services: Sequence[Service], clock: Callable[[], float] = time.monotonic) -> None:
        self._services = services
        self._clock = clock
        self._epoch = 0
        self._routed: frozenset[Service] = frozenset()
        self._until_s = 0.0
        self._cancelled: frozenset[Service] = frozenset()
        self._freed_s = float("-inf")

    def hear(self, epoch: int, services: Iterable[Service], for_s: float) -> None:
        """Take the routing task's word: these are held from now on, for so long, and no others by its wish. Raises
        `WordRefused` where a later leader has spoken already, and the time of its word is not over."""
        now_s = self._clock()
        if epoch < self._epoch and now_s < self._until_s:
            raise WordRefused(f"the word is of epoch {epoch}, and a leader of epoch {self._epoch} has spoken since; "
                              "another worker leads now")
        freed_s, before = self.freed_s, self.held
        self._epoch = epoch
        self._until_s = now_s + for_s
        self._routed = frozenset(services)
        self._freed_s = freed_s if set(before) <= set(self.held) else now_s

    def cancelled(self, service: Service) -> None:
        """An operator wishes that nothing new is taken of a service."""
        self._cancelled |= {service}

    def added(self, service: Service) -> None:
        """An operator wishes that a service is served again."""
        self._cancelled -= {service}
        self._routed -= {service}
        self._freed_s = self._clock()

    def holds(self, service: Service) -> bool:
        """Whether nothing new of a service is to be taken."""
        return service in self._cancelled or (service in self._routed and self._clock() < self._until_s)

    @property
    def held(self) -> tuple[Service, ...]:
        """The worker's services that are held."""
        return tuple(service for service in self._services if self.holds(service))

    @property
    def freed_s(self) -> float:
        """When something was let go last (monotonic): before that the worker had a reason to take nothing."""
        is_over = bool(self._routed) and self._clock() >= self._until_s
        return max(self._freed_s, self._until_s) if is_over else self._freed_s
