"""kombu's channel on MNS: publishing, consuming and acknowledging. What is about queues: `administration`.

Exchanges and bindings are kombu's own and live in this process only; what is published without an exchange goes to the
queue that its routing key names, which is how to reach other processes. Acknowledging may be done from any thread.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from routing.mns import wire
from routing.mns.administration import Administration
from routing.mns.errors import Unreachable, Unroutable
from routing.mns.inbox import Delivery
from routing.mns.intake import Intake
from routing.mns.link import Link
from routing.mns.pollers import Poller
from routing.mns.rooms import Room, Slot

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Consumer:
    tag: str
    callback: Callable[[Any], Any]
    no_ack: bool


class Channel(Administration):
    """A channel of a `transport.Transport`."""

    do_restore = False  # kombu's way is to send a copy; ours gives the message itself back
    body_encoding = "utf-8"
    from_transport_options = ()

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        self._pid: int = connection.pid  # the locks and leases are that process's, also for channels made after a fork
        self._link: Link = connection.link
        self.closed = False
        self.room = Room()
        self._takers: dict[str, deque[_Consumer]] = {}  # by kombu's name of the queue
        self._pollers: dict[str, Poller] = {}
        self._ending: list[Poller] = []
        super().__init__(connection, **kwargs)

    # Publishing

    def _inplace_augment_message(self, message: dict[str, Any], exchange: str, routing_key: str) -> None:
        wire.compressed(message, self._link.options.compress_above)
        body = message["body"]
        if isinstance(body, bytes) and (text := _text(body)) is not None and not message["headers"].get("compression"):
            message["body"] = text
        super()._inplace_augment_message(message, exchange, routing_key)

    def encode_body(self, body: Any, encoding: str | None = None) -> tuple[Any, str | None]:
        """As kombu's; what is no text becomes base64."""
        encoded = super().encode_body(body, "base64" if isinstance(body, bytes) else encoding)
        return cast(tuple[Any, str | None], encoded)

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        self._link.post(self._link.name(queue), message)

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> Any:
        if exchange and exchange not in self.state.exchanges:
            raise Unroutable(f"exchange {exchange!r} was never declared on this connection, so nobody can get the message; "
                             "declare it and bind a queue, or publish to the queue itself (exchange '')")
        return super()._lookup(exchange, routing_key, default)

    # Consuming

    def basic_consume(self, queue: str, no_ack: bool, callback: Callable[[Any], Any], consumer_tag: str,
                      **_: Any) -> None:
        """Have the queue's messages brought to `callback`, in the thread that drains the connection."""
        self._refuse_fork()
        self._link.queues.get(self._link.name(queue))
        self._consumers.add(consumer_tag)
        self._tag_to_queue[consumer_tag] = queue
        self._active_queues.append(queue)
        self._takers.setdefault(queue, deque()).append(_Consumer(consumer_tag, callback, no_ack))
        if queue not in self._pollers:
            self._pollers[queue] = Poller(self._link, self, queue, self.room)
            self._pollers[queue].start()

    def basic_cancel(self, consumer_tag: str) -> None:
        """End a consumer. What was received for its queue and not delivered is given back."""
        if consumer_tag not in self._consumers:
            return
        self._consumers.remove(consumer_tag)
        queue = self._tag_to_queue.pop(consumer_tag)
        self._active_queues.remove(queue)
        remaining = deque(taker for taker in self._takers[queue] if taker.tag != consumer_tag)
        self._takers[queue] = remaining
        if not remaining:
            del self._takers[queue]
            poller = self._pollers.pop(queue)
            poller.stop()
            self._ending = [one for one in self._ending if not one.join(0.0)] + [poller]

    def deliver(self, delivery: Delivery) -> None:
        """Bring a message to one of its queue's consumers, each in turn."""
        takers = self._takers.get(delivery.queue)
        if not takers:
            self._link.leases.give_back(delivery.lease)
            return
        taker = takers[0]
        takers.rotate(-1)
        delivery.lease.slot.deliver()
        message = self.Message(delivery.message, channel=self)
        if taker.no_ack:
            self._link.leases.finish(delivery.lease)
        taker.callback(message)

    def drain_events(self, timeout: float | None = None, callback: Any = None) -> None:  # noqa: ARG002 - as kombu calls it
        """Wait for one message of the connection and deliver it. Raises TimeoutError."""
        self.connection.drain_events(self.connection, timeout=timeout)

    def basic_get(self, queue: str, no_ack: bool = False, **_: Any) -> Any:
        """Return a message if the service has one at hand, else None."""
        self._refuse_fork()
        name = self._link.name(queue)
        visibility_s = self._link.queues.get(name).visibility_s
        intake = Intake(self._link, self, queue)
        for received in self._link.service.receive(name, 1, wait_s=0):
            lease = intake.hold(received, Slot.delivered(self.room), visibility_s=visibility_s)
            if delivery := intake.take(received, lease):
                if no_ack:
                    self._link.leases.finish(lease)
                return self.Message(delivery.message, channel=self)
        return None

    # Acknowledging

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """The message is done, and with `multiple` all that this channel received before it."""
        lease = self._link.leases.get(delivery_tag)
        if lease is None:
            _log.warning("a message was acknowledged that is not held any more: its channel was closed meanwhile, or it "
                         "was acknowledged before; in the first case it is received again")
            return
        if multiple:
            for earlier in self._link.leases.of(self.room):
                if earlier is lease:
                    break
                if earlier.slot.is_delivered:
                    self._link.leases.finish(earlier)
        self._link.leases.finish(lease)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give the message back, or delete it for good."""
        lease = self._link.leases.get(delivery_tag)
        if lease is None:
            _log.warning("a message was rejected that is not held any more")
        elif requeue:
            self._link.leases.give_back(lease)
        else:
            _log.info("message %s of queue %s was rejected and is deleted", lease.message_id, lease.queue)
            self._link.leases.finish(lease)

    def basic_recover(self, requeue: bool = False) -> None:
        """Give back all messages that were not acknowledged."""
        if not requeue:
            raise NotImplementedError("MNS cannot deliver a message again to the same consumer; recover with requeue=True")
        for lease in self._link.leases.of(self.room):
            self._link.leases.give_back(lease)

    def basic_qos(self, prefetch_size: int = 0, prefetch_count: int = 0,  # noqa: ARG002 - AMQP has it
                  apply_global: bool = False) -> None:  # noqa: ARG002 - each channel has one count here
        """Set how many unacknowledged messages this channel may hold; 0: no limit."""
        self.room.set_limit(prefetch_count)

    # Ending

    def stop_polling(self) -> None:
        """Cancel all consumers. Returns at once."""
        for consumer_tag in list(self._consumers):
            self.basic_cancel(consumer_tag)

    def close(self, until: float | None = None) -> None:
        """Stop polling and give back what is not acknowledged, within the option `close_within_s` or until the monotonic
        time `until`. In a process forked from the one that made the channel, only forget it."""
        if self.closed:
            return
        self.closed = True
        if self._pid == os.getpid():
            until = until or time.monotonic() + self._link.options.close_within_s
            self.stop_polling()
            self._give_back_all(until)
            late = [poller for poller in self._ending if not poller.join(until)]
            self._give_back_all(until)
            if late:
                _log.warning("%d polls are still under way; what they bring is given back if this process lives on, and "
                             "can else be received again when its visibility timeout ends", len(late))
        if self.connection is not None:
            self.connection.close_channel(self)
        self.exchange_types = None

    def _give_back_all(self, until: float) -> None:
        self._link.leases.close(self._link.leases.of(self.room), until=until)

    def _refuse_fork(self) -> None:
        if self._pid != os.getpid():
            raise Unreachable(f"this connection was made by process {self._pid}, from which this one was forked; make a "
                              "new one")


def _text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
