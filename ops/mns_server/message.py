"""A message: what its sender said (`Draft`), what became of it (`Message`), and what a taker gets (`Delivery`).

A message is in one of three states, which follow from its fields and the time:
    delayed    not yet visible, and never handed out
    active     visible: the next receive may have it
    inactive   handed out; nobody else gets it until its visibility ends
It leaves its queue by being deleted, by moving to the dead letters, or by reaching the end of the queue's retention.
"""

import hashlib
import secrets
from dataclasses import dataclass
from enum import StrEnum

DEFAULT_PRIORITY = 8


class State(StrEnum):
    """Where a message stands."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    DELAYED = "delayed"


@dataclass(frozen=True, slots=True)
class Property:
    """A named value beside the body; `kind` is STRING, NUMBER, BOOLEAN or BINARY (whose value is base64 text)."""

    name: str
    value: str
    kind: str


@dataclass(frozen=True, slots=True)
class Draft:
    """What the sender said. `delay_s` None: as the queue has it."""

    body: str
    priority: int = DEFAULT_PRIORITY
    delay_s: int | None = None
    group: str = ""
    user_properties: tuple[Property, ...] = ()
    system_properties: tuple[Property, ...] = ()

    @property
    def size_bytes(self) -> int:
        """What counts against the limits: the body as it was sent, in UTF-8."""
        return len(self.body.encode())

    @property
    def digest(self) -> str:
        """MessageBodyMD5, upper hex: of the body as it was sent.

        In recordings of the service, that of a message with user properties is not the MD5 of its body, and by which
        rule it is made is not documented. Ours differs, too, so that nobody comes to rely on it.
        """
        text = self.body + "".join(f"\n{one.name}:{one.value}:{one.kind}" for one in self.user_properties)
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper()


@dataclass(slots=True)
class Message:
    """A message in a queue. Times are ms since 1970."""

    id: str
    draft: Draft
    order: int  # of arrival; among messages of one priority the lower goes first
    enqueued_ms: int
    visible_ms: int  # from when it may be handed out
    first_dequeued_ms: int | None = None
    dequeues: int = 0
    tail: str = ""  # the second part of its only valid handle
    handle_until_ms: int = 0  # until when that handle is good: visible_ms, but for an injected duplicate
    stamp: int = 0  # of its last change; entries of the queue's heaps that have another one are stale

    def state(self, now_ms: int) -> State:
        """Return its state at that time."""
        if now_ms >= self.visible_ms:
            return State.ACTIVE
        return State.INACTIVE if self.dequeues else State.DELAYED


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it was when it was handed out, sent or looked at (then `handle` is empty)."""

    id: str
    draft: Draft
    handle: str
    enqueued_ms: int
    first_dequeued_ms: int
    next_visible_ms: int
    dequeues: int


def delivery(message: Message, handle: str) -> Delivery:
    """Return the message as it is now. One never handed out has its arrival for the time of its first dequeue, as the
    service's documentation ("QueueMessage") says."""
    first_ms = message.enqueued_ms if message.first_dequeued_ms is None else message.first_dequeued_ms
    return Delivery(message.id, message.draft, handle, message.enqueued_ms, first_ms, message.visible_ms, message.dequeues)


def new_id() -> str:
    """Return a message id as the service makes them: 32 upper-case hex digits."""
    return secrets.token_hex(16).upper()
