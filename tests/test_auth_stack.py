"""Logins on two running servers: limited together, ended together, and untouched by a new signing key."""

import re
import uuid
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
import requests

from app.settings import Settings
from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller
from tests.operating import operate

PASSWORD = f"correct-{uuid.uuid4().hex}"
NAME = f"auth-{uuid.uuid4().hex[:8]}"

AT_ONCE_S = 2  # less than a gateway believes a token unheard


@pytest.fixture(scope="module", autouse=True)
def account(stack: Sandbox) -> None:
    """An account of the name and password above."""
    added = operate(stack, "users", "add", NAME, "--password-stdin", stdin=f"{PASSWORD}\n")
    assert added.returncode == 0, added.stderr


@pytest.fixture
def gateways(stack: Sandbox) -> Iterator[list[Caller]]:
    """Both gateways, without credentials."""
    both = [Caller(address) for address in stack.report()["gateways"].values()]
    yield both
    for one in both:
        one.__exit__()


def log_in(gateway: Caller, username: str = NAME, password: str = PASSWORD) -> requests.Response:
    return gateway.call("POST", "/v1/auth/login", json={"username": username, "password": password})


def given(answer: requests.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def status(gateway: Caller, token: str) -> int:
    return gateway.call("GET", "/v1/jobs/1", headers={"Authorization": f"Bearer {token}"}).status_code


@pytest.mark.parametrize("known", [True, False], ids=["a known name", "an unknown name"])
def test_failures_at_both_gateways_are_counted_together_for_known_and_unknown_names(
        stack: Sandbox, gateways: list[Caller], known: bool) -> None:
    name = f"guessed-{uuid.uuid4().hex[:8]}"
    if known:
        assert operate(stack, "users", "add", name).returncode == 0
    most = Settings().login_attempts

    answers = [log_in(gateways[number % 2], name, "wrong") for number in range(most + 2)]

    assert [answer.status_code for answer in answers] == [401] * most + [429] * 2
    for answer in answers[most:]:
        assert 0 < int(answer.headers["Retry-After"]) <= Settings().login_window_s
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert re.fullmatch(r"too many logins failed for this account or from this address; try again in \d+ s",
                            answer.json()["detail"])
    assert given(log_in(gateways[0])), "another account logs in from the same address"


def test_a_login_goes_on_at_the_other_gateway_and_ends_at_both_at_once(gateways: list[Caller]) -> None:
    first, second = gateways
    tokens = given(log_in(first))
    refreshed = given(second.call("POST", "/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]}))
    for token in (tokens["access_token"], refreshed["access_token"]):
        assert [status(one, token) for one in gateways] == [404, 404]

    assert second.call("POST", "/v1/auth/logout", json={"refresh_token": refreshed["refresh_token"]}).status_code == 204

    for one in gateways:
        for token in (tokens["access_token"], refreshed["access_token"]):
            wait_until(lambda one=one, token=token: status(one, token) == 401, timeout_s=AT_ONCE_S, what="the end")
        assert one.call("POST", "/v1/auth/refresh", json={
            "refresh_token": refreshed["refresh_token"]}).status_code == 401


def test_a_new_signing_key_is_used_by_gateways_that_run_and_nobody_is_logged_out(
        stack: Sandbox, gateways: list[Caller]) -> None:
    tokens = given(log_in(gateways[0]))
    old = jwt.get_unverified_header(tokens["access_token"])["kid"]

    rotated = stack.celery("tokens", "rotate")
    assert rotated.returncode == 0, rotated.stderr
    match = re.fullmatch(r"(\S{43}) signs in 5 s, on all servers\n", rotated.stdout)
    assert match
    new = match[1]
    for one in gateways:
        def told(one: Caller = one) -> list[str]:
            return [key["kid"] for key in one.call("GET", "/.well-known/jwks.json").json()["keys"]][-2:]

        wait_until(lambda told=told: told() == [old, new], timeout_s=3, what="both gateways to tell of the new key")

    def signs(gateway: Caller) -> bool:
        answer = given(gateway.call("POST", "/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]}))
        tokens["refresh_token"] = answer["refresh_token"]
        tokens["fresh"] = answer["access_token"]
        return bool(jwt.get_unverified_header(answer["access_token"])["kid"] == new)

    for one in gateways:
        wait_until(lambda one=one: signs(one), timeout_s=15, what="the new key to sign", every_s=0.5)
    for one in gateways:
        assert [status(one, token) for token in (tokens["access_token"], tokens["fresh"])] == [404, 404]
    listed = stack.celery("tokens", "list").stdout
    assert re.search(rf"^{new}  made \S+ \S+Z  signs$", listed, re.MULTILINE)
    assert re.search(rf"^{old}  made \S+ \S+Z  believed until \S+ \S+Z$", listed, re.MULTILINE)
