"""Who may call: a token we signed or a key that is known, and nothing that only looks like one."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.keyring import Keyring, load_keyring
from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller

PROTECTED = [("POST", "/v1/jobs"), ("GET", "/v1/jobs/1"), ("DELETE", "/v1/jobs/1"), ("POST", "/v1/jobs/1/cancel"),
             ("GET", "/v1/status")]

Forger = Callable[[Keyring, dict[str, Any]], str]


@pytest.fixture(scope="module")
def keyring(stack: Sandbox) -> Keyring:
    """The secrets of the stack, to forge with."""
    return load_keyring(stack.folder / "var")


@pytest.fixture
def claims() -> dict[str, Any]:
    """The claims of a token as the gateway makes them, for an operator nobody made."""
    now = int(time.time())
    return {"iss": "tandem", "aud": "tandem", "sub": "nobody", "type": "access", "jti": "1", "fresh": False, "iat": now,
            "exp": now + 900, "username": "nobody", "role": "operator"}


def asked_with(caller: Caller, authorization: str | None) -> requests.Response:
    """Ask for what only operators get, with this header instead of the caller's own."""
    return caller.call("GET", "/v1/status", headers={"Authorization": authorization})


def refused(answer: requests.Response) -> str:
    """Check that a response refuses the credentials, and return what it says."""
    body = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (401, 401, "unauthenticated")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="tandem"'
    return str(body["detail"])


def encoded(part: Any) -> bytes:
    return base64.urlsafe_b64encode(part if isinstance(part, bytes) else json.dumps(part).encode()).rstrip(b"=")


def by_hand(header: Any, claims: Any, sign: Callable[[bytes], bytes]) -> str:
    signed = encoded(header) + b"." + encoded(claims)
    return (signed + b"." + encoded(sign(signed))).decode()


# -- no credentials


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_nothing_is_done_for_a_caller_without_credentials(stack: Sandbox, method: str, path: str) -> None:
    with Caller(stack.report()["entry"]) as nobody:
        assert "POST /v1/auth/login" in refused(nobody.call(method, path, json={"service": "model"}))


@pytest.mark.parametrize("authorization", [
    "", "Bearer", "Bearer ", "Basic dTpw", "Token x", "Bearer a", "Bearer a.b", "Bearer a.b.c", "Bearer ...",
    "Bearer tk_", "Bearer tk_unknown", "Bearer TK_unknown", "Bearer \xfc.\xfc.\xfc", "Bearer tk_\xfc", "Bearer a b",
    "Bearer " + "a" * 8000, "x" * 8000])
def test_garbage_is_no_credential(caller: Caller, authorization: str) -> None:
    refused(asked_with(caller, authorization))


def test_a_key_is_good_only_as_it_was_given(caller: Caller, stack: Sandbox) -> None:
    key = stack.report()["api_key"]
    assert asked_with(caller, f"bearer {key}").status_code == 200, "the scheme's case does not matter"

    for other in (key[:-1], key + "a", key.upper(), key.removeprefix("tk_"), f"tk_{key}", f" {key}"):
        refused(asked_with(caller, f"Bearer {other}"))


# -- tokens


def test_a_token_signed_with_our_key_is_good_so_the_forgeries_below_differ_only_where_they_say(
        caller: Caller, keyring: Keyring, claims: dict[str, Any]) -> None:
    token = jwt.encode(claims, keyring.private_pem, "EdDSA")

    assert asked_with(caller, f"Bearer {token}").status_code == 200


