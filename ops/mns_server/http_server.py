"""A small HTTP/1.1 server: one thread for each connection, keep-alive, one write for each response.

It knows nothing of queues: a function gets each `Request` and returns the `Response`, or `Hangup` to close without one.
It takes bodies with a Content-Length only. (`http.server` writes headers and body apart, and parses headers as mail; both
cost more than a whole call may take here.)
"""

import contextlib
import logging
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

_log = logging.getLogger(__name__)

_MOST_HEAD_BYTES = 65_536
_MOST_BODY_BYTES = 8 * 1024 * 1024
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(r"[0-9]{1,10}")
_ACCEPT_AGAIN_S = 0.1
_IDLE_S = 75.0  # a connection on which nothing comes for so long is closed
_CLOSE_S = 5.0  # how long a response may take that is under way when the server closes


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came: `target` is raw, headers have lower-case names."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. Content-Length and Connection are added."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Hangup(Exception):
    """Close the connection; no answer."""


class _Broken(Exception):
    """What came is not HTTP as it is taken here; says why."""


Answer = Callable[[Request], Response]


class HttpServer:
    """Listens from when it is made until it is closed."""

    def __init__(self, answer: Answer, *, host: str = "127.0.0.1", port: int = 0, name: str = "http") -> None:
        self._answer, self._name = answer, name
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._closing = False
        self._listener = socket.create_server((host, port), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name=f"{name}-accept", daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """Listen no more; let responses under way be written, close idle connections, and wait for all threads."""
        with self._lock:
            self._closing = True
            connections = dict(self._connections)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        self._hush(connections, socket.SHUT_RD)
        for thread in connections.values():
            thread.join(_CLOSE_S)
        self._hush(connections, socket.SHUT_RDWR)
        for thread in connections.values():
            thread.join()

    @staticmethod
    def _hush(connections: dict[socket.socket, threading.Thread], how: int) -> None:
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(how)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError as exc:
                if self._closing:
                    return
                _log.warning("mns-accept-failed server=%s error=%s", self._name, exc)  # no file descriptors left, say
                time.sleep(_ACCEPT_AGAIN_S)
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), name=f"{self._name}-connection", daemon=True)
            with self._lock:
                if self._closing:
                    connection.close()
                    return
                self._connections[connection] = thread
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(_IDLE_S)
            self._converse(connection)
        except (OSError, Hangup):
            return
        finally:
            connection.close()
            with self._lock:
                self._connections.pop(connection, None)

    def _converse(self, connection: socket.socket) -> None:
        stream = _Stream(connection)
        while not self._closing:
            try:
                request = stream.next_request()
            except _Broken as exc:
                connection.sendall(_written(Response(400, f"{exc}\n".encode()), keep=False, head_only=False))
                return
            if request is None:
                return
            response = self._answer(request)
            keep = request.headers.get("connection", "").lower() != "close" and not self._closing
            connection.sendall(_written(response, keep=keep, head_only=request.method == "HEAD"))
            if not keep:
                return


class _Stream:
    """Cuts what a connection brings into requests."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""

    def next_request(self) -> Request | None:
        """Return the next request, or None when the other side has closed. Raises `_Broken`."""
        head = self._head()
        if head is None:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        if any(_CONTROL.search(part) for part in (first, *lines)):
            raise _Broken("the headers hold a control character")
        words = first.split(" ")
        if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
            raise _Broken("the request line is not METHOD TARGET HTTP/1.1")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise _Broken("a header is not NAME: VALUE")
            headers[name.lower()] = value.strip()
        if words[2] == "HTTP/1.0":
            headers.setdefault("connection", "close")
        return Request(words[0], words[1], headers, self._body(headers))

    def _head(self) -> bytes | None:
        while (end := self._rest.find(b"\r\n\r\n")) < 0:
            if len(self._rest) > _MOST_HEAD_BYTES:
                raise _Broken(f"the headers are longer than {_MOST_HEAD_BYTES} bytes")
            more = self._connection.recv(65_536)
            if not more:
                return None
            self._rest += more
        head, self._rest = self._rest[:end], self._rest[end + 4:]
        return head

    def _body(self, headers: dict[str, str]) -> bytes:
        if "transfer-encoding" in headers:
            raise _Broken("a body needs a Content-Length; Transfer-Encoding is not taken")
        length = headers.get("content-length", "0")
        if not _LENGTH.fullmatch(length) or int(length) > _MOST_BODY_BYTES:
            raise _Broken(f"Content-Length is not a number up to {_MOST_BODY_BYTES}")
        left = int(length) - len(self._rest)
        if left > 0 and headers.get("expect", "").lower() == "100-continue":
            self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        chunks = [self._rest]
        while left > 0:
            more = self._connection.recv(min(left, 1 << 20))
            if not more:
                raise Hangup
            chunks.append(more)
            left -= len(more)
        whole = b"".join(chunks)
        self._rest = whole[int(length):]
        return whole[:int(length)]


def _written(response: Response, *, keep: bool, head_only: bool) -> bytes:
    """Return the whole response. 204 has neither body nor length."""
    status = HTTPStatus(response.status)
    lines = [f"HTTP/1.1 {response.status} {status.phrase}",
             *(f"{name}: {value}" for name, value in response.headers.items()),
             f"Connection: {'keep-alive' if keep else 'close'}"]
    if response.status != HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(response.body)}")
    body = b"" if head_only or response.status == HTTPStatus.NO_CONTENT else response.body
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
