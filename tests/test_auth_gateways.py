"""Credentials at two gateways on one Redis: what one makes the other takes, and what one ends both refuse."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jwt
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from app import topology
from app.accounts import Account, Accounts, Role, Scope
from app.api import Gateway, create_app
from app.api.beliefs import Belief
from app.api.caller import Caller
from app.settings import Settings
from ops.waiting import wait_until

#: Far less than a gateway believes a credential unheard, and room for a busy machine.
AT_ONCE_S = 2.0


@pytest.fixture
def apps(settings: Settings) -> list[Flask]:
    """Two gateways, as two servers have them."""
    plan = topology.load({})[1]
    return [create_app(settings, plan), create_app(settings, plan)]


@pytest.fixture
def accounts(client: redis.Redis) -> Accounts:
    return Accounts(client)


@pytest.fixture
def ann(accounts: Accounts) -> Account:
    return accounts.add("ann", Role.OPERATOR, "hash")


Tokens = dict[str, Any]


@pytest.fixture
def logged_in(apps: list[Flask], ann: Account) -> Tokens:
    """What a login of ann's gave at the first gateway. (The password is looked at in test_gateway_login.)"""
    begun = gateway(apps[0]).sessions.begin("ann", ann.id, version=ann.version)
    assert begun is not None
    with apps[0].test_request_context():
        return {"access_token": gateway(apps[0]).tokens.make(begun[0]), "refresh_token": begun[1], "sid": begun[0].sid}


def gateway(app: Flask) -> Gateway:
    found: Gateway = app.extensions["tandem"]
    return found


def status(app: Flask, credentials: str, path: str = "/v1/status") -> int:
    return int(app.test_client().get(path, headers={"Authorization": f"Bearer {credentials}"}).status_code)


def why(app: Flask, credentials: str, path: str = "/v1/status") -> str:
    answer = app.test_client().get(path, headers={"Authorization": f"Bearer {credentials}"})
    assert answer.status_code in (401, 403)
    return str(answer.json["detail"])


def post(app: Flask, path: str, **body: Any) -> Any:
    return app.test_client().post(path, json=body)


def believed(apps: list[Flask], *credentials: str) -> None:
    """Have both gateways believe these, and hear what is revoked."""
    for app in apps:
        def all_kept(app: Flask = app) -> bool:
            assert {status(app, each) for each in credentials} == {200}
            beliefs = gateway(app).beliefs  # it counts the beginning of its hearing as a revocation
            return beliefs.revocations > 0 and all(beliefs.get(f"Bearer {each}") for each in credentials)

        wait_until(all_kept, timeout_s=5, what="the gateway to believe")


def refused_soon(apps: list[Flask], credentials: str) -> None:
    for app in apps:
        wait_until(lambda app=app: status(app, credentials) == 401, timeout_s=AT_ONCE_S, what="the refusal")


# -- refresh and logout


def test_a_refresh_at_the_other_gateway_gives_tokens_that_work_at_both(apps: list[Flask], logged_in: Tokens) -> None:
    answer = post(apps[1], "/v1/auth/refresh", refresh_token=logged_in["refresh_token"])

    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert set(answer.json) == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert (answer.json["token_type"], answer.json["expires_in"]) == ("Bearer", Settings().access_token_s)
    assert [status(app, answer.json["access_token"]) for app in apps] == [200, 200]
    claims = jwt.decode(answer.json["access_token"], options={"verify_signature": False})
    assert (claims["sid"], claims["username"], claims["iss"], claims["aud"]) == (
        logged_in["sid"], "ann", "tandem", "tandem")


def test_a_refresh_token_used_twice_ends_the_access_tokens_of_its_session_at_both_gateways(
        apps: list[Flask], logged_in: Tokens) -> None:
    first = post(apps[0], "/v1/auth/refresh", refresh_token=logged_in["refresh_token"]).json
    second = post(apps[0], "/v1/auth/refresh", refresh_token=first["refresh_token"]).json
    believed(apps, second["access_token"])

    reused = post(apps[1], "/v1/auth/refresh", refresh_token=logged_in["refresh_token"])

    assert reused.status_code == 401
    assert "was used before" in reused.json["detail"]
    refused_soon(apps, second["access_token"])
    assert post(apps[0], "/v1/auth/refresh", refresh_token=second["refresh_token"]).status_code == 401


def test_a_logout_ends_the_access_token_at_both_gateways(apps: list[Flask], logged_in: Tokens) -> None:
    believed(apps, logged_in["access_token"])

    answer = post(apps[1], "/v1/auth/logout", refresh_token=logged_in["refresh_token"])

    assert (answer.status_code, answer.data) == (204, b"")
    refused_soon(apps, logged_in["access_token"])
    assert why(apps[0], logged_in["access_token"]) == "the session of this access token has ended; log in again"
    assert post(apps[0], "/v1/auth/logout", refresh_token=logged_in["refresh_token"]).status_code == 204


