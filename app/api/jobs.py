"""Jobs over HTTP: submit, read, cancel."""

import hashlib
import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import redis
from flask import Blueprint, Response, request

from app.api import bodies, caller
from app.errors import IdempotencyMismatch, InvalidInput, JobUnknown, MalformedRequest, PromptTooLong
from app.inputs import JobRequest, read_request, task_name
from app.job import Job, NewJob, is_job_id, new_job_id
from app.ledger import Submission, Submitted
from app.ledger.scripts import unavailable

blueprint = Blueprint("jobs", __name__, url_prefix="/v1/jobs")

#: One Redis holds a job until a replica is waited for.
DURABILITY = 1

_POLL_S = 1  # Retry-After where nothing was measured yet, and while a job runs
_LONGEST_POLL_S = 30  # the most that Retry-After asks for
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

#: Leaves numbers with a fraction or an exponent as they were written: 1e999 is JSON, and no float.
_exact = msgspec.json.Decoder(float_hook=lambda text: msgspec.Raw(text.encode()))


@blueprint.post("")
def submit() -> Response:
    """Accept a job: 202, or 200 with the ended job under `Prefer: wait`."""
    who = caller.current()
    job, wait_s = _new_job(who.tenant), _preferred_wait_s()
    gateway = bodies.gateway()
    if not wait_s:
        submission = _submitted(job)
        return _answered(submission, submission.job or gateway.ledger.read(submission.job_id, who.tenant), wait_s)
    with gateway.announcements.waiter(job.id) as event:
        submission = _submitted(job)
        job_id = submission.job_id
        if job_id != job.id:  # replayed: its end was announced under its own id
            return _answered(submission, _wait(job_id, who.tenant, wait_s), wait_s)
        ended = gateway.announcements.wait(event, lambda: gateway.ledger.read(job_id, who.tenant), timeout_s=wait_s,
                                           known=submission.job)
    return _answered(submission, ended, wait_s)


@blueprint.get("/<job_id>")
def read(job_id: str) -> Response:
    """Return the job as it stands; with `?wait=N` or `Prefer: wait=N`, when it has ended or after N seconds."""
    who = caller.current()
    _check_id(job_id)
    asked_s, preferred_s = _asked_wait_s(), _preferred_wait_s()
    wait_s = asked_s or preferred_s
    job = _wait(job_id, who.tenant, wait_s) if wait_s else bodies.gateway().ledger.read(job_id, who.tenant)
    return _told(job, 200, [] if asked_s else _preference(preferred_s))


@blueprint.delete("/<job_id>")
@blueprint.post("/<job_id>/cancel")
def cancel(job_id: str) -> Response:
    """Cancel the job if it is live, and return it. Doing it twice changes nothing."""
    who = caller.current()
    _check_id(job_id)
    ledger = bodies.gateway().ledger
    ledger.cancel(job_id, who.tenant)
    return _told(ledger.read(job_id, who.tenant), 200)


def _new_job(tenant: str) -> NewJob:
    """Read the request into a job. Raises a `CallerError` that names what is wrong; nothing is written."""
    body = bodies.json_body()
    try:
        wanted, decoded = read_request(body)
    except msgspec.DecodeError as exc:
        raise bodies.malformed(exc) from exc
    key = _idempotency_key()
    try:
        bodies.gateway().prompt_length.check(decoded, len(wanted.input))
    except (PromptTooLong, InvalidInput):
        if key is None or not _is_used(key, tenant):
            raise
    return NewJob(id=new_job_id(), service=wanted.service, task=task_name(wanted.service, decoded), tenant=tenant,
                  input=bytes(wanted.input), lane=wanted.lane, deadline_s=wanted.deadline_s, idempotency_key=key,
                  digest=_digest(wanted) if key else "", trace=_traceparent())


def _is_used(key: str, tenant: str) -> bool:
    """Whether a job was accepted with this idempotency key: then nothing new is asked for, whatever is served by now."""
    try:
        return bool(bodies.gateway().client.exists(f"idem:{tenant}:{key}"))  # as submit.lua names it
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as exc:
        raise unavailable(exc) from exc


def _digest(wanted: JobRequest) -> str:
    """Return a digest of what is asked for: the same request, however its members are ordered, gives the same."""
    whole = _exact.decode(msgspec.json.encode(wanted))
    return hashlib.sha256(msgspec.json.encode(whole, order="sorted")).hexdigest()


def _submitted(job: NewJob) -> Submission:
    """Put the job into the ledger, or find the one that its idempotency key names. Raises `IdempotencyMismatch`."""
    submission = bodies.gateway().ledger.submit(job)
    if submission.outcome is Submitted.MISMATCH:
        raise IdempotencyMismatch(f"this Idempotency-Key was used for job {submission.job_id} with another body; "
                                  "use a new key for a new request")
    return submission


def _wait(job_id: str, tenant: str, wait_s: float) -> Job:
    gateway = bodies.gateway()
    with gateway.announcements.waiter(job_id) as event:
        return gateway.announcements.wait(event, lambda: gateway.ledger.read(job_id, tenant), timeout_s=wait_s)


def _answered(submission: Submission, job: Job, wait_s: float) -> Response:
    """Answer a submit: 200 when the job has ended while the caller waited, else 202."""
    headers = [("Location", f"/v1/jobs/{job.id}"), *_preference(wait_s)]
    if submission.outcome is Submitted.REPLAYED:
        headers.append(("Idempotency-Replayed", "true"))
    return _told(job, 200 if wait_s and job.state.terminal else 202, headers)


def _preference(wait_s: float) -> list[tuple[str, str]]:
    """Return the headers of an answer that `Prefer` bears on (RFC 7240, 3)."""
    return [("Vary", "Prefer"), *([("Preference-Applied", f"wait={wait_s:g}")] if wait_s else [])]


def _told(job: Job, status: int, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """Return the job object, and while it is live, when to look again."""
    if not job.state.terminal:
        headers = [*headers, ("Retry-After", str(min(math.ceil(job.eta_s or _POLL_S), _LONGEST_POLL_S)))]
    return bodies.json_response(job.public(durability=DURABILITY), status, headers)


def _check_id(job_id: str) -> None:
    if not is_job_id(job_id):
        raise JobUnknown(f"there is no job '{job_id[:60]}': an id is a UUID, as the submit's answer gave it")


def _idempotency_key() -> str | None:
    """Return the key, quoted (a structured string) or bare. Raises `MalformedRequest`."""
    given = request.headers.get("Idempotency-Key")
    if given is None:
        return None
    key = given[1:-1] if len(given) >= 2 and given[0] == given[-1] == '"' else given
    if not 1 <= len(key) <= 255 or not key.isprintable():
        raise MalformedRequest("an Idempotency-Key is 1 to 255 printable characters")
    return key


def _preferred_wait_s() -> float:
    """Return the seconds of `Prefer: wait=N` (RFC 7240), bounded by the setting; 0 for none. What is not understood is
    ignored, as the RFC asks."""
    header = request.headers.get("Prefer")
    found = re.search(r'(?:^|[,;\s])wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])', header, re.IGNORECASE) if header else None
    return min(float(found[1]), bodies.gateway().settings.max_wait_s) if found else 0.0


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


def _traceparent() -> str | None:
    """Return the W3C trace context to carry along; a malformed one is dropped, as its specification asks."""
    given = request.headers.get("traceparent", "")
    return given if _TRACEPARENT.fullmatch(given) else None
