"""HTTP as it comes over the wire: connections that are used again, bodies nobody reads, callers who vanish, and garbage."""

import http.client
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller

HOST = b"Host: tandem\r\n"
SUBMIT = b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
HELLO = b'{"service":"model","input":{"prompt":"hello"}}'
AFTER = b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"


@pytest.fixture(scope="module", autouse=True)
def gateways_live_on(stack: Sandbox) -> Iterator[None]:
    """The gateways' processes are the same after the module's tests as before: none was killed and started again."""
    before = gateway_pids(stack)
    assert len(before) >= 4, "two gateways, each a master and a worker"
    yield
    assert gateway_pids(stack) == before


def gateway_pids(stack: Sandbox) -> set[int]:
    report = stack.report()
    supervisors = [psutil.Process(report["pids"][name]) for name in report["gateways"]]
    return {process.pid for supervisor in supervisors for process in supervisor.children(recursive=True)
            if "gunicorn" in process.cmdline()}


@pytest.fixture
def key(stack: Sandbox) -> bytes:
    """The header with the operator's key."""
    return f"Authorization: Bearer {stack.report()['api_key']}\r\n".encode()


@pytest.fixture
def line(stack: Sandbox) -> Iterator[http.client.HTTPConnection]:
    """One connection, which is not opened anew when the gateway closes it."""
    connection = http.client.HTTPConnection(urlsplit(stack.report()["entry"]).netloc, timeout=30)
    connection.connect()
    connection.auto_open = 0
    yield connection
    connection.close()


@contextmanager
def opened(stack: Sandbox) -> Iterator[socket.socket]:
    """A bare connection to the entry."""
    address = urlsplit(stack.report()["entry"])
    with socket.create_connection((address.hostname, address.port), timeout=30) as one:
        yield one


def spoken(stack: Sandbox, request: bytes) -> bytes:
    """Send bytes as they are and return all that comes back until the gateway closes, which it must."""
    with opened(stack) as one:
        one.sendall(request)
        return b"".join(iter(lambda: one.recv(65_536), b""))


