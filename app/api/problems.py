"""Errors as RFC 9457 `application/problem+json`, and the request id on every response."""

import logging
import math
import random
import re
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from app import logs
from app.api import bodies, limits, openai_errors, request_times
from app.errors import CallerError, LimitExceeded, ReducedCapacity, TandemError

#: Seconds after which a caller may try again what failed for a passing reason.
RETRY_AFTER_S = 2

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def install(app: Flask) -> None:
    """Make every error of the application a problem."""
    app.register_error_handler(TandemError, _ours)
    app.register_error_handler(HTTPException, _werkzeugs)
    app.register_error_handler(Exception, _unexpected)
    app.after_request(_stamp)


def request_id() -> str:
    """The request's id: the caller's own `X-Request-Id` if it is a sane one, else a fresh one."""
    known: str | None = g.get("request_id")
    if known is None:
        given = request.environ.get("HTTP_X_REQUEST_ID")
        known = g.request_id = given if given and _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(64):016x}"
    return known


def problem(status: int, code: str, title: str, detail: str, **members: Any) -> Response:
    """Return a problem response, or an error in OpenAI's form on its paths. `members` are our own additions, such as
    `pointer`."""
    if openai_errors.speaks(request.path):
        theirs = openai_errors.status_of(status)
        return bodies.json_response(openai_errors.body(theirs, code, detail, members.get("pointer")), theirs)
    body = {"type": f"/problems/{code}", "title": title, "status": status, "detail": detail, "instance": request.path,
            "code": code, "request_id": request_id(), **members}
    return bodies.json_response(body, status, content_type="application/problem+json")


def _stamp(response: Response) -> Response:
    response.headers.add("X-Request-Id", request_id())
    for name, value in limits.headers():
        response.headers.add(name, value)
    return response


def _ours(exc: TandemError) -> Response:
    members = {"pointer": exc.pointer} if isinstance(exc, CallerError) and exc.pointer is not None else {}
    response = problem(exc.status, exc.code, exc.title, str(exc), **members)
    if exc.status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(exc, LimitExceeded | ReducedCapacity):
        response.headers["Retry-After"] = str(max(1, math.ceil(exc.retry_after_s)))
    if isinstance(exc, ReducedCapacity):
        request_times.shed()
    if exc.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="tandem"'
    if exc.status >= 500 and not isinstance(exc, ReducedCapacity):  # those are many, and "shedding" was logged once
        logs.event("request_failed", request=request_id(), path=request.path, status=exc.status, why=str(exc))
    return response


def _werkzeugs(exc: HTTPException) -> Response:
    status = exc.code or 500
    title = exc.name
    code = title.lower().replace(" ", "-")
    detail = {
        404: f"nothing is served at {request.path}; /openapi.json lists what is",
        405: f"{request.method} is not among the methods of {request.path}",
    }.get(status, exc.description or title)
    response = problem(status, code, title, detail)
    if isinstance(exc, MethodNotAllowed) and exc.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(exc.valid_methods))
    return response


def _unexpected(_: Exception) -> Response:
    logs.event("request_crashed", level=logging.ERROR, exc_info=True, request=request_id(), path=request.path)
    return problem(500, "internal-error", "Internal error",
                   f"the gateway failed; its log has the reason under request id {request_id()}")
