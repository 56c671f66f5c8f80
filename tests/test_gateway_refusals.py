"""What the gateway refuses to accept as a job: each with a problem of its own, and nothing is written.

Credentials are in test_gateway_credentials.py, broken HTTP in test_gateway_connections.py.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import requests

from app.settings import Settings
from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller
from tests.operating import operate

DEEP = 100_000  # levels of nesting; the parser gives up long before
MOST = Settings().max_body_bytes
WRITTEN = ("job:*", "idem:*", "gone:*", "cached:*", "topic:*", "published:*", "conversation:*", "account:*", "apikey:*")


@pytest.fixture(scope="module", autouse=True)
def books(stack: Sandbox) -> Iterator[None]:
    """When the module's tests are done, the audit tells the same as before."""
    client = stack.client()
    wait_until(lambda: not client.zcard("leases") and not any(client.zcard(f"waiting:{name}") for name in (
        "auth", "model", "chat", "cache", "queue")), timeout_s=60, what="the jobs of other tests to end")
    before = operate(stack, "audit")
    yield
    after = operate(stack, "audit")
    assert (after.returncode, after.stdout) == (0, before.stdout)


@pytest.fixture(autouse=True)
def nothing_is_written(stack: Sandbox) -> Iterator[None]:
    """No test of this module leaves a trace in the ledger, nor anywhere else a job could."""
    client = stack.client()
    before = written(client)
    yield
    assert written(client) == before


def written(client: redis.Redis) -> tuple[dict[bytes, bytes], set[bytes]]:
    return client.hgetall("counts"), {key for match in WRITTEN for key in client.scan_iter(match=match, count=1000)}