def statuses(answers: bytes) -> list[int]:
    """The statuses of the responses in some bytes."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


def accepted(stack: Sandbox) -> int:
    return int(stack.client().hget("counts", "accepted") or 0)


# -- one connection, many requests


def test_a_connection_serves_bodies_of_all_sizes_one_after_the_other(
        line: http.client.HTTPConnection, stack: Sandbox) -> None:
    headers = {"Authorization": f"Bearer {stack.report()['api_key']}", "Content-Type": "application/json",
               "Prefer": "wait=30"}
    for size in (1, 8191, 0, 70_000, 1, 500_000, 8192, 2):
        value = "v" * size
        for operation in ({"operation": "put", "value": value}, {"operation": "get"}):
            body = json.dumps({"service": "cache", "input": {"key": "sized", **operation}})
            line.request("POST", "/v1/jobs", body, headers)
            answer = line.getresponse()
            job = json.loads(answer.read())
            assert (answer.status, job["state"]) == (200, "succeeded")
        assert job["result"]["value"] == value


@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunked"])
@pytest.mark.parametrize(("method", "path", "headers", "size", "status"), [
    ("POST", "/v1/jobs", {"Content-Type": "application/json"}, 900_000, 401),
    ("POST", "/v1/jobs", {"Content-Type": "text/plain", "Authorization": "KEY"}, 900_000, 415),
    ("POST", "/v1/jobs", {"Content-Type": "application/json", "Authorization": "KEY"}, 3_000_000, 413),
    ("POST", "/v1/jobs", {"Content-Type": "application/json", "Authorization": "KEY"}, 900_000, 400),
    ("POST", "/nowhere", {}, 900_000, 404), ("PUT", "/v1/jobs", {}, 900_000, 405), ("GET", "/healthz", {}, 900_000, 200)])
def test_a_body_that_nobody_read_does_not_become_the_next_request(
        line: http.client.HTTPConnection, stack: Sandbox, method: str, path: str, headers: dict[str, str], size: int,
        status: int, *, chunked: bool) -> None:
    known = headers | ({"Authorization": f"Bearer {stack.report()['api_key']}"} if "Authorization" in headers else {})
    for _ in range(2):
        data = AFTER.ljust(size, b"\n")
        line.request(method, path, iter([data[:size // 2], data[size // 2:]]) if chunked else data, known,
                     encode_chunked=chunked)
        refused = line.getresponse()
        refused.read()
        assert refused.status == status
        line.request("GET", "/healthz", headers={"X-Request-Id": "after"})
        good = line.getresponse()
        assert (good.status, good.read(), good.headers["X-Request-Id"]) == (200, b'{"status":"alive"}', "after")


def test_requests_sent_without_waiting_for_answers_are_answered_in_order(stack: Sandbox, key: bytes) -> None:
    request = SUBMIT + key + b"Prefer: wait=30\r\nContent-Length: %d\r\n\r\n" % len(HELLO) + HELLO
    bad = SUBMIT + key + b"Content-Length: 2\r\n\r\n{}"

    assert statuses(spoken(stack, request + bad + request + AFTER)) == [200, 422, 200, 200]


def test_a_chunked_body_is_put_together(stack: Sandbox, key: bytes) -> None:
    chunks = b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in HELLO) + b"0\r\n\r\n"

    answers = spoken(stack, SUBMIT + key + b"Prefer: wait=30\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + AFTER)

    assert statuses(answers) == [200, 200]
    assert b'"text":"hello"' in answers


# -- callers who vanish


@pytest.mark.parametrize("head", [b"Content-Length: 5000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n30\r\n"])
@pytest.mark.parametrize("half_closed", [False, True], ids=["gone", "listening"])
def test_a_caller_who_vanishes_in_the_middle_of_a_body_leaves_no_job(
        caller: Caller, stack: Sandbox, key: bytes, head: bytes, *, half_closed: bool) -> None:
    before = accepted(stack)
    with opened(stack) as one:
        one.sendall(SUBMIT + key + head + HELLO[:20])
        if half_closed:
            one.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: one.recv(65_536), b""))
            assert statuses(answer) == [400]
            assert b"malformed-request" in answer

    assert caller.submit("hello", headers={"Prefer": "wait=30"})["state"] == "succeeded"
    assert accepted(stack) == before + 1


def test_a_caller_who_vanishes_while_waiting_leaves_a_job_that_runs_to_its_end(
        caller: Caller, stack: Sandbox, key: bytes) -> None:
    body = b'{"service":"queue","input":{"operation":"publish","topic":"vanished","message":1}}'
    slow = b'{"service":"model","input":{"prompt":"[stall 700ms] vanished"}}'
    client, vanished = stack.client(), set(stack.client().scan_iter(match="job:*", count=1000))
    for each in (body, slow):
        with opened(stack) as one:
            one.sendall(SUBMIT + key + b"Prefer: wait=60\r\nContent-Length: %d\r\n\r\n" % len(each) + each)
            wait_until(lambda: set(client.scan_iter(match="job:*", count=1000)) - vanished, timeout_s=20, what="the job")
        (new,) = set(client.scan_iter(match="job:*", count=1000)) - vanished
        vanished.add(new)
        assert caller.ended(new.decode().removeprefix("job:"))["state"] == "succeeded"


def test_many_who_vanish_while_waiting_do_not_keep_others_from_being_served(caller: Caller, stack: Sandbox) -> None:
    job = caller.submit("[stall 300s]")
    try:
        request = f"GET /v1/jobs/{job['id']}?wait=60 HTTP/1.1\r\n".encode() + HOST
        request += f"Authorization: Bearer {stack.report()['api_key']}\r\n\r\n".encode()
        for _ in range(100):
            with opened(stack) as one:
                one.sendall(request)
        for address in stack.report()["gateways"].values():
            with Caller(address, stack.report()["api_key"]) as other:
                assert other.call("GET", "/healthz").elapsed.total_seconds() < 5
    finally:
        assert caller.call("DELETE", f"/v1/jobs/{job['id']}").json()["state"] == "cancelled"


# -- garbage


GARBAGE: dict[str, Any] = {
    "bytes": (b"\x00\x01\x02\xff\r\n\r\n", 400),
    "a request line without a version": (b"GET /healthz\r\n\r\n", 400),
    "a version from the future": (b"GET /healthz HTTP/3.0\r\n\r\n", 400),
    "the start of TLS": (bytes.fromhex("160301020001") + b"\xfc" * 300, 400),
    "a header without a colon": (b"GET /healthz HTTP/1.1\r\nHost tandem\r\n\r\n", 400),
    "a NUL in a header": (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-A: a\x00b\r\n\r\n", 400),
    "a header of 20 kB": (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-A: " + b"a" * 20_000 + b"\r\n\r\n", 431),
    "five hundred headers": (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-A: a\r\n" * 500 + b"\r\n", 400),
    "a path of 5 kB": (b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "a negative length": (SUBMIT + b"Content-Length: -5\r\n\r\n{}", 400),
    "a length that is a word": (SUBMIT + b"Content-Length: ten\r\n\r\n{}", 400),
    "two lengths": (SUBMIT + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
    "a length and chunks": (SUBMIT + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
}


@pytest.mark.parametrize(("request_bytes", "status"), GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_http_is_answered_with_an_error_and_harms_nobody(
        caller: Caller, stack: Sandbox, request_bytes: bytes, status: int) -> None:
    before = accepted(stack)

    assert statuses(spoken(stack, request_bytes)) == [status]

    assert accepted(stack) == before
    assert caller.call("GET", "/healthz").status_code == 200


@pytest.mark.parametrize("chunks", [
    b"zz\r\n\r\n", b"2\r\n{}}\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n", b"2;\x00\r\n{}\r\n0\r\n\r\n"])
def test_chunks_that_are_none_are_refused_as_malformed(stack: Sandbox, key: bytes, chunks: bytes) -> None:
    answer = spoken(stack, SUBMIT + key + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)

    assert statuses(answer) == [400]
    assert b"the body cannot be read" in answer