@pytest.mark.parametrize("path", ["/v1/auth/refresh", "/v1/auth/logout"])
@pytest.mark.parametrize(("body", "code", "pointer"), [
    ({}, 422, ""), ({"refresh_token": 1}, 422, "/refresh_token"), ({"refresh_token": ""}, 422, "/refresh_token"),
    ({"refresh_token": "x" * 501}, 422, "/refresh_token"), ({"refresh_token": "rt_a.b.c", "more": 1}, 422, "/more"),
    ({"refresh_token": "x" * 20_000}, 413, None)])
def test_a_malformed_body_is_refused(apps: list[Flask], path: str, body: Any, code: int, pointer: str | None) -> None:
    answer = post(apps[0], path, **body)

    assert (answer.status_code, answer.json.get("pointer")) == (code, pointer)


# -- what ends credentials that are in use


@pytest.mark.parametrize("change", ["password", "disable", "remove"])
def test_a_changed_account_ends_its_tokens_at_both_gateways(
        apps: list[Flask], accounts: Accounts, logged_in: Tokens, change: str) -> None:
    believed(apps, logged_in["access_token"])

    {"password": lambda: accounts.set_password("ann", "new"), "disable": lambda: accounts.disable("ann"),
     "remove": lambda: accounts.remove("ann")}[change]()

    refused_soon(apps, logged_in["access_token"])


@pytest.mark.parametrize("change", ["revoke", "disable", "remove"])
def test_a_key_ends_at_both_gateways(apps: list[Flask], accounts: Accounts, ann: Account, change: str) -> None:
    text, key = accounts.add_key(ann, "laptop")
    other, _ = accounts.add_key(accounts.add("bob", Role.OPERATOR, "hash"), "phone")
    believed(apps, text, other)

    {"revoke": lambda: accounts.revoke_key(key.id), "disable": lambda: accounts.disable("ann"),
     "remove": lambda: accounts.remove("ann")}[change]()

    refused_soon(apps, text)
    assert [status(app, other) for app in apps] == [200, 200]


def test_a_role_that_is_taken_away_is_gone_at_both_gateways(
        apps: list[Flask], accounts: Accounts, ann: Account, logged_in: Tokens) -> None:
    text, _ = accounts.add_key(ann, "laptop")
    believed(apps, logged_in["access_token"], text)

    accounts.set_role("ann", Role.USER)

    for app in apps:
        for credentials in (logged_in["access_token"], text):
            wait_until(lambda app=app, credentials=credentials: status(app, credentials) == 403, timeout_s=AT_ONCE_S,
                       what="the role to be gone")
    assert "needs the role operator" in why(apps[0], text)


def test_what_was_revoked_between_the_question_and_the_answer_is_not_believed(
        apps: list[Flask], accounts: Accounts, ann: Account, logged_in: Tokens) -> None:
    believed(apps, logged_in["access_token"])
    text, key = accounts.add_key(ann, "laptop")
    beliefs = gateway(apps[0]).beliefs
    since = beliefs.revocations
    belief = Belief(Caller(ann.id, "ann", Role.OPERATOR), time.time() + 60, (f"key:{key.id}",))

    accounts.revoke_key(key.id)
    wait_until(lambda: beliefs.revocations > since, timeout_s=AT_ONCE_S, what="the revocation to be heard")
    beliefs.keep(f"Bearer {text}", belief, since=since)

    assert beliefs.get(f"Bearer {text}") is None
    assert status(apps[0], text) == 401


def test_a_believed_credential_costs_no_round_trip(apps: list[Flask], logged_in: Tokens, client: redis.Redis) -> None:
    believed(apps[:1], logged_in["access_token"])
    check = gateway(apps[0]).check
    with apps[0].test_request_context(), client.monitor() as monitor:
        for _ in range(100):
            check.check(f"Bearer {logged_in['access_token']}")
        client.echo("end of the hundred")
        commands = []
        for command in monitor.listen():
            if "end of the hundred" in command["command"]:
                break
            commands.append(command["command"])
    assert [each for each in commands if "EVALSHA" in each.upper()] == []


# -- keys of tokens


def test_the_published_keys_check_the_tokens_of_both_gateways(apps: list[Flask], logged_in: Tokens) -> None:
    answers = [app.test_client().get("/.well-known/jwks.json") for app in apps]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json == answers[1].json
    assert answers[0].headers["Cache-Control"] == "public, max-age=4"
    header = jwt.get_unverified_header(logged_in["access_token"])
    assert header["alg"] == "EdDSA"
    key = jwt.PyJWKSet.from_dict(answers[0].json)[header["kid"]]
    claims = jwt.decode(logged_in["access_token"], key.key, ["EdDSA"], audience="tandem", issuer="tandem")
    assert claims["username"] == "ann"


