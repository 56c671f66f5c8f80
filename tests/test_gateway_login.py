"""`POST /v1/auth/login`: a password becomes a token, and leaves no trace anywhere."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
import redis
import requests

from app.settings import Settings
from ops.sandbox import Sandbox
from tests.caller import Caller
from tests.operating import operate

PASSWORD = f"correct-{uuid.uuid4().hex}"
WRONG = f"wrong-{uuid.uuid4().hex}"
NAME = f"login-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module", autouse=True)
def account(stack: Sandbox) -> None:
    """An account of the name and password above."""
    added = operate(stack, "users", "add", NAME, "--password-stdin", stdin=f"{PASSWORD}\n")
    assert added.returncode == 0, added.stderr


@pytest.fixture
def nobody(stack: Sandbox) -> Iterator[Caller]:
    """A caller without credentials."""
    with Caller(stack.report()["entry"]) as one:
        yield one


def log_in(caller: Caller, username: str = NAME, password: str = PASSWORD) -> requests.Response:
    return caller.call("POST", "/v1/auth/login", json={"username": username, "password": password})


def test_a_good_password_gives_a_token_that_works_until_it_expires(nobody: Caller, stack: Sandbox) -> None:
    answer = log_in(nobody)

    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    given = answer.json()
    assert set(given) == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert (given["token_type"], given["expires_in"]) == ("Bearer", Settings().access_token_s)
    claims = jwt.decode(given["access_token"], options={"verify_signature": False})
    assert jwt.get_unverified_header(given["access_token"])["alg"] == "EdDSA"
    assert (claims["exp"] - claims["iat"], claims["username"], claims["role"]) == (given["expires_in"], NAME, "user")
    with Caller(stack.report()["entry"], given["access_token"]) as caller:
        assert caller.submit("hello", headers={"Prefer": "wait=30"})["state"] == "succeeded"
        assert caller.call("GET", "/v1/status").status_code == 403


def test_a_login_at_either_gateway_gives_the_same_account(stack: Sandbox) -> None:
    jobs = []
    for address in stack.report()["gateways"].values():
        with Caller(address) as nobody, Caller(address, log_in(nobody).json()["access_token"]) as caller:
            jobs.append(caller.submit("hello", headers={"Prefer": "wait=30"}))
            assert [caller.job(job["id"]) for job in jobs] == jobs


def test_a_wrong_password_and_an_unknown_name_are_refused_in_the_same_words(nobody: Caller) -> None:
    answers = [log_in(nobody, password=WRONG), log_in(nobody, username="nobody-of-that-name", password=WRONG)]

    for answer in answers:
        assert answer.status_code == 401
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="tandem"'
        assert answer.json() | {"request_id": ""} == answers[0].json() | {"request_id": ""}
    assert answers[0].json()["code"] == "unauthenticated"
    assert answers[0].json()["detail"] == "username and password do not fit"


@pytest.mark.parametrize(("username", "password"), [
    (NAME, PASSWORD[:-1]), (NAME, PASSWORD + " "), (NAME, PASSWORD.upper()), (NAME, "a\0b"), (NAME, " "),
    (NAME.upper(), PASSWORD), (NAME + " ", PASSWORD), (NAME + "\0", PASSWORD), ("*", PASSWORD), ("accounts", PASSWORD),
    ("名" * 200, "密" * 1000)], ids=range(11))
def test_what_is_nearly_right_is_wrong(nobody: Caller, username: str, password: str) -> None:
    assert log_in(nobody, username, password).status_code == 401


@pytest.mark.parametrize(("body", "status", "pointer"), [
    ({}, 422, ""), ({"username": NAME}, 422, ""), ({"password": PASSWORD}, 422, ""), ([NAME, PASSWORD], 422, ""),
    ({"username": NAME, "password": 1}, 422, "/password"), ({"username": None, "password": PASSWORD}, 422, "/username"),
    ({"username": "", "password": PASSWORD}, 422, "/username"), ({"username": NAME, "password": ""}, 422, "/password"),
    ({"username": "u" * 201, "password": PASSWORD}, 422, "/username"),
    ({"username": NAME, "password": "p" * 1001}, 422, "/password"),
    ({"username": NAME, "password": PASSWORD, "otp": "1"}, 422, "/otp"),
    ("{", 400, None), ("", 400, None), (b'{"username": "\xff"}', 400, None), ("[" * 10_000, 422, ""),
    ("[" * 100_000, 413, None)],
    ids=range(16))
def test_a_malformed_login_is_refused_without_asking_anyone(
        nobody: Caller, stack: Sandbox, body: Any, status: int, pointer: str | None) -> None:
    before = stack.client().hget("counts", "accepted")

    answer = nobody.call("POST", "/v1/auth/login", headers={"Content-Type": "application/json"},
                         data=body if isinstance(body, str | bytes) else json.dumps(body))

    assert (answer.status_code, answer.json().get("pointer")) == (status, pointer)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert PASSWORD not in answer.text
    assert stack.client().hget("counts", "accepted") == before


def test_a_login_that_does_not_say_it_is_json_is_refused(nobody: Caller) -> None:
    answer = nobody.call("POST", "/v1/auth/login", data={"username": NAME, "password": PASSWORD})

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type")


def test_the_job_behind_a_login_is_shown_to_nobody_and_keeps_no_password(
        nobody: Caller, caller: Caller, stack: Sandbox) -> None:
    client = stack.client()
    before = logins(client)
    token = log_in(nobody).json()["access_token"]

    (job_id,) = logins(client) - before

    with Caller(stack.report()["entry"], token) as oneself:
        for who in (caller, oneself):
            for method, path in (("GET", ""), ("GET", "?wait=1"), ("DELETE", ""), ("POST", "/cancel")):
                answer = who.call(method, f"/v1/jobs/{job_id}{path}")
                assert (answer.status_code, answer.json()["code"]) == (404, "job-unknown")
    record = client.hgetall(f"job:{job_id}")
    assert (record[b"state"], record.get(b"input")) == (b"succeeded", None)


def logins(client: redis.Redis) -> set[str]:
    """The ids of all login jobs."""
    return {key.decode().removeprefix("job:") for key in client.scan_iter(match="job:*", count=1000)
            if client.hget(key, "service") == b"auth"}


def test_a_password_is_found_nowhere_in_redis_and_in_no_file(nobody: Caller, stack: Sandbox) -> None:
    for password in (PASSWORD, WRONG):
        log_in(nobody, password=password)
        nobody.call("POST", "/v1/auth/login", json={"username": NAME, "password": [password]})
        nobody.call("POST", "/v1/auth/login", data=f'{{"password": "{password}',
                    headers={"Content-Type": "application/json"})
    files = [path for where in ("servers/*/*", "stack/*", "redis/**/*") for path in (stack.folder / "var").glob(where)
             if path.is_file()]
    assert {"auth.log", "gateway.log", "redis.log"} <= {path.name for path in files}

    kept = everything(stack.client())
    assert NAME.encode() in kept, "we looked in the wrong place"
    for secret in (PASSWORD.encode(), WRONG.encode()):
        assert secret not in kept
        assert not [path for path in files if secret in path.read_bytes()]


def everything(client: redis.Redis) -> bytes:
    """Every key and value in Redis, one after the other."""
    read = {b"string": client.get, b"hash": client.hgetall, b"list": lambda key: client.lrange(key, 0, -1),
            b"set": client.smembers, b"zset": lambda key: client.zrange(key, 0, -1), b"stream": client.xrange,
            b"none": lambda _: None}
    return b"".join(key + repr(read[client.type(key)](key)).encode() for key in client.scan_iter(count=1000))
