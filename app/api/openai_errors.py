"""Errors of the OpenAI-compatible paths, in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`."""

import json
from typing import Any

from app.job import Job, State

_PATHS = ("/v1/chat/completions", "/v1/models")

#: Statuses that OpenAI's API does not have, and those that it has in their place.
_STATUSES = {422: 400}

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

#: Codes of ours, and OpenAI's for the same.
_CODES = {"unauthenticated": "invalid_api_key", "limit-exceeded": "rate_limit_exceeded",
          "prompt-too-long": "context_length_exceeded", "model-unknown": "model_not_found"}

#: Statuses of jobs that failed, by the error's code; 502 for the others.
_FAILED = {"prompt-too-long": 400, "invalid-input": 400, "engine-unavailable": 503}


def speaks(path: str) -> bool:
    """Whether a path's errors are in this form."""
    return path.startswith(_PATHS)


def status_of(status: int) -> int:
    """Return the status that OpenAI has for one of ours."""
    return _STATUSES.get(status, status)


def body(status: int, code: str, detail: str, pointer: str | None = None) -> dict[str, Any]:
    """Return the body for an error; `code` is ours."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    param = "model" if code == "model-unknown" else _param(pointer)
    return {"error": {"message": detail, "type": kind, "param": param, "code": _CODES.get(code, code.replace("-", "_"))}}


def of_job(job: Job) -> tuple[int, dict[str, Any]]:
    """Return status and body for a job that ended without an answer."""
    if job.state is State.FAILED:
        error = json.loads(job.error or b"{}")
        code = str(error.get("code") or "engine-error")
        status = _FAILED.get(code, 502)
        return status, body(status, code, str(error.get("detail")), "/messages" if status == 400 else None)
    if job.state is State.CANCELLED:
        return 409, body(409, "cancelled", f"the job {job.id} of this completion was cancelled")
    return 504, body(504, "deadline-exceeded", f"the job {job.id} of this completion was not done by its deadline")


def _param(pointer: str | None) -> str | None:
    """Return a JSON pointer ("/messages/0/role") as OpenAI names a parameter ("messages[0].role")."""
    if not pointer:
        return None
    steps = [step for step in pointer.removeprefix("/input").split("/") if step]
    named = "".join(f"[{step}]" if step.isdigit() else f".{step}" for step in steps)
    return named.removeprefix(".").replace("~1", "/").replace("~0", "~") or None