def test_a_rotation_reaches_gateways_that_run_and_logs_nobody_out(
        apps: list[Flask], logged_in: Tokens) -> None:
    believed(apps, logged_in["access_token"])
    new = gateway(apps[0]).signing_keys.rotate(announced_s=0)

    refreshed = post(apps[1], "/v1/auth/refresh", refresh_token=logged_in["refresh_token"]).json["access_token"]

    assert jwt.get_unverified_header(refreshed)["kid"] == new.kid
    for app in apps:
        assert [status(app, token) for token in (logged_in["access_token"], refreshed)] == [200, 200]
        assert len(app.test_client().get("/.well-known/jwks.json").json["keys"]) == 2


def test_a_leaked_key_ends_its_tokens_at_both_gateways_and_a_refresh_goes_on(
        apps: list[Flask], logged_in: Tokens) -> None:
    believed(apps, logged_in["access_token"])

    gateway(apps[0]).signing_keys.rotate(end_old=True)

    refused_soon(apps, logged_in["access_token"])
    fresh = post(apps[1], "/v1/auth/refresh", refresh_token=logged_in["refresh_token"]).json["access_token"]
    for app in apps:
        wait_until(lambda app=app: status(app, fresh) == 200, timeout_s=AT_ONCE_S, what="the new key to be believed")


def test_made_up_kids_do_not_hammer_redis(apps: list[Flask], logged_in: Tokens, client: redis.Redis) -> None:
    assert status(apps[0], logged_in["access_token"]) == 200
    key = jwt.PyJWK.from_dict(gateway(apps[0]).signing_keys.signing().jwk())
    assert key.key_id
    before, began_s = client.info("commandstats")["cmdstat_hgetall"]["calls"], time.monotonic()

    for number in range(200):
        forged = jwt.encode({"sub": "x"}, "s" * 32, "HS256", headers={"kid": f"k{number}"})
        token = forged.replace(forged.split(".")[0], _header(f"k{number}"))
        assert "log in again" in why(apps[0], token)

    calls = client.info("commandstats")["cmdstat_hgetall"]["calls"] - before
    assert calls <= time.monotonic() - began_s + 2


def _header(kid: str) -> str:
    signed = jwt.encode({}, jwt.PyJWK.from_dict({
        "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}).key, "EdDSA", headers={"kid": kid})
    return signed.split(".")[0]


def test_garbage_is_refused_in_plain_words(apps: list[Flask]) -> None:
    assert why(apps[0], "a.b.c") == (
        "the access token is damaged, or none that this installation signed; log in again")


# -- scopes


@pytest.fixture
def limited(apps: list[Flask], accounts: Accounts, ann: Account) -> Callable[..., FlaskClient]:
    """A client of the first gateway with a key of these scopes."""
    def make(*scopes: Scope) -> FlaskClient:
        one = apps[0].test_client()
        one.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {accounts.add_key(ann, 'limited', scopes=scopes)[0]}"
        return one

    return make


def test_a_key_may_do_what_its_scopes_say_and_nothing_else(limited: Callable[..., FlaskClient]) -> None:
    body = {"service": "model", "input": {"prompt": "hello"}}
    reader, writer, watcher = limited(Scope.JOBS_READ), limited(Scope.JOBS_WRITE), limited(Scope.OPERATE)

    accepted = writer.post("/v1/jobs", json=body)
    assert accepted.status_code == 202
    path = f"/v1/jobs/{accepted.json['id']}"
    assert reader.get(path).status_code == 200
    assert watcher.get("/v1/status").status_code == 200
    for refused in (reader.post("/v1/jobs", json=body), reader.delete(path), writer.get(path), watcher.get(path),
                    reader.get("/v1/status")):
        assert (refused.status_code, refused.json["code"]) == (403, "forbidden")
        assert "this API key lacks the scope '" in refused.json["detail"]


def test_an_expired_key_is_refused_though_it_was_believed(apps: list[Flask], accounts: Accounts, ann: Account) -> None:
    text, _ = accounts.add_key(ann, "short", life_s=0.3)
    assert status(apps[0], text) == 200

    wait_until(lambda: status(apps[0], text) == 401, timeout_s=AT_ONCE_S, what="the key to expire")


# -- login limits over HTTP, without an auth worker


def test_a_login_over_the_limit_is_told_when_to_come_back(settings: Settings, client: redis.Redis) -> None:
    app = create_app(replace(settings, trusted_proxies=1), topology.load({})[1])
    limit = gateway(app).login_limit
    for _ in range(settings.login_attempts):
        limit.admit("nobody", "192.0.2.1")

    answer = app.test_client().post("/v1/auth/login", json={"username": "nobody", "password": "x"},
                                    headers={"X-Forwarded-For": "6.6.6.6, 192.0.2.1"})

    assert (answer.status_code, answer.json["code"]) == (429, "limit-exceeded")
    assert 0 < int(answer.headers["Retry-After"]) <= settings.login_window_s
    assert not list(client.scan_iter(match="job:*")), "nobody was asked to look at the password"
