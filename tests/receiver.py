"""A receiver of webhooks, as the tests need one: a real HTTP server that does what it is told and remembers what came."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import standardwebhooks

from ops.waiting import wait_until

#: Says with which status, and which headers, to answer the how-manieth delivery.
Answering = Callable[[int], tuple[int, Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Received:
    """A delivery as it came."""

    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> dict[str, Any]:
        """The payload, once the public package finds its signature good."""
        standardwebhooks.Webhook(secret).verify(self.body, self.headers)
        return dict(json.loads(self.body))


class Receiver:
    """Listens on a port of 127.0.0.1 from the beginning, and answers while it is entered."""

    def __init__(self, answering: Answering = lambda _: (204, {}), *, port: int = 0,
                 context: ssl.SSLContext | None = None, body: Callable[[int], bytes] = lambda _: b"") -> None:
        """`body` is what it answers the how-manieth delivery with."""
        self.received: list[Received] = []
        self._answering = answering
        self._port = port
        self._context = context
        self._body = body

    def __enter__(self) -> "Receiver":
        receiver = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                number = len(receiver.received)
                (status, headers), answer = receiver._answering(number), receiver._body(number)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(answer)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Answer)
        self._port = self._server.server_port
        if self._context:
            self._server.socket = self._context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, path: str = "/hook", *, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self._port}{path}"

    def gets(self, count: int, timeout_s: float = 15.0) -> list[Received]:
        """Wait until so many deliveries came."""
        wait_until(lambda: len(self.received) >= count, timeout_s=timeout_s, every_s=0.01,
                   what=f"{count} deliveries; {len(self.received)} came")
        return self.received


class BlackHole:
    """Accepts connections (the system does, into the backlog) and never answers."""

    def __enter__(self) -> "BlackHole":
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/hook"
