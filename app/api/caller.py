"""Who is calling: checks an access token or an API key, without a queue and mostly without Redis.

What was found good is believed for a few seconds (`app.api.beliefs`); then its session or key is looked up again, with the
account's role of that moment. A token's signature is checked once per process: it stays good until the token expires or its
signing key ends.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar, cast

from flask import current_app, request

from app.accounts import KEY_PREFIX, SCOPES_OF, Accounts, Role, Scope
from app.api.beliefs import BELIEVED_S, Belief, Beliefs
from app.api.tokens import AccessTokens
from app.errors import Forbidden, Unauthenticated
from app.sessions import Sessions

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. `tenant` is the account's id, by which everything it owns is kept apart."""

    tenant: str
    username: str
    role: Role
    scopes: frozenset[Scope] = frozenset(Scope)


class CallerCheck:
    """Checks credentials. Safe to share between threads."""

    def __init__(self, accounts: Accounts, sessions: Sessions, tokens: AccessTokens, beliefs: Beliefs) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._tokens = tokens
        self._beliefs = beliefs

    def check(self, authorization: str) -> Caller:
        """Return who an `Authorization` header stands for. Raises `Unauthenticated`."""
        if known := self._beliefs.get(authorization):
            return known
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() != "bearer" or not credentials:
            raise Unauthenticated("send `Authorization: Bearer <access token or API key>`; "
                                  "POST /v1/auth/login gives a token")
        since = self._beliefs.revocations
        is_key = credentials.startswith(KEY_PREFIX)
        belief = self._check_key(credentials) if is_key else self._check_token(credentials)
        self._beliefs.keep(authorization, belief, since=since)
        return belief.caller

    def _check_key(self, text: str) -> Belief:
        key = self._accounts.find_key(text)
        if key is None:
            raise Unauthenticated("the API key is not known; it may have been revoked or have expired")
        until = time.time() + BELIEVED_S
        return Belief(Caller(key.account_id, key.username, key.role, key.scopes),
                      until if key.expires_ms is None else min(until, key.expires_ms / 1000),
                      (f"key:{key.id}", f"account:{key.account_id}"))

    def _check_token(self, token: str) -> Belief:
        claims = self._tokens.read(token)
        session = self._sessions.find(claims.sid)
        if session is None or session.account_id != claims.account_id:
            raise Unauthenticated("the session of this access token has ended; log in again")
        return Belief(Caller(session.account_id, session.username, session.role, SCOPES_OF[session.role]),
                      min(time.time() + BELIEVED_S, claims.until),
                      (f"session:{session.sid}", f"account:{session.account_id}"))


def current(scope: Scope) -> Caller:
    """The caller of the request at hand, whose credentials must have this scope. Raises `Unauthenticated` or
    `Forbidden`."""
    gateway = current_app.extensions["tandem"]
    who: Caller = gateway.check.check(request.environ.get("HTTP_AUTHORIZATION", ""))
    gateway.request_times.window.seen.add(who.tenant)
    if scope in who.scopes:
        return who
    if scope not in SCOPES_OF[who.role]:
        raise Forbidden("this needs the role operator; `celery -A workers users role NAME operator` gives it")
    raise Forbidden(f"this API key lacks the scope '{scope}'; `celery -A workers keys add NAME --scopes {scope},...` makes "
                    "one with it")


def operators_only(view: View) -> View:
    """Let only operators through to a view: the scope `operate` comes with the role alone."""
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        current(Scope.OPERATE)
        return view(*args, **kwargs)

    return cast(View, guarded)
