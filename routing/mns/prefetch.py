"""kombu's view of a channel's room: the prefetch count and what is not acknowledged."""

from typing import Any


class Prefetch:
    """What kombu calls QoS. The channel's leases hold the messages themselves."""

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        self._channel = channel
        if prefetch_count:
            channel.room.set_limit(prefetch_count)

    @property
    def prefetch_count(self) -> int:
        """How many unacknowledged messages the channel may hold; 0: no limit."""
        return int(self._channel.room.limit)

    @prefetch_count.setter
    def prefetch_count(self, count: int) -> None:
        self._channel.room.set_limit(count or 0)

    def can_consume(self) -> bool:
        """Whether another message may be received now."""
        return bool(self._channel.room.free)

    def can_consume_max_estimate(self) -> int | None:
        """How many messages may be received now; None: no limit."""
        return self._channel.room.free if self.prefetch_count else None

    def ack(self, delivery_tag: str) -> None:
        """As Channel.basic_ack."""
        self._channel.basic_ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """As Channel.basic_reject."""
        self._channel.basic_reject(delivery_tag, requeue=requeue)

    def restore_unacked(self) -> None:
        """Give back what is not acknowledged."""
        self._channel.basic_recover(requeue=True)