def problem(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    """Check that a response is a problem (RFC 9457), whole and consistent, and return its body."""
    body = answer.json()
    assert answer.status_code == body["status"] == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (body["code"], body["type"]) == (code, f"/problems/{code}")
    assert body["instance"] == requests.utils.urlparse(answer.url).path
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert set(body) - {"pointer"} == {"type", "title", "status", "detail", "instance", "code", "request_id"}
    assert len(body["title"]) > 3
    return dict(body)


def body(of: Any = None, service: Any = "model", **members: Any) -> str:
    """Return a request's body as text; `of` is its input."""
    return json.dumps({"service": service, "input": {"prompt": "hello"} if of is None else of, **members})


def cached(value: str) -> str:
    return f'{{"service":"cache","input":{{"operation":"put","key":"k","value":{value}}}}}'


# -- a body that is not what the call takes: 422 and where


INVALID = {
    "an array": ("[]", "", "got `array`"),
    "a string": ('"hello"', "", "got `str`"),
    "null": ("null", "", "got `null`"),
    "no service": ('{"input": {}}', "", "`service`"),
    "no input": ('{"service": "model"}', "", "`input`"),
    "an unknown member": (body(priority=1), "/priority", "unknown field `priority`"),
    "an unknown member with a slash": (body(**{"a/b~c": 1}), "/a~1b~0c", "unknown field `a/b~c`"),
    "an unknown member of the input": (body({"prompt": "a", "n": 2}), "/input/n", "unknown field `n`"),
    "an unknown member of a message": (
        body({"messages": [{"role": "user", "content": "a", "extra": "b"}]}), "/input/messages/0/extra", "`extra`"),
    "an unknown service": (body(service="mail"), "/service", "'mail'"),
    "a service of another type": (body(service=1), "/service", "got `int`"),
    "an unknown lane": (body(lane="fast"), "/lane", "'fast'"),
    "a deadline of 0": (body(deadline_s=0), "/deadline_s", "> 0"),
    "a deadline in the past": (body(deadline_s=-5), "/deadline_s", "> 0"),
    "a deadline in a month": (body(deadline_s=30 * 86_400), "/deadline_s", "<= 604800"),
    "a deadline in words": (body(deadline_s="soon"), "/deadline_s", "got `str`"),
    "an input that is a string": (body("hello"), "/input", "got `str`"),
    "an input that is an array": (body([]), "/input", "got `array`"),
    "neither prompt nor messages": (body({}), "/input", "give `messages` or a `prompt`"),
    "both prompt and messages": (
        body({"prompt": "a", "messages": [{"role": "user", "content": "a"}]}), "/input", "not both"),
    "an empty prompt": (body({"prompt": ""}), "/input/prompt", ">= 1"),
    "a prompt that is a number": (body({"prompt": 5}), "/input/prompt", "got `int`"),
    "no messages": (body({"messages": []}), "/input/messages", ">= 1"),
    "a message of nobody": (
        body({"messages": [{"role": "user", "content": "a"}, {"role": "robot", "content": "a"}]}),
        "/input/messages/1/role", "'robot'"),
    "max_tokens of 0": (body({"prompt": "a", "max_tokens": 0}), "/input/max_tokens", ">= 1"),
    "max_tokens of a half": (body({"prompt": "a", "max_tokens": 0.5}), "/input/max_tokens", "got `float`"),
    "a temperature too high": (body({"prompt": "a", "temperature": 2.1}), "/input/temperature", "<= 2"),
    "a seed beyond every number": (body({"prompt": "a", "seed": 10**30}), "/input/seed", "<="),
    "five stop strings": (body({"prompt": "a", "stop": list("abcde")}), "/input/stop", "<= 4"),
    "an operation unknown to the cache": (body({"operation": "steal", "key": "k"}, "cache"), "/input/operation", "'steal'"),
    "no operation": (body({"key": "k"}, "cache"), "/input", "`operation`"),
    "a key with a space": (body({"operation": "get", "key": "a b"}, "cache"), "/input/key", "regex"),
    "a key with a newline at its end": (body({"operation": "get", "key": "a\n"}, "cache"), "/input/key", "regex"),
    "a key with a NUL": (body({"operation": "get", "key": "a\0b"}, "cache"), "/input/key", "regex"),
    "a time to live of a year": (
        body({"operation": "put", "key": "k", "value": 1, "ttl_s": 31_536_000}, "cache"), "/input/ttl_s", "<= 604800"),
    "a place in a topic that is none": (
        body({"operation": "read", "topic": "t", "after": "x"}, "queue"), "/input/after", "regex"),
    "a place in a topic that Redis cannot count to": (
        body({"operation": "read", "topic": "t", "after": "99999999999999999999-0"}, "queue"), "/input/after", "regex"),
    "a conversation without a name": (body({"conversation": "", "message": "a"}, "chat"), "/input/conversation", ">= 1"),
}


@pytest.mark.parametrize("prefer", ["respond-async", "wait=5"])
@pytest.mark.parametrize(("text", "pointer", "words"), INVALID.values(), ids=INVALID)
def test_a_body_that_asks_for_nothing_we_do_is_refused_with_the_member_at_fault(
        caller: Caller, text: str, pointer: str, words: str, prefer: str) -> None:
    answer = caller.call("POST", "/v1/jobs", data=text, headers={
        "Content-Type": "application/json", "Prefer": prefer, "Idempotency-Key": "never-kept"})

    found = problem(answer, 422, "invalid-input")
    assert found["pointer"] == pointer
    assert words in found["detail"]


@pytest.mark.parametrize("text", [
    "[" * DEEP + "]" * DEEP, cached("[" * DEEP + "]" * DEEP), cached('{"a":' * DEEP + "1" + "}" * DEEP),
    '{"service":"model","input":' + '{"a":' * DEEP + "1" + "}" * DEEP + "}"],
    ids=["the whole", "a value of arrays", "a value of objects", "an input"])
def test_json_nested_too_deeply_is_refused(caller: Caller, text: str) -> None:
    answer = caller.call("POST", "/v1/jobs", data=text, headers={"Content-Type": "application/json"})

    assert problem(answer, 422, "invalid-input")["pointer"] in ("", "/input")


def test_logins_are_not_submitted_as_jobs(caller: Caller) -> None:
    answer = caller.call("POST", "/v1/jobs", json={"service": "auth", "input": {"sealed": "x"}})

    found = problem(answer, 403, "forbidden")
    assert found["pointer"] == "/service"
    assert "POST /v1/auth/login" in found["detail"]


# -- a body that is no JSON: 400


@pytest.mark.parametrize(("data", "words"), [
    (b"", "empty"), (b"{", "truncated"), (b"hello", "not JSON"), (b"{'service': 'model'}", "not JSON"),
    (body().encode() + b"x", "trailing"), (b"\xef\xbb\xbf" + body().encode(), "not JSON"), (b"\x00", "not JSON"),
    (b'{"service":"model","input":{"prompt":"a\x00b"}}', "not JSON"), (b'{"service":"model\x00"}', "not JSON"),
    (b'{"service":"model","input":{"prompt":"\\ud800"}}', "not JSON"),
    (b'{"service":"model","input":{"prompt":"a","temperature":NaN}}', "not JSON"),
    (b'{"service":"model","input":{"prompt":"\xff"}}', "not UTF-8: invalid start byte (byte 38)"),
    (b'{"service":"model","\xff":1}', "not UTF-8"), (cached('"?"').encode().replace(b"?", b"\xc3"), "not UTF-8"),
    (body().encode("utf-16"), "not UTF-8")], ids=range(15))
def test_a_body_that_is_not_json_is_refused(caller: Caller, data: bytes, words: str) -> None:
    for extra in ({}, {"Idempotency-Key": "never-kept"}):
        answer = caller.call("POST", "/v1/jobs", data=data, headers={"Content-Type": "application/json", **extra})

        assert words in problem(answer, 400, "malformed-request")["detail"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", None])
def test_a_body_that_does_not_say_it_is_json_is_refused(caller: Caller, kind: str | None) -> None:
    answer = caller.call("POST", "/v1/jobs", data=body(), headers={"Content-Type": kind})

    assert f"it came as '{kind or 'nothing'}'" in problem(answer, 415, "unsupported-media-type")["detail"]


def test_a_body_that_says_it_is_json_with_a_charset_is_taken_as_far_as_its_content(caller: Caller) -> None:
    answer = caller.call("POST", "/v1/jobs", data="{}", headers={"Content-Type": "Application/JSON; charset=utf-8"})

    problem(answer, 422, "invalid-input")


# -- too large: 413


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/auth/login"])
@pytest.mark.parametrize("size", [MOST + 1, 2 * MOST + 1])
@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunked"])
def test_a_body_over_the_limit_is_refused_however_it_comes(caller: Caller, size: int, path: str, *, chunked: bool) -> None:
    data = body().encode().ljust(size)  # good JSON, and blanks
    answer = caller.call("POST", path, data=iter([data[:MOST], data[MOST:]]) if chunked else data,
                         headers={"Content-Type": "application/json"})

    most = 16_384 if path.endswith("login") else MOST  # nothing is known yet of who sends it
    assert str(most) in problem(answer, 413, "payload-too-large")["detail"]


@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunked"])
def test_a_body_at_the_limit_is_read_to_its_end(caller: Caller, *, chunked: bool) -> None:
    data = body().encode().ljust(MOST - 1) + b"x"
    answer = caller.call("POST", "/v1/jobs", data=iter([data]) if chunked else data,
                         headers={"Content-Type": "application/json"})

    assert f"trailing characters (byte {MOST})" in problem(answer, 400, "malformed-request")["detail"]


# -- nothing there: 404 and 405


@pytest.mark.parametrize("job_id", [
    "01990000-0000-7000-8000-000000000000", "1", "None", "nonsense", "01990000-0000-7000-8000-00000000000",
    "01990000-0000-7000-8000-0000000000000", "0199000000007000800000000000000", "*", "%00", "%ff", "%0a", "a%20b", "é"])
@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "?wait=5"), ("DELETE", ""), ("POST", "/cancel")])
def test_a_job_that_cannot_be_is_unknown(caller: Caller, job_id: str, method: str, path: str) -> None:
    answer = caller.call(method, f"/v1/jobs/{job_id}{path}")

    assert (answer.status_code, answer.json()["code"]) == (404, "job-unknown")
    assert "there is no job" in answer.json()["detail"]


