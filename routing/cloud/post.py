"""Puts messages into queues of the cloud: Celery task messages, one at a time, over a connection of its own.

A failure says whether the message may be there all the same: `NotPosted` where it is certain that it is not,
`PerhapsPosted` where the reply was lost. Nothing is tried again here.
"""

import socket
import ssl
from types import TracebackType
from typing import Any, Self

from kombu import Connection, Message, Producer

from app.errors import TandemError
from app.ledger.wakeup import headers
from app.settings import Settings
from routing.cloud import broker
from routing.mns import errors as mns

#: Celery's protocol 2: what stands beside the arguments.
_EMBEDDED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

_LONGEST_REASON = 500  # characters

#: What the transport raises where it cannot do what it is asked.
ERRORS = (mns.MnsError, OSError)

#: Errors after which the message may be there.
_UNCERTAIN = (mns.Unreachable, mns.ServiceFailed, OSError)

#: Causes of those that say that nothing was sent: nobody answered to the name, or at the address, or it was not he.
_NEVER_SENT = (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)


class NotPosted(TandemError):
    """MNS did not take the message, and nobody will get it."""

    code = "cloud-not-sent"
    title = "Not sent to the cloud"
    status = 502
    retryable = True


class TooLargeToPost(NotPosted):
    """The message is larger than MNS takes, and there is no store for what is."""

    code = "cloud-too-large"
    title = "Too large for the cloud"
    retryable = False


class PerhapsPosted(TandemError):
    """Nobody can say whether MNS took the message."""

    code = "cloud-perhaps-sent"
    title = "Perhaps sent to the cloud"
    status = 502
    retryable = True


class Post:
    """A connection that messages go out by; it is made when there is something to send. For one thread. `options` are those
    of the transport, over the usual ones."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self._settings = settings
        self._options = options
        self._connection: Connection | None = None
        self._channel: Any = None

    def send(self, queue: str, task: str, arguments: dict[str, Any], *, message_id: str) -> None:
        """Put a Celery task message into a queue. Raises `NotPosted` or `PerhapsPosted`."""
        self._publish(queue, [[], arguments, _EMBEDDED], serializer="json", headers=headers(task, message_id),
                      correlation_id=message_id)

    def forward(self, queue: str, message: Message, *, why: str) -> None:
        """Put a message that came from a queue into another, as it is, and say why in its header `reason`. Raises
        `NotPosted` or `PerhapsPosted`."""
        kept = {name: value for name, value in (message.headers or {}).items() if name != "compression"}  # kombu undid it
        self._publish(queue, message.body, content_type=message.content_type, content_encoding=message.content_encoding,
                      headers={**kept, "reason": why[:_LONGEST_REASON]})

    def _publish(self, queue: str, body: Any, **properties: Any) -> None:
        try:
            producer = Producer(self._opened(), auto_declare=False)
        except ERRORS as exc:
            self.close()
            raise NotPosted(str(exc)) from exc
        try:
            producer.publish(body, exchange="", routing_key=queue, retry=False, **properties)
        except mns.TooLarge as exc:
            raise TooLargeToPost(str(exc)) from exc
        except ERRORS as exc:
            self.close()
            raise (NotPosted if is_sure(exc) else PerhapsPosted)(str(exc)) from exc

    def reach(self) -> None:
        """Make the connection, where there is none, as after a failure. Raises `NotPosted` where MNS is not reached."""
        try:
            self._opened()
        except ERRORS as exc:
            self.close()
            raise NotPosted(str(exc)) from exc

    def delete(self, queue: str) -> None:
        """Delete a queue, if it is there. Raises `NotPosted`."""
        try:
            self._opened().queue_delete(queue)
        except ERRORS as exc:
            self.close()
            raise NotPosted(str(exc)) from exc

    def _opened(self) -> Any:
        """Return the channel. Not kombu's default one, which tries to connect for as long as it takes."""
        if self._channel is None:
            self._connection = broker.connected(self._settings, **self._options)
            self._channel = self._connection.channel()
        return self._channel

    def close(self) -> None:
        """Give the connection up; the next message makes another."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            connection.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def is_sure(exc: BaseException) -> bool:
    """Whether an error of a send says that the message is not there."""
    if not isinstance(exc, _UNCERTAIN):
        return True
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, _NEVER_SENT):
            return True
        cause = cause.__cause__
    return False
