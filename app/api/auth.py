"""`POST /v1/auth/login`: the password goes, sealed, to the auth worker as a job; the token is made here."""

from typing import Annotated

import msgspec
from flask import Blueprint, Response, request
from flask_jwt_extended import create_access_token
from msgspec import Meta

from app.api import bodies
from app.errors import PayloadTooLarge, StoreUnavailable, Unauthenticated
from app.inputs import Input
from app.job import Job, Lane, NewJob, Service, State, new_job_id

blueprint = Blueprint("auth", __name__)

_LOGIN_S = 15.0  # a login that no auth worker answered by then is given up
_LARGEST_BYTES = 16_384  # of a login's body: no credentials have been seen yet
_MOST_WAITING = 200  # logins in line, a few seconds of two servers' work; more are turned away
_TENANT = "logins"  # login jobs belong to nobody: no caller can read them


class LoginRequest(Input):
    """The body of a login."""

    username: Annotated[str, Meta(min_length=1, max_length=200)]
    password: Annotated[str, Meta(min_length=1, max_length=1000)]


class LoginResponse(msgspec.Struct):
    """An access token; send it as `Authorization: Bearer`. `expires_in` is in seconds."""

    access_token: str
    token_type: str
    expires_in: int


@blueprint.post("/v1/auth/login")
def login() -> Response:
    """Check a password and return an access token; 401 says no more than that name and password do not fit."""
    gateway = bodies.gateway()
    if (request.content_length or 0) > _LARGEST_BYTES:
        raise PayloadTooLarge(f"a login has at most {_LARGEST_BYTES} bytes")
    given = bodies.decode(bodies.json_body(), LoginRequest)
    job = _checked(gateway.keyring.seal(msgspec.json.encode(given)))
    answer = msgspec.json.decode(job.result or b"{}") if job.state is State.SUCCEEDED else None
    if answer is None:
        raise StoreUnavailable(f"the auth service gave no answer within {_LOGIN_S:g} s (the login is {job.state}); "
                               "try again")
    if not answer["granted"]:
        raise Unauthenticated("username and password do not fit")
    token = create_access_token(answer["account"], additional_claims={
        "username": answer["username"], "role": answer["role"]})
    return bodies.json_response(LoginResponse(token, "Bearer", int(gateway.settings.access_token_s)),
                                headers=[("Cache-Control", "no-store")])


def _checked(sealed: str) -> Job:
    """Let the auth worker look at the sealed password; return its job as it stands when it has answered."""
    gateway = bodies.gateway()
    job = NewJob(id=new_job_id(), service=Service.AUTH, task="auth.login", tenant=_TENANT, lane=Lane.INTERACTIVE,
                 input=msgspec.json.encode({"sealed": sealed}), deadline_s=_LOGIN_S)
    with gateway.announcements.waiter(job.id) as event:
        submission = gateway.ledger.submit(job)
        if submission.job and (submission.job.position or 0) > _MOST_WAITING:
            gateway.ledger.cancel(job.id)
            raise StoreUnavailable(f"{_MOST_WAITING} logins are waiting already; try again in a few seconds")
        return gateway.announcements.wait(event, lambda: gateway.ledger.read(job.id), timeout_s=_LOGIN_S)