@pytest.mark.parametrize("path", [
    "/v1", "/v2/jobs", "/v1/jobs/", "/v1//jobs", "/v1/jobs/a/b", "/healthz/", "/favicon.ico"])
def test_a_path_that_serves_nothing_is_not_found_and_never_redirected(caller: Caller, path: str) -> None:
    answer = caller.call("GET", path, allow_redirects=False)

    assert "/openapi.json" in problem(answer, 404, "not-found")["detail"]


@pytest.mark.parametrize(("method", "path", "allowed"), [
    ("PUT", "/v1/jobs", {"GET", "HEAD", "POST"}), ("BREW", "/v1/jobs", {"GET", "HEAD", "POST"}),
    ("PATCH", "/v1/jobs/1", {"GET", "HEAD", "PUT", "DELETE"}), ("GET", "/v1/jobs/1/cancel", {"POST"}),
    ("GET", "/v1/auth/login", {"POST"}), ("POST", "/v1/status", {"GET", "HEAD"}), ("DELETE", "/healthz", {"GET", "HEAD"})])
def test_a_method_that_a_path_lacks_is_refused_with_those_it_has(
        caller: Caller, method: str, path: str, allowed: set[str]) -> None:
    answer = caller.call(method, path)

    assert method in problem(answer, 405, "method-not-allowed")["detail"]
    assert set(answer.headers["Allow"].split(", ")) == allowed | {"OPTIONS"}
