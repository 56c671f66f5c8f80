"""HTTP for the official SDK: a pool of connections that threads share, in place of the SDK's single connection.

The SDK's own (`mns.mns_http.MNSHttp` of aliyun-mns-sdk 1.3.0) has one unlocked connection, sends a request a second time
when its answer is lost, sends over HTTPS without any timeout, and offers no way to name a CA. `PooledHttp` has what the SDK
calls of it: `send_request`, `is_keep_alive`, `set_log_level`, `close_log`.

A request is sent once: whoever asked knows whether it may be carried out twice. A kept connection that the server has
closed is noticed before it is used. A process forked from this one begins with an empty pool.
"""

import http.client
import os
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from mns.mns_http import RequestInternal, ResponseInternal

from routing.mns.errors import Unreachable, of_status

_KEPT = 16  # idle connections at most
_KEPT_S = 30.0  # longer than that idle, a connection may have been forgotten by what lies between
_WAIT = re.compile(r"[?&]waitseconds=(\d+)")
_OWN_HEADER = "x-mns-request-id"  # each answer of MNS has it
_OWN_ANSWER = re.compile(r"<(Error|Errors|Messages)\b")  # elements of an error as MNS words it


class PooledHttp:
    """Connections to one endpoint. `host` may end in `:port`. `tls` None means plain HTTP. `answer_timeout_s` is for the
    service to answer, on top of what it was asked to wait."""

    def __init__(self, host: str, *, tls: ssl.SSLContext | None = None, connect_timeout_s: float = 5.0,
                 answer_timeout_s: float = 10.0) -> None:
        self._host, self._tls = host, tls
        self._connect_timeout_s, self._answer_timeout_s = connect_timeout_s, answer_timeout_s
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []  # with when it became so; the last one goes first
        self._kept = _KEPT
        self._here = threading.local()  # most_s, last_status

    def send_request(self, request: RequestInternal) -> ResponseInternal:
        """Return the answer. Raises Unreachable, or what `errors.of_status` makes of an answer that MNS did not give."""
        self._here.last_status = 0
        doing = f"{request.method} {request.uri.partition('?')[0]} at {self._host}"
        connection = self._take()
        try:
            answer = self._exchange(connection, request)
        except (OSError, http.client.HTTPException, UnicodeError) as exc:  # the last: of a host's name that cannot be one
            connection.close()
            raise Unreachable(f"{doing}: {_reason(exc)}; check the network and the endpoint") from exc
        self._here.last_status = answer.status
        self._give_back(connection, answer)
        return _checked(answer, doing)

    @property
    def last_status(self) -> int:
        """The HTTP status of the last answer to this thread; 0 if none came."""
        return getattr(self._here, "last_status", 0)

    def is_keep_alive(self) -> bool:
        """As the SDK asks: connections are kept."""
        return True

    def set_log_level(self, log_level: int) -> None:
        """As the SDK asks; nothing is logged here."""

    def close_log(self) -> None:
        """As the SDK asks; nothing is logged here."""

    @contextmanager
    def within(self, most_s: float) -> Iterator[None]:
        """In this thread, give each connecting and each answer at most `most_s`, for what must not take long."""
        self._here.most_s = max(0.05, most_s)
        try:
            yield
        finally:
            self._here.most_s = None

    def close(self) -> None:
        """Close the idle connections, and from now on each one after its answer."""
        with self._of_this_process():
            self._kept, idle, self._idle = 0, self._idle, []
        for connection, _ in idle:
            connection.close()

    def _exchange(self, connection: http.client.HTTPConnection, request: RequestInternal) -> ResponseInternal:
        asked = _WAIT.search(request.uri)
        if connection.sock is None:
            connection.timeout = self._bounded(self._connect_timeout_s)
            connection.connect()
            cast(socket.socket, connection.sock).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock.settimeout(self._bounded(self._answer_timeout_s + (int(asked[1]) if asked else 0)))
        connection.request(request.method, request.uri, request.data or None, request.header)
        response = connection.getresponse()
        # the SDK looks for `x-mns-request-id` in lower case
        headers = {name.lower(): value for name, value in response.getheaders()}
        return ResponseInternal(status=response.status, header=headers, data=response.read().decode("utf-8", "replace"))

    def _bounded(self, seconds: float) -> float:
        most: float | None = getattr(self._here, "most_s", None)
        return seconds if most is None else min(seconds, most)

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host)
        return http.client.HTTPSConnection(self._host, context=self._tls)

    def _take(self) -> http.client.HTTPConnection:
        while True:
            with self._of_this_process():
                if not self._idle:
                    return self._connection()
                connection, since = self._idle.pop()
            if time.monotonic() - since < _KEPT_S and not _hung_up(connection):
                return connection
            connection.close()

    def _give_back(self, connection: http.client.HTTPConnection, answer: ResponseInternal) -> None:
        if connection.sock is None or answer.header.get("connection", "").lower() == "close":
            connection.close()
            return
        with self._of_this_process():
            if len(self._idle) < self._kept:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()

    def _of_this_process(self) -> threading.Lock:
        """Return the lock on the pool; in a forked process first drop what belongs to its parent."""
        if self._pid != os.getpid():  # another thread of the parent may have held the lock, so it is not even looked at
            self._pid, self._lock, parents, self._idle = os.getpid(), threading.Lock(), self._idle, []
            for connection, _ in parents:
                connection.close()  # our copy of the descriptor; the parent's stays open
        return self._lock


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a context that verifies the server: against the CAs in `ca_file` (PEM), or the system's."""
    return ssl.create_default_context(cafile=ca_file)


def _hung_up(connection: http.client.HTTPConnection) -> bool:
    """Whether the server has closed the idle connection: then there is an end of file to read, or something unasked for."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _checked(answer: ResponseInternal, doing: str) -> ResponseInternal:
    """Return the answer if MNS itself gave it. The SDK would lose the status of any other."""
    # below 400 may answer a login page of the network, or another server, to whom nothing of ours was sent then
    if not (_OWN_ANSWER.search(answer.data) if answer.status >= 400 else _OWN_HEADER in answer.header):
        raise of_status(answer.status, answer.data, doing=doing)
    return answer


def _reason(exc: Any) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted ({exc.verify_message}); for a CA of your own set ca_file"
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    if isinstance(exc, http.client.RemoteDisconnected):
        return "the connection was closed before an answer came"
    return f"{type(exc).__name__}: {exc}"
