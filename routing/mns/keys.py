"""Access keys: what one is, what a provider of them is, what can be wrong with them, and how fetched ones are kept fresh.

Both of Alibaba's SDKs ask a provider, `get_credentials()`, before each request that they sign, and `Credentials` answers to
both: by methods to that of MNS, by attributes to that of OSS. Where keys come from: `credentials.find`.

Threads may share a provider, and so may a process and its forked children. No secret stands in a `repr`, a log line or an
error's message.
"""

import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from routing.mns.errors import Refused

_log = logging.getLogger(__name__)


class CredentialsUnusable(Refused):
    """There are no keys to sign with: whoever runs this must set something right. Trying again helps only after that."""


class NoCredentials(CredentialsUnusable):
    """Keys were found in none of the places where they are looked for."""


class CredentialsIncomplete(CredentialsUnusable):
    """Where keys were looked for, some of what makes them up is missing or cannot be a key."""


class CredentialsFileBad(CredentialsUnusable):
    """The file of the keys is missing, cannot be read, or does not hold them."""


class RoleUnavailable(CredentialsUnusable):
    """The metadata server of the ECS instance gives no keys."""


class CredentialsExpired(CredentialsUnusable):
    """The temporary keys are past their end, and no newer ones are there."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A pair of keys, with a token if they are temporary (STS)."""

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str = field(default="", repr=False)  # empty: none. The SDK of MNS fails on None
    expires_at: float | None = None  # Unix time; None: not known, or never

    def get_access_key_id(self) -> str:
        """As the SDK of MNS asks."""
        return self.access_key_id

    def get_access_key_secret(self) -> str:
        """As the SDK of MNS asks."""
        return self.access_key_secret

    def get_security_token(self) -> str:
        """As the SDK of MNS asks; empty if there is none."""
        return self.security_token

    def has_keys(self) -> bool:
        """As the SDK of OSS asks."""
        return bool(self.access_key_id and self.access_key_secret)


class Provider(Protocol):
    """Where the SDKs get keys from, before each request."""

    def get_credentials(self) -> Credentials:
        """Return keys that are good now. Raises CredentialsUnusable."""


def fault(name: str, value: object) -> str | None:
    """Return what keeps `value` from being the part `name` of a pair of keys, without telling the value; None: nothing."""
    if value is None or value == "":
        return f"{name} is missing"
    if not isinstance(value, str):
        return f"{name} is not text"
    if not value.isascii() or not value.isprintable() or " " in value:
        return f"{name} holds a blank, a line break or another character that no key has"
    return None


def utc(unix_time: float) -> str:
    """Return the time as operators read it: `2026-11-25 18:00:00 UTC`."""
    return datetime.fromtimestamp(unix_time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def unix_time(value: object) -> float:
    """Return the Unix time of an `Expiration`: ISO 8601 text (`2026-11-25T18:00:00Z`; UTC if no zone is named) or seconds.
    Raises ValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        raise ValueError("neither text nor a number")
    time = datetime.fromisoformat(value)
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()


class Refreshing(ABC):
    """Keys that are fetched, kept, and fetched again when it is time. A subclass says how and when.

    If fetching fails while the kept keys are still good, those go on being used and the log says so. One thread fetches;
    others meanwhile use the kept keys, and wait only if those are no good.
    """

    #: How long before their end temporary keys are fetched anew.
    margin_s = 60.0
    #: How long after a fetch that brought nothing new, or failed, the next may follow.
    pause_s = 1.0

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now  # Unix time
        self._lock, self._pid = threading.Lock(), os.getpid()
        self._kept: Credentials | None = None
        self._failure: CredentialsUnusable | None = None  # of the last fetch
        self._fetched_at: float | None = None

    @abstractmethod
    def fetch(self) -> Credentials:
        """Return the keys as they are at their source. Raises CredentialsUnusable."""

    def changed(self) -> bool:
        """Whether the source shows, at little cost, that it holds other keys than those fetched last; False where only
        fetching would tell."""
        return False

    def get_credentials(self) -> Credentials:
        """Return keys that are good now. Raises CredentialsUnusable."""
        if self._pid != os.getpid():  # a fork may have copied the lock while another thread held it
            self._lock, self._pid = threading.Lock(), os.getpid()
        kept = self._kept
        good = kept is not None and not self._ended(kept)
        if good and not self._due():
            assert kept is not None
            return kept
        if not self._lock.acquire(blocking=not good):
            assert kept is not None  # good, and another thread is fetching
            return kept
        try:
            if self._due():
                self._fetch()
            return self._usable()
        finally:
            self._lock.release()

    def _ended(self, keys: Credentials) -> bool:
        return keys.expires_at is not None and self._now() >= keys.expires_at

    def _due(self) -> bool:
        if self._fetched_at is None or self.changed():
            return True
        if self._kept is not None and self._failure is None and not self._near_end(self._kept):
            return False
        return not 0 <= self._now() - self._fetched_at < self.pause_s  # below 0: the clock was set back

    def _near_end(self, keys: Credentials) -> bool:
        return keys.expires_at is not None and self._now() >= keys.expires_at - self.margin_s

    def _fetch(self) -> None:
        self._fetched_at = self._now()
        try:
            self._kept = self.fetch()
        except CredentialsUnusable as failure:
            if self._kept is not None and not self._ended(self._kept) and str(failure) != str(self._failure):
                _log.warning("%s; going on with the keys held, which are good %s", failure, self._until(self._kept))
            self._failure = failure
        else:
            if self._failure is not None:
                _log.info("keys fetched again; they are good %s", self._until(self._kept))
            self._failure = None

    @staticmethod
    def _until(keys: Credentials) -> str:
        return "until they are withdrawn" if keys.expires_at is None else f"until {utc(keys.expires_at)}"

    def _usable(self) -> Credentials:
        if self._kept is not None and not self._ended(self._kept):
            return self._kept
        if self._failure is not None:
            # a new one each time: threads that raise one and the same exception spoil each other's traceback
            raise type(self._failure)(str(self._failure))
        assert self._kept is not None
        assert self._kept.expires_at is not None
        raise CredentialsExpired(f"{self}: the keys expired at {utc(self._kept.expires_at)} and no newer ones are there; "
                                 "see to what renews them, or to this machine's clock")
