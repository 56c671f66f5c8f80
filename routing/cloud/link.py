"""Whether a thread reaches the queues in MNS: told to operators, and logged once for each change, not for each try."""

import logging
import random
import time
from collections.abc import Callable

from app import logs
from app.cloud_registry import LINK_SAID_S, CloudRegistry
from app.errors import StoreUnavailable

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


class Link:
    """How one thread stands. `who` is its name, e.g. "queue@server-1 hearing". For the thread itself only."""

    def __init__(self, registry: CloudRegistry, who: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._who = who
        self._clock = clock
        self._why: str | None = None  # it does not reach them; "": it does; None: it has not tried
        self._since_s = 0.0
        self._say_s = 0.0  # when to say so again
        self._whole_s = 0.0  # the longest that the next pause may be

    def up(self) -> None:
        """The queues were reached. May be called as often as one likes."""
        self._whole_s = 0.0
        if self._why:
            logs.event("cloud_reachable", thread=self._who, after_s=round(self._clock() - self._since_s, 1))
        self._stand("")

    def down(self, exc: BaseException) -> None:
        """They were not reached."""
        self._whole_s = min(2 * self._whole_s, _LONGEST_PAUSE_S) or _FIRST_PAUSE_S
        why = f"{type(exc).__name__}: {exc}"
        if not self._why:
            logs.event("cloud_unreachable", level=logging.WARNING, thread=self._who, why=why)
        self._stand(why)

    @property
    def is_down(self) -> bool:
        """Whether the last try failed."""
        return bool(self._why)

    @property
    def pause_s(self) -> float:
        """How long to wait before the next try: twice as long after each failure, to half a minute."""
        return self._whole_s * random.uniform(0.75, 1.0)  # or all threads would try at the same time

    def tell(self) -> None:
        """Repeat how it stands, if it is time: what is not repeated is not believed for long."""
        if self._why is not None and self._clock() >= self._say_s:
            self._say(self._why)

    def end(self) -> None:
        """The thread ends."""
        try:
            self._registry.hang_up(self._who)
        except StoreUnavailable as exc:
            logs.event("cloud_link_unsaid", thread=self._who, why=str(exc))

    def _stand(self, why: str) -> None:
        changed = self._why is None or bool(why) != bool(self._why)
        if changed:
            self._since_s = self._clock()
        self._why = why
        if changed or self._clock() >= self._say_s:
            self._say(why)

    def _say(self, why: str) -> None:
        self._say_s = self._clock() + LINK_SAID_S
        try:
            self._registry.say(self._who, why, for_s=self._clock() - self._since_s)
        except StoreUnavailable as exc:
            logs.event("cloud_link_unsaid", level=logging.DEBUG, thread=self._who, why=str(exc))
