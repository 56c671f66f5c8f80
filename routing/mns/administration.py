"""What is left of AMQP's administration: the part of kombu's channel that makes, looks at, empties and deletes queues."""

import time
from typing import Any

from amqp.protocol import queue_declare_ok_t  # type: ignore[import-untyped]
from kombu.exceptions import ChannelError
from kombu.transport import virtual
from kombu.utils.uuid import uuid

from routing.mns import wire
from routing.mns.errors import QueueMissing
from routing.mns.link import Link
from routing.mns.service import BATCH

_PURGE_S = 120.0  # a queue that others go on filling is not purged for longer
_EMPTY_ANSWERS = 3  # in a row mean that a queue is empty: a receive looks at some of its parts only


class Administration(virtual.Channel):  # type: ignore[misc]
    """The part of a channel that is about queues."""

    _link: Link
    _takers: dict[str, Any]  # consumers, by kombu's name of the queue

    def queue_declare(self, queue: str | None = None, passive: bool = False, **_: Any) -> Any:
        """Make the queue if it is missing. Only with `passive` the count of its messages is asked for, and 0 may mean that
        the service does not tell."""
        queue = queue or f"amq.gen-{uuid()}"
        if not passive:
            self._link.queues.get(self._link.name(queue))
            return queue_declare_ok_t(queue, 0, 0)
        active = self._link.queues.active(self._link.name(queue))
        if active is None:
            raise ChannelError(f"NOT_FOUND - no queue {queue!r} ({self._link.name(queue)} in MNS)", (50, 10),
                               "Channel.queue_declare", "404")
        return queue_declare_ok_t(queue, active, 0)

    def peek(self, queue: str) -> int:
        """Return how many messages of the queue could be received now, as far as the service shows them, and 16 at most;
        none where there is no queue. It takes and makes nothing, and does without the service's counters."""
        try:
            return self._link.service.peek(self._link.name(queue))
        except QueueMissing:
            return 0

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **_: Any) -> None:
        """Delete the queue and what is in it, unless it is in use here or not empty and the like was asked for."""
        if (if_unused and queue in self._takers) or (if_empty and (self._size(queue) or self.peek(queue))):
            return
        self.state.queue_bindings_delete(queue)
        self._delete(queue)

    def queue_bind(self, queue: str, exchange: str | None = None, routing_key: str = "",
                   arguments: dict[str, Any] | None = None, **_: Any) -> None:
        """Bind the queue to a direct exchange, for this connection. Raises ChannelError for others: no other process would
        know of the binding, and messages meant for all would reach none. (They may be declared, as Celery's events are,
        which nobody gets.)"""
        known = self.state.exchanges.get(exchange, {})
        if known.get("type", "direct") != "direct":
            raise ChannelError(f"NOT_IMPLEMENTED - MNS has queues only: queue {queue!r} cannot be bound to {exchange!r}, "
                               f"an exchange of type {known['type']}; use a direct one",
                               (50, 20), "Channel.queue_bind", "540")
        super().queue_bind(queue, exchange, routing_key, arguments)

    def _size(self, queue: str) -> int:
        return self._link.queues.active(self._link.name(queue)) or 0

    def _delete(self, queue: str, *_: Any, **__: Any) -> None:
        name = self._link.name(queue)
        self._link.queues.forget(name)
        self._link.service.drop(name)

    def _purge(self, queue: str) -> int:
        """Delete what can be received now; return how many those were. What is held or delayed stays."""
        name, empty = self._link.name(queue), 0
        until = time.monotonic() + _PURGE_S
        self._link.queues.get(name)
        undelivered = self._link.inbox.withdraw(lambda one: one.lease.queue == name)
        for one in undelivered:
            self._link.leases.finish(one.lease)
        deleted = len(undelivered)
        while empty < _EMPTY_ANSWERS and time.monotonic() < until:
            received = self._link.service.receive(name, BATCH, wait_s=0)
            empty = 0 if received else empty + 1
            if received:
                deleted += self._link.service.delete_all(name, [one.handle for one in received])
                for message in received:
                    self._link.forget_body(wire.object_of(message.body))
        return deleted
