"""Who may call: a token we signed or a key that is known, and nothing that only looks like one."""

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.accounts import Accounts, Role
from app.keyring import load_keyring
from app.sessions import Sessions
from app.signing_keys import SigningKey, SigningKeys
from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller

PROTECTED = [("POST", "/v1/jobs"), ("GET", "/v1/jobs/1"), ("DELETE", "/v1/jobs/1"), ("POST", "/v1/jobs/1/cancel"),
             ("GET", "/v1/status")]

EXPIRED = "the access token has expired; get another with POST /v1/auth/refresh, or log in again"

Forger = Callable[[SigningKey, dict[str, Any]], str]


@pytest.fixture(scope="module")
def key(stack: Sandbox) -> SigningKey:
    """The key that the stack signs with, to forge with."""
    return SigningKeys(stack.client(), load_keyring(stack.folder / "var"), token_life_s=900).signing()


@pytest.fixture(scope="module")
def begin(stack: Sandbox) -> Callable[[Role], dict[str, Any]]:
    """Makes an account with a session; gives the claims of a token for it, as the gateway makes them."""
    def begun(role: Role) -> dict[str, Any]:
        name, now = f"f{uuid.uuid4().hex[:12]}", int(time.time())
        account = Accounts(stack.client()).add(name, role, "no password fits")
        session = Sessions(stack.client(), life_s=900).begin(name, account.id, version=account.version)
        assert session is not None
        return {"iss": "tandem", "aud": "tandem", "sub": account.id, "type": "access", "jti": "1", "fresh": False,
                "iat": now, "exp": now + 900, "username": name, "role": role.value, "sid": session[0].sid}

    return begun


@pytest.fixture
def claims(begin: Callable[[Role], dict[str, Any]]) -> dict[str, Any]:
    """The claims of an operator's token."""
    return begin(Role.OPERATOR)


def signed(key: SigningKey, claims: dict[str, Any], **headers: Any) -> str:
    return jwt.encode(claims, key.private, "EdDSA", headers={"kid": key.kid, **headers})


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
        caller: Caller, key: SigningKey, claims: dict[str, Any]) -> None:
    token = signed(key, claims)

    assert asked_with(caller, f"Bearer {token}").status_code == 200


FORGERIES: dict[str, Forger] = {
    "signed by another key": lambda key, claims: jwt.encode(
        claims, Ed25519PrivateKey.generate(), "EdDSA", headers={"kid": key.kid}),
    "signed by another key, under its own name": lambda _, claims: jwt.encode(
        claims, Ed25519PrivateKey.generate(), "EdDSA", headers={"kid": "mine"}),
    "without the name of a key": lambda key, claims: jwt.encode(claims, key.private, "EdDSA"),
    "with a list for the name of a key": lambda key, claims: by_hand(
        {"alg": "EdDSA", "kid": [key.kid]}, claims, key.private.sign),
    "not signed": lambda key, claims: jwt.encode(claims, None, "none", headers={"kid": key.kid}),
    "not signed, in other letters": lambda key, claims: by_hand({"alg": "nOnE", "kid": key.kid}, claims, lambda _: b""),
    "said to be EdDSA, without a signature": lambda key, claims: by_hand(
        {"alg": "EdDSA", "kid": key.kid}, claims, lambda _: b""),
    "HS256 with our public key": lambda key, claims: by_hand(
        {"alg": "HS256", "typ": "JWT", "kid": key.kid}, claims,
        lambda signed: hmac.new(_pem(key), signed, hashlib.sha256).digest()),
    "HS256 with nothing": lambda key, claims: by_hand(
        {"alg": "HS256", "kid": key.kid}, claims, lambda signed: hmac.new(b"", signed, hashlib.sha256).digest()),
    "with a key of its own in the header": lambda _, claims: jwt.encode(
        claims, Ed25519PrivateKey.generate(), "EdDSA", headers={"kid": "../../dev/null", "jku": "http://127.0.0.1/"}),
    "with other claims under our signature": lambda key, claims: _swapped(key, claims),
    "of another issuer": lambda key, claims: signed(key, claims | {"iss": "else"}),
    "for another audience": lambda key, claims: signed(key, claims | {"aud": "else"}),
    "for nobody's ears": lambda key, claims: signed(key, _without(claims, "aud")),
    "for refreshing": lambda key, claims: signed(key, claims | {"type": "refresh"}),
    "without a session": lambda key, claims: signed(key, _without(claims, "sid")),
    "of a session that is not there": lambda key, claims: signed(key, claims | {"sid": "0" * 32}),
    "of a session that is a list": lambda key, claims: signed(key, claims | {"sid": [claims["sid"]]}),
    "of somebody else's session": lambda key, claims: signed(key, claims | {"sub": "somebody else"}),
    "that never expires": lambda key, claims: signed(key, _without(claims, "exp")),
    "with a header that is a list": lambda _, claims: by_hand([], claims, lambda _: b"x"),
    "with claims that are a list": lambda _, __: by_hand({"alg": "EdDSA"}, [], lambda _: b"x"),
    "with a header nested without end": lambda _, claims: by_hand(b"[" * 2000, claims, lambda _: b"x"),
    "with an algorithm that is a list": lambda _, claims: by_hand({"alg": ["EdDSA"]}, claims, lambda _: b"x"),
}


def _swapped(key: SigningKey, claims: dict[str, Any]) -> str:
    header, _, signature = signed(key, claims | {"role": "user"}).split(".")
    return f"{header}.{encoded(claims).decode()}.{signature}"


def _without(claims: dict[str, Any], name: str) -> dict[str, Any]:
    return {each: value for each, value in claims.items() if each != name}


def _pem(key: SigningKey) -> bytes:
    return key.public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("forger", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_token_is_refused(
        caller: Caller, key: SigningKey, claims: dict[str, Any], forger: Forger) -> None:
    assert "log in again" in refused(asked_with(caller, f"Bearer {forger(key, claims)}"))


def test_an_expired_token_is_refused_and_says_so(caller: Caller, key: SigningKey, claims: dict[str, Any]) -> None:
    token = signed(key, claims | {"iat": claims["iat"] - 901, "exp": claims["iat"] - 1})

    assert refused(asked_with(caller, f"Bearer {token}")) == EXPIRED


def test_a_token_that_was_good_is_refused_once_it_has_expired(
        caller: Caller, key: SigningKey, claims: dict[str, Any]) -> None:
    token = signed(key, claims | {"exp": int(time.time()) + 2})
    assert asked_with(caller, f"Bearer {token}").status_code == 200

    wait_until(lambda: asked_with(caller, f"Bearer {token}").status_code == 401, timeout_s=10, what="the token to expire")
    assert refused(asked_with(caller, f"Bearer {token}")) == EXPIRED


def test_a_token_signed_with_our_key_is_good_at_every_gateway(
        stack: Sandbox, key: SigningKey, claims: dict[str, Any]) -> None:
    token = signed(key, claims)

    for address in stack.report()["gateways"].values():
        with Caller(address, token) as one:
            assert one.call("GET", "/v1/status").status_code == 200


# -- roles


def test_only_operators_are_told_the_state_of_the_system_whatever_the_token_says(
        caller: Caller, key: SigningKey, begin: Callable[[Role], dict[str, Any]]) -> None:
    token = signed(key, begin(Role.USER) | {"role": "operator"})

    answer = asked_with(caller, f"Bearer {token}")

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "operator" in answer.json()["detail"]
    assert "queues" not in answer.text
