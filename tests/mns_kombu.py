"""kombu connections to a local MNS server, and what the kombu tests do with them."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from kombu import Connection, Consumer, Message, Queue

from ops.mns_server import LocalMns
from ops.waiting import wait_until
from routing.mns import install

KEY = ("kombu", "secret/with+odd@characters:")
#: Without long polls, for whose end a connection would wait when it closes; some tests have them.
OPTIONS: dict[str, Any] = {"visibility_timeout": 30, "wait_time_seconds": 0}
_PATIENCE_S = 20.0


def address(port: int) -> str:
    """The broker's URL, with the key in it."""
    return f"mns://{KEY[0]}:{quote(KEY[1], safe='')}@127.0.0.1:{port}//"


def connect(mns: LocalMns, **options: Any) -> Connection:
    """A connection, not yet made; its user closes it."""
    install()
    return Connection(address(mns.port), transport_options=OPTIONS | options)


@contextmanager
def consuming(connection: Connection, *queues: Queue, prefetch: int = 0, no_ack: bool = False) -> Iterator["Inbox"]:
    """Consume from these queues; what comes is neither acknowledged nor rejected."""
    inbox = Inbox(connection)
    with connection.channel() as channel:
        consumer = Consumer(channel, list(queues), callbacks=[inbox.put], no_ack=no_ack,
                            accept=["json", "pickle", "application/data", "text/plain"])
        if prefetch:
            consumer.qos(prefetch_count=prefetch)
        with consumer:
            yield inbox


class Inbox:
    """What was delivered, in order."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.messages: list[Message] = []

    def put(self, _body: Any, message: Message) -> None:
        """kombu's callback."""
        self.messages.append(message)

    @property
    def bodies(self) -> list[Any]:
        """What the messages say."""
        return [message.payload for message in self.messages]

    def get(self, *, count: int = 1) -> list[Message]:
        """Wait until `count` more have come, and return those."""
        before = len(self.messages)
        self.until(lambda: len(self.messages) >= before + count, what=f"{count} messages")
        return self.messages[before:]

    def until(self, condition: Callable[[], bool], *, what: str) -> None:
        """Take deliveries until `condition` holds."""

        def step() -> bool:
            if not condition():
                self._drain(0.2)
            return condition()

        wait_until(step, timeout_s=_PATIENCE_S, what=what, every_s=0.0)

    def none_comes(self, within_s: float = 0.7) -> bool:
        """Tell whether nothing comes for a while."""
        return not self._drain(within_s)

    def _drain(self, timeout_s: float) -> bool:
        try:
            self.connection.drain_events(timeout=timeout_s)
        except socket.timeout:  # noqa: UP041 - the name by which kombu promises it
            return False
        return True


def settled_down(mns: LocalMns, queue: str, **expected: int) -> dict[str, int]:
    """Wait until the server's audit of the queue has these counts; return it whole."""
    seen: list[dict[str, int]] = []

    def fits() -> bool:
        seen.append(mns.audit(queue))
        return {name: seen[-1][name] for name in expected} == expected

    try:
        wait_until(fits, timeout_s=10, what=f"the audit to show {expected}")
    except TimeoutError as exc:
        raise AssertionError(f"{exc}; it shows {seen[-1]}") from exc
    return seen[-1]
