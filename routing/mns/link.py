"""What a connection's channels and threads share: the service, and what is known and held of it."""

import logging
from dataclasses import dataclass
from typing import Any

from routing.mns import wire
from routing.mns.errors import MnsError, QueueMissing, Refused, Throttled
from routing.mns.inbox import Inbox
from routing.mns.leases import Leases
from routing.mns.names import mns_name
from routing.mns.options import Options
from routing.mns.patience import patiently
from routing.mns.queues import Queues
from routing.mns.service import Service
from routing.mns.stores import Store

_log = logging.getLogger(__name__)

_FIRST, _LAST = 1, 16  # priorities in MNS
_MOST = 9  # of kombu's, where it goes first


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The parts, made by `transport.Transport`."""

    options: Options
    service: Service
    queues: Queues
    leases: Leases
    store: Store | None
    inbox: Inbox

    def name(self, queue: str) -> str:
        """Return the name in MNS of a kombu queue."""
        return mns_name(queue, self.options.queue_name_prefix)

    def post(self, queue: str, message: dict[str, Any]) -> None:
        """Send a message of kombu to a queue (its name in MNS). Raises MnsError; TooLarge without a store."""
        body = wire.sealed(message, queue=queue, message_bytes=self.queues.get(queue).message_bytes, store=self.store)
        priority = _priority(message["properties"].get("priority")) if self.options.priorities else None
        try:
            self.send(queue, body, delay_s=wire.delay_s(message), priority=priority)
        except (Refused, Throttled):  # it is certain that no message refers to the object
            self.forget_body(wire.object_of(body))
            raise

    def send(self, queue: str, body: str, *, delay_s: int = 0, priority: int | None = None,
             properties: dict[str, str] | None = None) -> None:
        """Send what is fit for the wire, with the delay if the queue allows for it, else with the longest that it does. A
        queue that is missing is made, if it may be; a request that may have been carried out is not sent again. Raises
        MnsError."""
        most_s = self.queues.get(queue).longest_delay_s

        def send() -> None:
            self.service.send(queue, body, delay_s=min(delay_s, most_s), priority=priority, properties=properties)

        try:
            patiently(send, on=Throttled)
        except QueueMissing:  # it was there, and is no longer; nothing was sent
            self.queues.forget(queue)
            self.queues.get(queue)
            patiently(send, on=Throttled)
        self.options.figures.count("sent")

    def keep_body(self, name: str | None) -> None:
        """Put the object, if there is one, into the store anew: a message that is sent on may outlive the store's expiry,
        which counts from the last put. Raises MnsError."""
        if name is not None and self.store is not None:
            self.store.put(name, self.store.get(name))

    def forget_body(self, name: str | None) -> None:
        """Delete the object, if there is one; if that fails, it stays until the store's own expiry."""
        if name is None or self.store is None:
            return
        try:
            self.store.delete(name)
        except MnsError as exc:
            _log.warning("a message's body stays in the store until its own expiry: %s", exc)


def _priority(asked: Any) -> int | None:
    """Return the priority in MNS for one of kombu's; None, which is the service's default, for what is none."""
    if not isinstance(asked, int):
        return None
    return _LAST - round(min(max(asked, 0), _MOST) * (_LAST - _FIRST) / _MOST)
