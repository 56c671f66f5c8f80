"""What cannot be read as a request, or never comes whole, is answered in the form of all errors. One gateway by itself,
with little patience for bodies."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest
import redis

from app.settings import Settings
from ops.embedded_redis import free_port
from ops.waiting import wait_until
from tests.gateway import Gateway

HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: tandem\r\nContent-Type: application/json\r\n"
MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id"}

GARBAGE = {
    "no version": (b"GET /healthz\r\n\r\n", 400), "a header without a colon": (b"GET / HTTP/1.1\r\nHost x\r\n\r\n", 400),
    "a path of 5 kB": (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "a header of 20 kB": (b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 20_000 + b"\r\n\r\n", 431),
    "markup": (b"<script>alert(1)</script>\r\n\r\n", 400)}


@pytest.fixture
def address(settings: Settings, client: redis.Redis) -> Iterator[tuple[str, int]]:
    """Where a gateway of its own listens, run as the servers run theirs."""
    Gateway(settings, client)  # what is made with the first start, such as keys, is there
    port = free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--worker-class", "ops.gateway_worker.GatewayWorker", "--no-control-socket",
         "--bind", f"127.0.0.1:{port}", "--keep-alive", "75", "app.api:from_environment()"],
        env={**environ, "TANDEM_REDIS_URL": settings.redis_url, "TANDEM_DATA_DIR": str(settings.data_dir),
             "TANDEM_BODY_S": "0.5"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port), timeout_s=30, what="the gateway to listen")
        yield "127.0.0.1", port
    finally:
        process.terminate()
        process.wait(30)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answered(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read one answer."""
    answer = HTTPResponse(connection)
    answer.begin()
    return answer.status, dict(answer.headers), answer.read()


def spoken(address: tuple[str, int], data: bytes) -> tuple[int, dict[str, str], bytes]:
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(data)
        return answered(connection)


def test_what_is_no_http_is_answered_with_a_problem(address: tuple[str, int]) -> None:
    for name, (data, expected) in GARBAGE.items():
        status, headers, body = spoken(address, data)

        assert (status, headers["Content-Type"]) == (expected, "application/problem+json"), name
        problem = json.loads(body)
        assert set(problem) == MEMBERS
        assert problem["status"] == expected
        assert re.fullmatch("[0-9a-f]{16}", headers["X-Request-Id"])
        assert problem["request_id"] == headers["X-Request-Id"]


def test_a_body_that_does_not_come_is_given_up(
        address: tuple[str, int], settings: Settings, client: redis.Redis) -> None:
    sender = Gateway(settings, client, name="sender")
    for start in (b"Content-Length: 50\r\n\r\n{", b"Content-Length: 50\r\n\r\n",
                  b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"):
        with socket.create_connection(address, timeout=20) as connection:
            connection.sendall(HEAD + f"Authorization: Bearer {sender.key}\r\n".encode() + start)
            status, headers, body = answered(connection)

            assert (status, json.loads(body)["code"]) == (408, "request-timeout"), start
            assert headers["Content-Type"] == "application/problem+json"
            assert connection.recv(1) == b"", "what comes late must not be taken for a request"
    assert client.hget("counts", "accepted") is None
