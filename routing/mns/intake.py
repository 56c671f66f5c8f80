"""What becomes of a message that was just received: it is delivered, put aside, sent on, or given back.

Put aside, into the queue's dead queue, is what was taken too often without being done, for it may be what kills its takers,
and what can never be read. The copy there is the message as it was, with the reason in its properties.
"""

import logging
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from routing.mns import wire
from routing.mns.errors import BadBody, BadRequest, MnsError
from routing.mns.inbox import Delivery
from routing.mns.leases import Lease
from routing.mns.link import Link
from routing.mns.names import dead_name, is_dead_name
from routing.mns.options import LONGEST_VISIBILITY_S
from routing.mns.rooms import Slot
from routing.mns.service import Received

_log = logging.getLogger(__name__)

_LATER_S = 30  # what cannot be handled now is tried again after so long
_EARLY_S = 60  # so much before its ETA a message may stay in a worker


class Intake:
    """Takes messages of one queue, `queue` for kombu and `name` in MNS, for one channel."""

    def __init__(self, link: Link, channel: Any, queue: str) -> None:
        self._link, self._channel, self._queue = link, channel, queue
        self._name = link.name(queue)

    def hold(self, received: Received, slot: Slot, *, visibility_s: int) -> Lease:
        """Hold the message from now on; it was handed out for the queue's `visibility_s`."""
        self._link.options.figures.count("received")
        return self._link.leases.add(str(uuid.uuid4()), self._name, received, visibility_s=visibility_s, slot=slot)

    def take(self, received: Received, lease: Lease) -> Delivery | None:
        """Return the message for its consumer; None if it does not go there, and is no longer held."""
        if received.dequeue_count > self._link.options.max_receives and not is_dead_name(self._name):
            self._put_aside(lease, received, f"taken {received.dequeue_count - 1} times and never done")
            return None
        try:
            message = self._open(received, lease.tag)
        except BadBody as exc:
            self._put_aside(lease, received, str(exc))
        except MnsError as exc:
            _log.warning("the body of message %s of queue %s is not to be had now; trying again in %d s: %s",
                         received.message_id, self._name, _LATER_S, exc)
            self._link.leases.give_back(lease, after_s=_LATER_S)
        else:
            lease.headers, lease.object_name = message["headers"], wire.object_of(received.body)
            if not self._send_on(lease, received, message):
                return Delivery(self._channel, self._queue, message, lease)
        return None

    def _open(self, received: Received, tag: str) -> dict[str, Any]:
        message = wire.opened(received.body, self._link.store)
        message["headers"] = message.get("headers") or {}
        properties = message["properties"]
        properties["delivery_tag"] = tag
        properties["delivery_info"] |= {
            "redelivered": received.dequeue_count > 1, "queue": self._queue, "message_id": received.message_id,
            "dequeue_count": received.dequeue_count} | ({"dead": received.properties} if received.properties else {})
        return message

    def _send_on(self, lease: Lease, received: Received, message: dict[str, Any]) -> bool:
        """Send a message whose ETA is still far, since it is further off than a delay may be here, on its way again."""
        eta = wire.eta_of(message)
        if eta is None or (eta - datetime.now(UTC)).total_seconds() <= _EARLY_S:
            return False
        try:
            self._link.keep_body(lease.object_name)
            self._link.send(self._name, received.body, delay_s=wire.delay_s(message))
        except MnsError as exc:
            _log.warning("message %s of queue %s cannot be delayed further now: %s", lease.message_id, self._name, exc)
            self._link.leases.give_back(lease, after_s=_LATER_S)
        else:
            lease.object_name = None  # the new message refers to it
            self._link.leases.finish(lease)
        return True

    def _put_aside(self, lease: Lease, received: Received, why: str) -> None:
        if is_dead_name(self._name):  # there is nowhere else to put it; whoever looks there may still want it
            _log.error("message %s of queue %s cannot be read and stays there: %s", lease.message_id, self._name, why)
            self._link.leases.give_back(lease, after_s=LONGEST_VISIBILITY_S)
            return
        dead = dead_name(self._name)
        properties = {"reason": why[:500], "queue": self._name, "message-id": received.message_id,
                      "dequeue-count": str(received.dequeue_count)}
        with suppress(MnsError):  # it may be why the message is put aside that there is none
            self._link.keep_body(wire.object_of(received.body))
        try:
            try:
                self._link.send(dead, received.body, properties=properties)
            except BadRequest as exc:  # the properties may not fit beside a body of full size
                _log.info("putting message %s aside without its reason: %s", received.message_id, exc)
                self._link.send(dead, received.body)
        except MnsError as exc:
            _log.error("message %s of queue %s is to be put aside (%s), which fails; trying again in %d s: %s",
                       received.message_id, self._name, why, _LATER_S, exc)
            self._link.leases.give_back(lease, after_s=_LATER_S)
            return
        self._link.options.figures.count("dead")
        _log.error("message %s of queue %s was put aside in queue %s: %s", received.message_id, self._name, dead, why)
        self._link.leases.finish(lease)
