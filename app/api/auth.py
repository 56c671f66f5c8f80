"""Logging in and out: `/v1/auth/login`, `/v1/auth/refresh`, `/v1/auth/logout`, and the keys that check our tokens.

A password goes, sealed, to the auth worker as a job; the tokens are made here.
"""

from typing import Annotated, TypeVar

import msgspec
from flask import Blueprint, Response, request
from msgspec import Meta

from app.api import bodies, request_times
from app.api.client_address import client_address
from app.errors import StoreUnavailable, Unauthenticated
from app.inputs import Input
from app.job import Job, Lane, NewJob, Service, State, new_job_id
from app.sessions import Session

blueprint = Blueprint("auth", __name__)

_LOGIN_S = 15.0  # a login that no auth worker answered by then is given up
_LARGEST_BYTES = 16_384  # of a body: no credentials have been seen yet
_MOST_WAITING = 200  # logins in line, a few seconds of two servers' work; more are turned away
_TENANT = "logins"  # login jobs belong to nobody: no caller can read them
_KEYS_LAST_S = 4  # how long others may keep our keys; a new one is published for no less before it signs

Body = TypeVar("Body")


class LoginRequest(Input):
    """The body of a login."""

    username: Annotated[str, Meta(min_length=1, max_length=200)]
    password: Annotated[str, Meta(min_length=1, max_length=1000)]


class RefreshRequest(Input):
    """The body of a refresh and of a logout."""

    refresh_token: Annotated[str, Meta(min_length=1, max_length=500)]


class Tokens(msgspec.Struct):
    """What a login or a refresh gives. Send the access token as `Authorization: Bearer`; it is good for `expires_in`
    seconds. The refresh token is good for one use."""

    access_token: str
    refresh_token: str
    token_type: str
    expires_in: int


class JsonWebKey(msgspec.Struct):
    """A public key (RFC 7517, RFC 8037)."""

    kty: str
    crv: str
    x: str
    kid: str
    use: str
    alg: str


class JsonWebKeys(msgspec.Struct):
    """The public keys of all access tokens that are good."""

    keys: list[JsonWebKey]


class _Verdict(msgspec.Struct):
    """What the auth worker says of a password."""

    granted: bool
    account: str = ""
    username: str = ""
    version: int = 0


@blueprint.post("/v1/auth/login")
def login() -> Response:
    """Check a password and begin a session; 401 says no more than that name and password do not fit."""
    gateway, given = bodies.gateway(), _body(LoginRequest)
    address = client_address(request.environ, gateway.settings.trusted_proxies)
    gateway.login_limit.admit(given.username, address)
    try:
        verdict = _verdict(given)
        if not verdict.granted:
            raise Unauthenticated("username and password do not fit")
        begun = gateway.sessions.begin(verdict.username, verdict.account, version=verdict.version)
    except StoreUnavailable:
        gateway.login_limit.unanswered(given.username, address)
        raise
    if begun is None:
        raise Unauthenticated("the account was changed while its password was checked; log in again")
    gateway.login_limit.succeeded(given.username, address)
    return _tokens(*begun)


@blueprint.post("/v1/auth/refresh")
def refresh() -> Response:
    """Exchange a refresh token for the next one and an access token."""
    return _tokens(*bodies.gateway().sessions.refresh(_body(RefreshRequest).refresh_token))


@blueprint.post("/v1/auth/logout")
def logout() -> Response:
    """End the session of a refresh token, and with it its access tokens. What has ended already stays so."""
    bodies.gateway().sessions.end(_body(RefreshRequest).refresh_token)
    return bodies.WholeResponse(status=204)


@blueprint.get("/.well-known/jwks.json")
def json_web_keys() -> Response:
    """The keys to check access tokens with."""
    keys = [key.jwk() for key in bodies.gateway().signing_keys.published()]
    return bodies.json_response({"keys": keys}, headers=[("Cache-Control", f"public, max-age={_KEYS_LAST_S}")])


def _body(kind: type[Body]) -> Body:
    return bodies.decode(bodies.json_body(_LARGEST_BYTES), kind)


def _tokens(session: Session, refresh_token: str) -> Response:
    gateway = bodies.gateway()
    return bodies.json_response(
        Tokens(gateway.tokens.make(session), refresh_token, "Bearer", int(gateway.settings.access_token_s)),
        headers=[("Cache-Control", "no-store")])


def _verdict(given: LoginRequest) -> _Verdict:
    """Let the auth worker look at a password. Raises `StoreUnavailable` when there is no answer in time."""
    job = _checked(bodies.gateway().keyring.seal(msgspec.json.encode(given)))
    if job.state is not State.SUCCEEDED:
        raise StoreUnavailable(f"the auth service gave no answer within {_LOGIN_S:g} s (the login is {job.state}); "
                               "try again")
    return msgspec.json.decode(job.result or b"{}", type=_Verdict)


def _checked(sealed: str) -> Job:
    """Let the auth worker look at the sealed password; return its job as it stands when it has answered."""
    gateway = bodies.gateway()
    job = NewJob(id=new_job_id(), service=Service.AUTH, task="auth.login", tenant=_TENANT, lane=Lane.INTERACTIVE,
                 input=msgspec.json.encode({"sealed": sealed}), deadline_s=_LOGIN_S)
    request_times.waits()
    window = gateway.request_times.window
    with gateway.announcements.waiter(job.id) as event:
        submission = gateway.ledger.submit(job)
        if submission.job and (submission.job.position or 0) > _MOST_WAITING:
            gateway.ledger.cancel(job.id)
            request_times.shed()
            raise StoreUnavailable(f"{_MOST_WAITING} logins are waiting already; try again in a few seconds")
        window.waits(job.id)
        try:
            checked = gateway.announcements.wait(event, lambda: gateway.ledger.read(job.id), timeout_s=_LOGIN_S)
            window.heard(job.id, checked)
            return checked
        finally:
            window.forget(job.id)
