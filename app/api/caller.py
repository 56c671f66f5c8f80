"""Who is calling: checks an access token or an API key, without a queue and mostly without Redis.

A signature that was good stays good until the token expires, so it is checked once per process and token; an API key is
looked up in Redis, and the answer believed for a few seconds.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, cast

import redis
from flask import current_app, request
from flask_jwt_extended import decode_token
from jwt.exceptions import ExpiredSignatureError, PyJWTError

from app.accounts import KEY_PREFIX, Accounts, Role, Scope
from app.errors import Forbidden, Unauthenticated
from app.ledger.scripts import unavailable

_KEY_BELIEVED_S = 5.0  # a revoked key may work this much longer
_REMEMBERED = 20_000  # credentials remembered by a process; beyond that the memory starts afresh

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. `tenant` is the account's id, by which everything it owns is kept apart."""

    tenant: str
    username: str
    role: Role
    scopes: frozenset[Scope] = frozenset(Scope)


class CallerCheck:
    """Checks credentials, remembering the good ones. Safe to share between threads."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._good: dict[str, tuple[Caller, float]] = {}  # credentials -> caller, and until when (Unix s) to believe it
        self._lock = threading.Lock()

    def check(self, authorization: str) -> Caller:
        """Return who an `Authorization` header stands for. Raises `Unauthenticated`."""
        known = self._good.get(authorization)
        if known and time.time() < known[1]:
            return known[0]
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() != "bearer" or not credentials:
            raise Unauthenticated("send `Authorization: Bearer <access token or API key>`; "
                                  "POST /v1/auth/login gives a token")
        is_key = credentials.startswith(KEY_PREFIX)
        caller, until = self._check_key(credentials) if is_key else self._check_token(credentials)
        with self._lock:
            if len(self._good) >= _REMEMBERED:
                self._good.clear()
            self._good[authorization] = caller, until
        return caller

    def _check_key(self, text: str) -> tuple[Caller, float]:
        try:
            key = self._accounts.find_key(text)
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc
        if key is None:
            raise Unauthenticated("the API key is not known; it may have been revoked")
        return Caller(key.account_id, key.username, key.role, key.scopes), time.time() + _KEY_BELIEVED_S

    def _check_token(self, token: str) -> tuple[Caller, float]:
        try:
            claims = decode_token(token)
        except ExpiredSignatureError as exc:
            raise Unauthenticated("the access token has expired; log in again") from exc
        except (PyJWTError, ValueError, KeyError) as exc:
            raise Unauthenticated(f"the access token is not one of ours ({type(exc).__name__}); log in again") from exc
        if claims.get("type") != "access" or "username" not in claims:
            raise Unauthenticated("this token is not an access token; log in again")
        return Caller(claims["sub"], claims["username"], Role(claims["role"])), float(claims["exp"])


def current(scope: Scope) -> Caller:
    """The caller of the request at hand, whose credentials must have this scope. Raises `Unauthenticated` or
    `Forbidden`."""
    check: CallerCheck = current_app.extensions["tandem"].check
    who = check.check(request.environ.get("HTTP_AUTHORIZATION", ""))
    if scope not in who.scopes:
        raise Forbidden(f"this API key lacks the scope '{scope}'; `celery -A workers keys add` makes one with it")
    return who


def operators_only(view: View) -> View:
    """Let only operators through to a view."""
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if current(Scope.OPERATE).role is not Role.OPERATOR:
            raise Forbidden("this needs the role operator; `celery -A workers users add NAME --role operator` makes one")
        return view(*args, **kwargs)

    return cast(View, guarded)
