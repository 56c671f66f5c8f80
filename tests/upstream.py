"""An upstream that does as it is told: speaks OpenAI's protocol as far as a test says, and breaks it where the test wants.

Each request takes the next play; the last one is repeated. Beside it: how a test asks an engine.
"""

import json
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from app.inputs import Message, ModelInput
from app.settings import Settings
from ops.waiting import wait_until
from workers.engine import Channel, Generation
from workers.engine.openai_engine import OpenAIEngine

KEY = "sk-very-secret"


class Exchange(BaseHTTPRequestHandler):
    """One request and what is sent back."""

    protocol_version = "HTTP/1.1"
    server: "Upstream"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers), None))
        self.server.models(self)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.closing.is_set():  # a connection kept alive outlives the server otherwise
            self.close_connection = True
            return
        self.server.asked.append((self.path, dict(self.headers), body))
        plays = self.server.plays
        (plays.pop(0) if len(plays) > 1 else plays[0])(self)

    def begin(self, kind: str = "text/event-stream", status: int = 200) -> None:
        """Send a head, for a body in chunks."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send(self, data: bytes) -> None:
        """Send a chunk of the body; none of it is its end."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def event(self, piece: object) -> None:
        """Send an event."""
        self.send(b"data: " + json.dumps(piece, ensure_ascii=False).encode() + b"\n\n")

    def cut(self) -> None:
        """Hang up in the middle."""
        self.close_connection = True

    def wait_for_hanging_up(self) -> None:
        """Say nothing until the caller hangs up."""
        while not self.server.closing.is_set():
            if select.select([self.connection], [], [], 0.02)[0]:
                self.server.hung_up += 1
                break
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Keep silent."""


Play = Callable[[Exchange], None]


def delta(reason: str | None = None, **members: object) -> dict[str, Any]:
    """Return a piece of a chat's answer."""
    return {"model": "served", "choices": [{"index": 0, "delta": members, "finish_reason": reason}]}


def text(piece: str, reason: str | None = None, **members: object) -> dict[str, Any]:
    """Return a piece of an answer to a prompt."""
    return {"model": "served", "choices": [{"index": 0, "text": piece, "finish_reason": reason, **members}]}


def usage(prompt: int, completion: int, **members: object) -> dict[str, Any]:
    """Return the piece that counts."""
    counted = {"prompt_tokens": prompt, "completion_tokens": completion, **members}
    return {"model": "served", "choices": [], "usage": counted}


def streams(*pieces: object, done: bool = True) -> Play:
    """Send these pieces, and end well."""
    def play(exchange: Exchange) -> None:
        exchange.begin()
        for piece in pieces:
            exchange.event(piece)
        if done:
            exchange.send(b"data: [DONE]\n\n")
        exchange.send(b"")

    return play


def breaks(*pieces: object, how: Play = Exchange.cut) -> Play:
    """Send these pieces, and then not the end."""
    def play(exchange: Exchange) -> None:
        exchange.begin()
        for piece in pieces:
            exchange.event(piece)
        how(exchange)

    return play


def refuses(status: int, body: object, **headers: str) -> Play:
    """Answer with a status and a JSON body."""
    def play(exchange: Exchange) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        exchange.send_response(status)
        for name, value in headers.items():
            exchange.send_header(name.replace("_", "-"), value)
        exchange.send_header("Content-Length", str(len(data)))
        exchange.end_headers()
        exchange.wfile.write(data)

    return play


def wait_and_say(piece: object) -> Play:
    """Send a piece, and then nothing until the caller hangs up."""
    return breaks(piece, how=Exchange.wait_for_hanging_up)


def silent(exchange: Exchange) -> None:
    """Do not even begin to answer."""
    exchange.wait_for_hanging_up()


def garbage(exchange: Exchange) -> None:
    """Stream what is no JSON."""
    exchange.begin()
    exchange.send(b'data: {"choices": [{"delta"\n\n')
    exchange.send(b"")


NO_RETRY = 0.001  # s: less than any wait
BEGUN = delta(content="half of ")
WELL = streams(delta(content="all "), delta(content="well"), delta("stop"), usage(7, 2))
MODELS = refuses(200, {"object": "list", "data": [{"id": "first", "object": "model"}, {"id": "second", "object": "model"}]})


class Upstream(ThreadingHTTPServer):
    """The server. `asked` holds path, headers and body of each request; `hung_up` counts callers who left a silence."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, *plays: Play, models: Play = MODELS, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Exchange)
        self.plays = list(plays) or [WELL]
        self.models = models
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.hung_up = 0
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def calls(self) -> int:
        """How many answers it was asked for."""
        return sum(path != "/v1/models" for path, _, _ in self.asked)

    def handle_error(self, request: object, client_address: object) -> None:
        """Callers hang up here all the time."""


@contextmanager
def upstream(*plays: Play, models: Play = MODELS, port: int = 0) -> Iterator[Upstream]:
    """A server that plays these."""
    server = Upstream(*plays, models=models, port=port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def engine_for(url: str, *, slots: int = 8, **settings: Any) -> Iterator[OpenAIEngine]:
    """An engine that calls the URL."""
    wanted = {"openai_key": KEY, "openai_model": "wanted", "openai_connect_s": 2.0, "openai_retry_s": 5.0} | settings
    engine = OpenAIEngine(Settings(engine="openai", openai_url=url, **wanted), slots=slots)
    try:
        yield engine
    finally:
        wait_until(lambda: not engine.figures()["running"], timeout_s=5, what="the last call to end")
        engine.close()


def chat(content: str = "How is it?", **members: Any) -> ModelInput:
    """Return a request with one message."""
    return ModelInput(messages=[Message(role="user", content=content)], **members)


def run_on() -> bool:
    """Stand for a caller who never stops a job."""
    return False


class Listener:
    """Keeps what was told."""

    def __init__(self) -> None:
        self.told: list[tuple[Channel, str]] = []

    def __call__(self, channel: Channel, piece: str) -> None:
        self.told.append((channel, piece))

    def heard(self, channel: Channel) -> str:
        """All that was told of a channel."""
        return "".join(piece for one, piece in self.told if one is channel)


def ask(*plays: Play, request: ModelInput | None = None, told: Listener | None = None, **settings: Any) -> Generation:
    """Return the answer of an upstream that plays these."""
    with upstream(*plays) as server, engine_for(server.url, **settings) as engine:
        return engine.generate(request or chat(), run_on, told or Listener())
