"""The MNS service that the client suite speaks to, and what the suite speaks with.

With MNS_ENDPOINT, MNS_ACCESS_KEY_ID and MNS_ACCESS_KEY_SECRET (and MNS_SECURITY_TOKEN for STS) in the environment that is
the real service; else a local server, started here. Two clients: the unmodified SDK, and a plain HTTP client that signs by
itself, from the documentation and not from the server's code, for what the SDK cannot send. The queues of a test have names
of their own and are deleted with its end.
"""

import base64
import hashlib
import hmac
import http.client
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

import pytest
from mns.account import Account
from mns.mns_exception import MNSServerException
from mns.queue import Message, Queue, QueueMeta

from ops.mns_server import LocalMns

VERSION = "2015-06-06"
NAMESPACE = "http://mns.aliyuncs.com/doc/v1/"
PATIENCE_S = 10  # of a long poll for a message that is there or about to be: it returns with the first


@dataclass(frozen=True, slots=True)
class Service:
    """Where an MNS is, and a key to it."""

    endpoint: str  # http://host[:port] or https://host
    access_key_id: str
    access_key_secret: str
    security_token: str = ""

    @contextmanager
    def account(self) -> Iterator[Account]:
        """A client of the SDK; for one thread only, as it has one connection and no lock."""
        account = Account(self.endpoint, self.access_key_id, self.access_key_secret, self.security_token)
        try:
            yield account
        finally:
            account.get_client().close_connection()

    def request(self, method: str, target: str, *, body: bytes = b"") -> "Request":
        """A request as it should be, signed."""
        headers = {"date": formatdate(usegmt=True), "x-mns-version": VERSION, **self._token()}
        if body:
            headers |= {"content-type": "text/xml;charset=UTF-8", "content-md5": md5(body)}
        return self.signed(Request(method, target, headers, body))

    def signed(self, request: "Request") -> "Request":
        """The same request with a signature for what it now says."""
        signature = sign(request, secret=self.access_key_secret)
        return request.saying(authorization=f"MNS {self.access_key_id}:{signature}")

    def send(self, request: "Request") -> "Answer":
        """Send on a connection of its own, exactly as it stands."""
        connection = self.connect()
        try:
            return request.over(connection)
        finally:
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        """An HTTP connection, not yet made."""
        parts = urlsplit(self.endpoint)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(parts.netloc, timeout=40)

    def _token(self) -> dict[str, str]:
        return {"security-token": self.security_token} if self.security_token else {}


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    def saying(self, **headers: str) -> "Request":
        """The same with these headers (`_` for `-`), under the old signature."""
        return replace(self, headers=self.headers | {name.replace("_", "-"): value for name, value in headers.items()})

    def without(self, *names: str) -> "Request":
        """The same without these headers, under the old signature."""
        return replace(self, headers={name: value for name, value in self.headers.items() if name not in names})

    def over(self, connection: http.client.HTTPConnection) -> "Answer":
        """Send over an open connection and read the whole answer."""
        connection.putrequest(self.method, self.target, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        if "content-length" not in self.headers:
            connection.putheader("content-length", str(len(self.body)))
        connection.endheaders(self.body or None)
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def texts(self) -> dict[str, str]:
        """The text of each element by its local name; of several, the last."""
        return {element.tag.rpartition("}")[2]: element.text or "" for element in ElementTree.fromstring(self.body).iter()}

    @property
    def error(self) -> str:
        """The code of the error that it is; the whole error must be there, as the SDK needs it."""
        texts = self.texts()
        assert {"Error", "Code", "Message", "RequestId", "HostId"} <= set(texts), self
        return texts["Code"]


def md5(body: bytes) -> str:
    """Content-MD5 as MNS has it: base64 of the digest's 32 hexadecimal digits."""
    return base64.b64encode(hashlib.md5(body).hexdigest().encode()).decode()


def sign(request: Request, *, secret: str) -> str:
    """The signature of version 2, HMAC-SHA1; see the documentation's page on signatures of API requests."""
    given = request.headers
    ours = "".join(f"{name}:{given[name]}\n" for name in sorted(given) if name.startswith("x-mns-"))
    text = "\n".join([request.method, given.get("content-md5", ""), given.get("content-type", ""), given.get("date", ""),
                      ours + request.target])
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()).decode()


def document(root: str, **elements: object) -> bytes:
    """An XML body."""
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in elements.items())
    return f'<?xml version="1.0" encoding="utf-8"?><{root} xmlns="{NAMESPACE}">{inside}</{root}>'.encode()


@contextmanager
def the_service() -> Iterator[Service]:
    """The service that the environment names; a local one where it names none."""
    if endpoint := os.environ.get("MNS_ENDPOINT"):
        yield Service(endpoint, os.environ["MNS_ACCESS_KEY_ID"], os.environ["MNS_ACCESS_KEY_SECRET"],
                      os.environ.get("MNS_SECURITY_TOKEN", ""))
        return
    with LocalMns.running(keys=[("suite", "the suite's secret")]) as mns:
        yield Service(mns.endpoint, "suite", "the suite's secret")


@dataclass(slots=True)
class Queues:
    """Queues of a test, in the SDK's terms; what was made is deleted in the end."""

    service: Service
    account: Account
    prefix: str = field(default_factory=lambda: f"suite-{uuid.uuid4().hex[:12]}")
    _made: list[str] = field(default_factory=list)

    def name(self, *, front: str = "", back: str = "", length: int = 0) -> str:
        """A fresh name, with something before and after it, and of just so many characters where told."""
        name = f"{front}{self.prefix}-{len(self._made)}{back}"
        self._made.append(name := name + "x" * (length - len(name)))
        return name

    def make(self, **meta: Any) -> Queue:
        """Create a queue with these attributes, as QueueMeta names them."""
        queue = self.account.get_queue(self.name())
        queue.create(QueueMeta(**meta))
        return queue

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        for name in self._made:
            answer = self.service.send(self.service.request("DELETE", f"/queues/{quote(name)}"))
            assert answer.status in (204, 400, 404), answer  # 400: the name was refused in the first place


@contextmanager
def some_queues(service: Service) -> Iterator[Queues]:
    """Queues for one test."""
    with service.account() as account, Queues(service, account) as queues:
        yield queues


@contextmanager
def refused(*codes: str) -> Iterator[pytest.ExceptionInfo[MNSServerException]]:
    """The service refuses what is inside with one of `codes`."""
    with pytest.raises(MNSServerException) as caught:
        yield caught
    assert caught.value.type in codes, caught.value


def take(queue: Queue, wait_s: int = PATIENCE_S) -> Message:
    """Receive a message that is there or comes within `wait_s`."""
    return queue.receive_message(wait_s)


def take_all(queue: Queue, most: int) -> list[Message]:
    """Receive until `most` have come: a batch may bring fewer than there are."""
    messages: list[Message] = []
    while len(messages) < most:
        messages += queue.batch_receive_message(min(16, most - len(messages)), PATIENCE_S)
    return messages


def empty(queue: Queue) -> bool:
    """Tell whether nothing can be received now."""
    with refused("MessageNotExist"):
        queue.receive_message(0)
    return True


def visible(queue: Queue) -> bool:
    """Tell whether there is a message to be seen; looking changes nothing."""
    try:
        queue.peek_message()
    except MNSServerException as exc:
        if exc.type != "MessageNotExist":
            raise
        return False
    return True


def attributes(queue: Queue) -> QueueMeta:
    """The queue's attributes, without the SDK's warnings of counters that are to go."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*(active|inactive|delay)_messages.*")
        return queue.get_attributes()


def took(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began
