"""Whom this process believes to be who, so that a call needs neither Redis nor a signature's check.

Credentials that were found good are believed for a few seconds. What is revoked meanwhile is published by those who revoke
it, and heard here, so it is believed for about a millisecond more; the few seconds are for when hearing fails. Whatever was
revoked between the question and the answer, or before the hearing began, is not believed at all.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.settings import Settings
from app.store import open_redis
from app.subscription import BLOCK_S, hear

if TYPE_CHECKING:
    from app.api.caller import Caller

BELIEVED_S = 5.0  # what is revoked unheard may work this much longer
_REMEMBERED = 20_000  # credentials; beyond that the memory starts afresh


@dataclass(frozen=True, slots=True)
class Belief:
    """Who somebody is, until when (Unix s), and what ends it when it is revoked, as `session:<sid>`."""

    caller: "Caller"
    until: float
    names: tuple[str, ...]


class Beliefs:
    """Believed credentials. The hearing thread lives while there are any. Safe to share between threads."""

    def __init__(self, settings: Settings, *, also: Callable[[], None] = lambda: None) -> None:
        """`also` is told to forget when everything is."""
        self._settings = settings
        self._also = also
        self._believed: dict[str, Belief] = {}
        self._by_name: dict[str, set[str]] = defaultdict(set)
        self._until = 0.0  # no belief lasts longer (Unix s)
        self._hearing = False
        self._lock = threading.Lock()
        self.revocations = 0  # heard so far; read it before you ask, and pass it to `keep`

    def get(self, credentials: str) -> "Caller | None":
        """Return who sent these, if that is believed."""
        belief = self._believed.get(credentials)
        return belief.caller if belief and time.time() < belief.until else None

    def keep(self, credentials: str, belief: Belief, *, since: int) -> None:
        """Believe, unless something was revoked since there were `since` revocations: it may have been this."""
        with self._lock:
            if since != self.revocations:
                return
            if len(self._believed) >= _REMEMBERED:
                self._clear()
            self._believed[credentials] = belief
            for name in belief.names:
                self._by_name[name].add(credentials)
            self._until = max(self._until, belief.until)
            if not self._hearing:
                threading.Thread(target=self._hear, name="tandem-revocations", daemon=True).start()
                self._hearing = True  # by a thread that did start

    def _hear(self) -> None:
        with open_redis(self._settings, timeout_s=BLOCK_S + self._settings.redis_timeout_s) as client:
            hear(client, "revoked", each=self._revoke, subscribed=self._forget_all, wanted=self._wanted)

    def _wanted(self) -> bool:
        """Whether anything is believed; if not, the thread that asks is to end, and the next belief begins another."""
        with self._lock:
            self._hearing = time.time() < self._until
            return self._hearing

    def _revoke(self, told: bytes) -> None:
        name = told.decode()
        if name == "everything":
            self._forget_all()
            return
        with self._lock:
            self.revocations += 1
            for credentials in self._by_name.pop(name, ()):
                self._believed.pop(credentials, None)

    def _forget_all(self) -> None:
        self._also()
        with self._lock:
            self.revocations += 1
            self._clear()

    def _clear(self) -> None:
        self._believed.clear()
        self._by_name.clear()
