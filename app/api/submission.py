"""Submits a job for the request at hand and answers it: what every route that makes jobs has in common.

The headers are read here: `Prefer: wait=N` (RFC 7240), `Idempotency-Key`, `Cancel-After`, `Cache-Control`,
`traceparent`.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from flask import Response, request

from app.accounts import Role
from app.api import bodies, limits, request_times
from app.api.caller import Caller
from app.errors import (
    Conflict,
    IdempotencyMismatch,
    InvalidInput,
    JobGone,
    JobUnknown,
    MalformedRequest,
    PromptTooLong,
)
from app.inputs import LONGEST_DEADLINE_S, ModelInput, task_name
from app.job import Job, Lane, NewJob, Service, new_job_id
from app.ledger import Submission, Submitted
from app.store import DURABILITY as DURABILITY
from app.webhooks import check_url

_POLL_S = 1  # Retry-After where nothing was measured yet, and while a job runs
_LONGEST_POLL_S = 30  # the most that Retry-After asks for
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_TERM = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|)", re.ASCII)
_DURATION = re.compile(r"\d{1,9}(?:\.\d{1,9})?|(?:\d{1,9}(?:\.\d{1,9})?(?:ms|s|m|h))+", re.ASCII)

#: Leaves numbers with a fraction or an exponent as they were written: 1e999 is JSON, and no float.
_exact = msgspec.json.Decoder(float_hook=lambda text: msgspec.Raw(text.encode()))


def new_job(who: Caller, service: Service, decoded: Any, text: bytes, *, lane: Lane, deadline_s: float | None,
            digested: Any, webhook_url: str | None = None, line: str | None = None, job_id: str | None = None) -> NewJob:
    """Return the job that the request asks for. `decoded` is the service's input, `text` its JSON; `digested` is what has
    to be the same where an idempotency key comes again, or the `job_id` that the caller chose: with one, no key is needed,
    and none is looked at. Raises a `CallerError` that names what is wrong, or `ReducedCapacity`; nothing is written."""
    key = None if job_id else idempotency_key()
    if webhook_url is not None:
        check_url(webhook_url, bodies.gateway().settings)
    if (cancel_after_s := asked_cancel_after_s()) is not None:
        deadline_s = min(deadline_s or LONGEST_DEADLINE_S, cancel_after_s)
    try:
        bodies.gateway().prompt_length.check(decoded, len(text))
    except (PromptTooLong, InvalidInput):
        if not came_before(who, key, job_id):
            raise
    mark = _fingerprint(who, decoded)
    job = NewJob(id=job_id or new_job_id(), service=service, task=task_name(service, decoded), tenant=who.tenant,
                  input=text, lane=lane, deadline_s=deadline_s, idempotency_key=key,
                  digest=digest(digested) if key or job_id else "", trace=_traceparent(), webhook_url=webhook_url,
                  line=line, metered=True, fingerprint=mark, tokens=limits.most_tokens(decoded, len(text)))
    if bodies.gateway().shedding.refuses(lane) and not _is_exempt(who, job):
        bodies.gateway().shedding.check(lane)
    return job


def _is_exempt(who: Caller, job: NewJob) -> bool:
    """Whether a job is taken where others of its lane are refused: one that was accepted before, one whose answer is
    known, and what operators have to do beside models and chats."""
    if who.role is Role.OPERATOR and job.service not in (Service.MODEL, Service.CHAT):
        return True
    chosen = job.id if job.digest and job.idempotency_key is None else None
    return came_before(who, job.idempotency_key, chosen) or bodies.gateway().answers.find(job) is not None


def _fingerprint(who: Caller, decoded: Any) -> str | None:
    """Return what tells a deterministic request of the model service from others, unless the caller wants an answer of his
    own (`Cache-Control: no-cache` or `no-store`)."""
    if not isinstance(decoded, ModelInput) or {"no-cache", "no-store"} & {
            part.strip().lower() for part in request.environ.get("HTTP_CACHE_CONTROL", "").split(",")}:
        return None
    try:
        return bodies.gateway().answers.fingerprint(decoded, who.tenant)
    except RecursionError:  # a tool's parameters are nested as deeply as may just be read
        return None


def came_before(who: Caller, key: str | None, job_id: str | None) -> bool:
    """Whether this request may be the repetition of an accepted one; the ledger then tells."""
    ledger = bodies.gateway().ledger
    return ledger.glance(job_id) is not None if job_id else key is not None and ledger.is_used(who.tenant, key)


def answer(job: NewJob) -> Response:
    """Submit the job and answer: 202, or 200 with the ended job under `Prefer: wait`."""
    wait_s, tenant = preferred_wait_s(), job.tenant
    gateway = bodies.gateway()
    if not wait_s:
        submission = submitted(job)
        return _answered(submission, submission.job or gateway.ledger.read(submission.job_id, tenant), wait_s)
    request_times.waits()
    window = gateway.request_times.window
    with gateway.announcements.waiter(job.id) as event:
        submission = submitted(job)
        job_id = submission.job_id
        if job_id != job.id:  # replayed: its end was announced under its own id
            return _answered(submission, wait(job_id, tenant, wait_s), wait_s)
        if submission.outcome is Submitted.ACCEPTED:
            window.waits(job_id)
        try:
            ended = gateway.announcements.wait(event, lambda: gateway.ledger.read(job_id, tenant), timeout_s=wait_s,
                                               known=submission.job)
            window.heard(job_id, ended)
        finally:
            window.forget(job_id)
    return _answered(submission, ended, wait_s)


def submitted(job: NewJob) -> Submission:
    """Put the job into the ledger, or find the one that its idempotency key, or the id that the caller chose, names. Raises
    `IdempotencyMismatch`, `LimitExceeded`, or for a chosen id `Conflict`, `JobUnknown` or `JobGone`."""
    submission = bodies.gateway().answers.submit(job, bodies.gateway().ledger)
    limits.note(submission)
    if submission.outcome in (Submitted.ACCEPTED, Submitted.REPLAYED):
        return submission
    if submission.outcome is Submitted.KNOWN:  # Redis's reply was lost, or an id that the caller chose comes again
        chosen = job.digest and job.idempotency_key is None
        return msgspec.structs.replace(submission, outcome=Submitted.REPLAYED) if chosen else submission
    if submission.outcome is Submitted.MISMATCH:
        if submission.job_id == job.id:
            raise Conflict(f"the job {job.id} was asked for with another body; choose a new id for a new request")
        raise IdempotencyMismatch(f"this Idempotency-Key was used for job {submission.job_id} with another body; "
                                  "use a new key for a new request")
    if submission.outcome is Submitted.GONE:
        raise JobGone(f"job {job.id} is past its retention; its record was deleted, and its id is not used again")
    raise JobUnknown(f"there is no job {job.id} of yours, and the id cannot be used; choose another")


def wait(job_id: str, tenant: str, wait_s: float) -> Job:
    """Return the job when it has ended, or as it is after `wait_s`. Raises `JobUnknown` or `JobGone`."""
    gateway = bodies.gateway()
    with gateway.announcements.waiter(job_id) as event:
        return gateway.announcements.wait(event, lambda: gateway.ledger.read(job_id, tenant), timeout_s=wait_s)


def told(job: Job, status: int, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """Return the job object, and while it is live, when to look again."""
    if not job.state.terminal:
        headers = [*headers, ("Retry-After", str(min(math.ceil(job.eta_s or _POLL_S), _LONGEST_POLL_S)))]
    return bodies.json_response(job.public(durability=DURABILITY), status, headers)


def _answered(submission: Submission, job: Job, wait_s: float) -> Response:
    """Answer a submit: 200 when the job has ended while the caller waited, else 202."""
    headers = [("Location", f"/v1/jobs/{job.id}"), *preference(wait_s)]
    if submission.outcome is Submitted.REPLAYED:
        headers.append(("Idempotency-Replayed", "true"))
    return told(job, 200 if wait_s and job.state.terminal else 202, headers)


def preference(wait_s: float) -> list[tuple[str, str]]:
    """Return the headers of an answer that `Prefer` bears on (RFC 7240, 3)."""
    return [("Vary", "Prefer"), *([("Preference-Applied", f"wait={wait_s:g}")] if wait_s else [])]


def digest(wanted: Any) -> str:
    """Return a digest of what is asked for: the same request, however its members are ordered, gives the same."""
    whole = _exact.decode(msgspec.json.encode(wanted))
    return hashlib.sha256(msgspec.json.encode(whole, order="sorted")).hexdigest()


def idempotency_key() -> str | None:
    """Return the key, quoted (a structured string) or bare. Raises `MalformedRequest`."""
    given = request.headers.get("Idempotency-Key")
    if given is None:
        return None
    key = given[1:-1] if len(given) >= 2 and given[0] == given[-1] == '"' else given
    if not 1 <= len(key) <= 255 or not key.isprintable():
        raise MalformedRequest("an Idempotency-Key is 1 to 255 printable characters")
    return key


def preferred_wait_s() -> float:
    """Return the seconds of `Prefer: wait=N` (RFC 7240), bounded by the setting; 0 for none. What is not understood is
    ignored, as the RFC asks."""
    header = request.headers.get("Prefer")
    found = re.search(r'(?:^|[,;\s])wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])', header, re.IGNORECASE) if header else None
    return min(float(found[1]), bodies.gateway().settings.max_wait_s) if found else 0.0


def asked_cancel_after_s() -> float | None:
    """Return the seconds of `Cancel-After: 30s` (`ms`, `s`, `m`, `h`, also together: `1m30s`; bare: seconds), None without
    it. Raises `MalformedRequest`."""
    given = request.environ.get("HTTP_CANCEL_AFTER")
    if given is None:
        return None
    text = given.strip()
    if not _DURATION.fullmatch(text):
        raise MalformedRequest(f"Cancel-After is a time such as 30s, 500ms, 2m or 1h30m; it came as '{given[:60]}'")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _TERM.findall(text))
    if not 0 < seconds <= LONGEST_DEADLINE_S:
        raise MalformedRequest(f"Cancel-After must be above 0 and at most {LONGEST_DEADLINE_S} s; it is '{given[:60]}'")
    return seconds


def _traceparent() -> str | None:
    """Return the W3C trace context to carry along; a malformed one is dropped, as its specification asks."""
    given = request.headers.get("traceparent", "")
    return given if _TRACEPARENT.fullmatch(given) else None