FORGERIES: dict[str, Forger] = {
    "signed by another key": lambda _, claims: jwt.encode(claims, Ed25519PrivateKey.generate(), "EdDSA"),
    "not signed": lambda _, claims: jwt.encode(claims, None, "none"),
    "not signed, in other letters": lambda _, claims: by_hand({"alg": "nOnE"}, claims, lambda _: b""),
    "said to be EdDSA, without a signature": lambda _, claims: by_hand({"alg": "EdDSA"}, claims, lambda _: b""),
    "HS256 with our public key": lambda keyring, claims: by_hand(
        {"alg": "HS256", "typ": "JWT"}, claims,
        lambda signed: hmac.new(keyring.public_pem.encode(), signed, hashlib.sha256).digest()),
    "HS256 with nothing": lambda _, claims: by_hand(
        {"alg": "HS256"}, claims, lambda signed: hmac.new(b"", signed, hashlib.sha256).digest()),
    "with a key of its own in the header": lambda _, claims: jwt.encode(
        claims, Ed25519PrivateKey.generate(), "EdDSA", headers={"kid": "../../dev/null", "jku": "http://127.0.0.1/"}),
    "with other claims under our signature": lambda keyring, claims: _swapped(keyring, claims),
    "of another issuer": lambda keyring, claims: jwt.encode(claims | {"iss": "else"}, keyring.private_pem, "EdDSA"),
    "for another audience": lambda keyring, claims: jwt.encode(claims | {"aud": "else"}, keyring.private_pem, "EdDSA"),
    "for refreshing": lambda keyring, claims: jwt.encode(claims | {"type": "refresh"}, keyring.private_pem, "EdDSA"),
    "without a username": lambda keyring, claims: jwt.encode(
        {name: value for name, value in claims.items() if name != "username"}, keyring.private_pem, "EdDSA"),
    "with a header that is a list": lambda _, claims: by_hand([], claims, lambda _: b"x"),
    "with claims that are a list": lambda _, __: by_hand({"alg": "EdDSA"}, [], lambda _: b"x"),
    "with a header nested without end": lambda _, claims: by_hand(b"[" * 2000, claims, lambda _: b"x"),
    "with an algorithm that is a list": lambda _, claims: by_hand({"alg": ["EdDSA"]}, claims, lambda _: b"x"),
}


def _swapped(keyring: Keyring, claims: dict[str, Any]) -> str:
    header, _, signature = jwt.encode(claims | {"role": "user"}, keyring.private_pem, "EdDSA").split(".")
    return f"{header}.{encoded(claims).decode()}.{signature}"


@pytest.mark.parametrize("forger", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_token_is_refused(
        caller: Caller, keyring: Keyring, claims: dict[str, Any], forger: Forger) -> None:
    assert "log in again" in refused(asked_with(caller, f"Bearer {forger(keyring, claims)}"))


def test_an_expired_token_is_refused_and_says_so(caller: Caller, keyring: Keyring, claims: dict[str, Any]) -> None:
    token = jwt.encode(claims | {"iat": claims["iat"] - 901, "exp": claims["iat"] - 1}, keyring.private_pem, "EdDSA")

    assert refused(asked_with(caller, f"Bearer {token}")) == "the access token has expired; log in again"


def test_a_token_that_was_good_is_refused_once_it_has_expired(
        caller: Caller, keyring: Keyring, claims: dict[str, Any]) -> None:
    token = jwt.encode(claims | {"exp": int(time.time()) + 2}, keyring.private_pem, "EdDSA")
    assert asked_with(caller, f"Bearer {token}").status_code == 200

    wait_until(lambda: asked_with(caller, f"Bearer {token}").status_code == 401, timeout_s=10, what="the token to expire")
    assert refused(asked_with(caller, f"Bearer {token}")) == "the access token has expired; log in again"


def test_a_token_signed_with_our_key_is_good_at_every_gateway(
        stack: Sandbox, keyring: Keyring, claims: dict[str, Any]) -> None:
    token = jwt.encode(claims, keyring.private_pem, "EdDSA")

    for address in stack.report()["gateways"].values():
        with Caller(address, token) as one:
            assert one.call("GET", "/v1/status").status_code == 200


# -- roles


def test_only_operators_are_told_the_state_of_the_system(
        caller: Caller, keyring: Keyring, claims: dict[str, Any]) -> None:
    token = jwt.encode(claims | {"role": "user"}, keyring.private_pem, "EdDSA")

    answer = asked_with(caller, f"Bearer {token}")

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "operator" in answer.json()["detail"]
    assert "queues" not in answer.text
