"""The queue operations of MNS that the transport needs, through the official SDK, with our HTTP underneath and our errors.

Threads may share a Service. Bodies are passed as they stand on the wire (the SDK's own base64 is off: one body that is no
base64 would make it throw away the whole batch).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any

from mns.account import Account
from mns.message_property import MessagePropertyValue, PropertyType
from mns.mns_exception import MNSExceptionBase, MNSServerException
from mns.mns_http import RequestInternal
from mns.mns_request import RequestBase, ResponseBase
from mns.mns_xml_handler import DecoderBase
from mns.queue import Message, QueueMeta

from routing.mns.errors import Gone, MnsError, Throttled, Transient, translate
from routing.mns.figures import Figures
from routing.mns.http import PooledHttp
from routing.mns.keys import Provider

#: As many messages a request receives or deletes at most.
BATCH = 16

_DAMAGED = (LookupError, ValueError, AttributeError, TypeError)  # what the SDK raises on answers that lack something


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it was handed out."""

    message_id: str
    handle: str = field(repr=False)  # the right to delete it and to change its visibility
    body: str = field(repr=False)
    dequeue_count: int  # how often it was handed out, this time included
    properties: dict[str, str] = field(default_factory=dict)


class Service:
    """MNS at `host` (`name[:port]`). `tls` None means plain HTTP. Every method raises MnsError."""

    def __init__(self, host: str, *, credentials: Provider, tls: SSLContext | None = None, connect_timeout_s: float = 5.0,
                 answer_timeout_s: float = 10.0, figures: Figures | None = None) -> None:
        self.http = PooledHttp(host, tls=tls, connect_timeout_s=connect_timeout_s, answer_timeout_s=answer_timeout_s)
        self.host = host
        self._figures, self._credentials = figures or Figures(), credentials
        self._account = Account(f"{'http' if tls is None else 'https'}://{host}", credentials_provider=credentials)
        self._account.get_client().http = self.http

    def probe(self, prefix: str = "") -> None:
        """Ask for something small, to see whether the service can be reached and takes the keys."""
        headers = {"x-mns-ret-number": "1"} | ({"x-mns-prefix": prefix} if prefix else {})
        with self._asking("list queues", "mns:ListQueue"):
            self._plainly("GET", "/queues", headers)

    def create(self, queue: str, *, visibility_s: int, message_bytes: int, retention_s: int) -> bool:
        """Make the queue unless it is there. Return False if it is there, but with other attributes."""
        meta = QueueMeta(vis_timeout=visibility_s, max_msg_size=message_bytes, msg_ttl=retention_s)
        try:
            with self._asking(f"create queue {queue}", "mns:CreateQueue"):
                self._queue(queue).create(meta)
        except MnsError as exc:
            if exc.code != "QueueAlreadyExist":
                raise
            return False
        return True

    def attributes(self, queue: str) -> dict[str, str]:
        """Return the queue's attributes as the service names them."""
        with self._asking(f"read the attributes of queue {queue}", "mns:GetQueueAttributes"):
            found: dict[str, str] = {}
            # not the SDK's get_attributes: that fails once the counters of messages, which are being withdrawn, are gone
            DecoderBase.xml_to_dic("Queue", self._plainly("GET", f"/queues/{queue}"), found)
            return found

    def drop(self, queue: str) -> None:
        """Delete the queue and all in it. One that is not there is fine."""
        with self._asking(f"delete queue {queue}", "mns:DeleteQueue"):
            self._queue(queue).delete()

    def send(self, queue: str, body: str, *, delay_s: int = 0, priority: int | None = None,
             properties: dict[str, str] | None = None) -> str:
        """Send a message, to be received in `delay_s` seconds at the earliest; return its id. `priority` goes from 1, which
        is first, to 16."""
        message = Message(body, delay_s or None, priority)
        for name, value in (properties or {}).items():
            message.add_user_property(name, MessagePropertyValue(PropertyType.STRING, value))
        with self._asking(f"send to queue {queue}", "mns:SendMessage"):
            return str(self._queue(queue).send_message(message).message_id)

    def receive(self, queue: str, most: int, *, wait_s: int) -> list[Received]:
        """Return up to `most` messages; wait for one for up to `wait_s` seconds."""
        try:
            with self._asking(f"receive from queue {queue}", "mns:ReceiveMessage"):
                messages = self._queue(queue).batch_receive_message(min(most, BATCH), wait_s)
        except Gone:
            return []  # "message not exist": there is none now
        return [_received(message) for message in messages]

    def peek(self, queue: str) -> int:
        """Return how many messages could be received now, BATCH at most, as far as the service shows; none is taken."""
        try:
            with self._asking(f"look into queue {queue}", "mns:PeekMessage"):
                return len(self._queue(queue).batch_peek_message(BATCH))
        except Gone:
            return 0  # "message not exist", as above

    def extend(self, queue: str, handle: str, seconds: int) -> str:
        """Keep the message from others for so long from now; return its new handle, for the old one is no longer good.
        Raises Gone."""
        with self._asking(f"change the visibility of a message in queue {queue}", "mns:ChangeMessageVisibility"):
            return str(self._queue(queue).change_message_visibility(handle, seconds).receipt_handle)

    def delete(self, queue: str, handle: str) -> None:
        """Delete the message. Raises Gone."""
        with self._asking(f"delete a message of queue {queue}", "mns:DeleteMessage"):
            self._queue(queue).delete_message(handle)

    def delete_all(self, queue: str, handles: list[str]) -> int:
        """Delete up to BATCH messages; return how many were. Those whose handle is no longer good are not."""
        try:
            with self._asking(f"delete messages of queue {queue}", "mns:DeleteMessage"):
                self._queue(queue).batch_delete_message(handles)
        except MnsError as exc:
            cause = exc.__cause__
            if isinstance(cause, MNSServerException) and cause.sub_errors:
                return len(handles) - len(cause.sub_errors)
            raise
        return len(handles)

    def _key_id(self) -> str:
        try:
            return str(self._credentials.get_credentials().access_key_id)
        except MnsError:
            return ""  # there are none, which is the error then

    def _queue(self, name: str) -> Any:
        queue = self._account.get_queue(name)
        queue.set_encoding(False)
        return queue

    def _plainly(self, method: str, target: str, headers: dict[str, str] | None = None) -> str:
        """Send a request that the SDK signs and whose answer it does not read; return the answer."""
        client = self._account.get_client()
        request = RequestInternal(method, target, dict(headers or {}))
        client.build_header(RequestBase(), request)
        answer = self.http.send_request(request)
        response = ResponseBase()
        response.header = answer.header
        client.check_status(request, answer, response)
        return str(answer.data)

    @contextmanager
    def _asking(self, doing: str, action: str) -> Iterator[None]:
        """Translate what goes wrong; `action` is the right in RAM that the request needs."""
        try:
            yield
        except (MnsError, MNSExceptionBase, *_DAMAGED) as exc:
            error = translate(exc, doing=f"{doing} at {self.host}", status=self.http.last_status, action=action,
                              key_id=self._key_id())
            if isinstance(error, Transient):
                self._figures.count("throttled" if isinstance(error, Throttled) else "failed")
            if error is exc:
                raise
            raise error from exc


def _received(message: Any) -> Received:
    properties = {name: value.get_string_value_by_type() for name, value in (message.user_properties or {}).items()
                  if value.get_data_type() != PropertyType.BINARY}
    return Received(message.message_id, message.receipt_handle, message.message_body, message.dequeue_count, properties)
