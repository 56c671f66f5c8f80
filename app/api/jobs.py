"""Jobs over HTTP: submit, read, cancel. Lists of them: `app.api.job_lists`."""

import math
from typing import Any

import msgspec
from flask import Blueprint, Response, request

from app.accounts import Scope
from app.api import bodies, caller, request_times, submission
from app.api.etag import validated
from app.conversations import line_of
from app.errors import InvalidInput, JobUnknown
from app.inputs import ChatInput, read_request
from app.job import NewJob, is_job_id

blueprint = Blueprint("jobs", __name__, url_prefix="/v1/jobs")


@blueprint.post("")
def submit() -> Response:
    """Accept a job: 202, or 200 with the ended job under `Prefer: wait`."""
    return _submitted(caller.current(Scope.JOBS_WRITE))


@blueprint.put("/<job_id>")
def create(job_id: str) -> Response:
    """Accept a job under the id that the caller chose: the same request again is answered with the same job. The id does
    the work of an `Idempotency-Key`, so that header is not looked at. Raises `Conflict` for another request's id."""
    who = caller.current(Scope.JOBS_WRITE)
    if not is_job_id(job_id):
        raise InvalidInput(f"'{job_id[:60]}' cannot name a job: choose a UUID, in lower case and with its hyphens")
    return _submitted(who, job_id)


@blueprint.get("/<job_id>")
def read(job_id: str) -> Response:
    """Return the job as it stands; with `?wait=N` or `Prefer: wait=N`, when it has ended or after N seconds."""
    who = caller.current(Scope.JOBS_READ)
    check_id(job_id)
    asked_s, preferred_s = _asked_wait_s(), submission.preferred_wait_s()
    wait_s = asked_s or preferred_s
    if wait_s:
        request_times.waits()
    job = submission.wait(job_id, who.tenant, wait_s) if wait_s else bodies.gateway().ledger.read(job_id, who.tenant)
    return validated(submission.told(job, 200, [] if asked_s else submission.preference(preferred_s)))


@blueprint.delete("/<job_id>")
@blueprint.post("/<job_id>/cancel")
def cancel(job_id: str) -> Response:
    """Cancel the job if it is live, and return it. Doing it twice changes nothing."""
    who = caller.current(Scope.JOBS_WRITE)
    check_id(job_id)
    ledger = bodies.gateway().ledger
    ledger.cancel(job_id, who.tenant)
    return submission.told(ledger.read(job_id, who.tenant), 200)


def check_id(job_id: str) -> None:
    """Refuse what cannot name a job. Raises `JobUnknown`."""
    if not is_job_id(job_id):
        raise JobUnknown(f"there is no job '{job_id[:60]}': an id is a UUID, as the submit's answer gave it")


def _submitted(who: caller.Caller, job_id: str | None = None) -> Response:
    """Submit the job that the body asks for; a chat begins its conversation where there is none yet."""
    job, decoded = _wanted(who, job_id)
    if isinstance(decoded, ChatInput) and not submission.came_before(who, job.idempotency_key, job_id):
        bodies.gateway().conversations.begin(who.tenant, decoded.conversation)
    return submission.answer(job)


def _wanted(who: caller.Caller, job_id: str | None) -> tuple[NewJob, Any]:
    """Return the job that the body asks for, and its decoded input."""
    body = bodies.json_body()
    try:
        wanted, decoded = read_request(body)
    except msgspec.DecodeError as exc:
        raise bodies.malformed(exc) from exc
    job = submission.new_job(
        who, wanted.service, decoded, bytes(wanted.input), lane=wanted.lane, deadline_s=wanted.deadline_s,
        digested=wanted, webhook_url=wanted.webhook_url, job_id=job_id,
        line=line_of(who.tenant, decoded.conversation) if isinstance(decoded, ChatInput) else None)
    return job, decoded


def _asked_wait_s() -> float:
    """Return the seconds of `?wait=N`; 0 for none. Raises `InvalidInput`."""
    given: Any = request.args.get("wait") if request.query_string else None
    if given is None:
        return 0.0
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= bodies.gateway().settings.max_wait_s:
        raise InvalidInput(f"wait must be 0 to {bodies.gateway().settings.max_wait_s:g} seconds; got '{given}'")
    return seconds
