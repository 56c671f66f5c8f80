"""Access tokens, made and read with flask-jwt-extended: EdDSA, with the signing key's `kid`, for this issuer and audience.

A token names its account (`sub`, `username`), role and session (`sid`). Whether the session still lives is not asked here.
A signature is checked once per process, and stays good until the token expires or its key is no longer believed.
"""

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from flask import Flask, g
from flask_jwt_extended import JWTManager, create_access_token, decode_token, get_unverified_jwt_headers
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt.exceptions import ExpiredSignatureError, PyJWTError

from app.errors import Unauthenticated
from app.sessions import Session
from app.signing_keys import SigningKeys

ISSUER = "tandem"

_REMEMBERED = 20_000  # tokens whose signature was checked; beyond that the memory starts afresh


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says that matters here. `until` is when it expires (Unix s)."""

    account_id: str
    sid: str
    until: float
    kid: str


class AccessTokens:
    """Makes and reads tokens, within a request of the application."""

    def __init__(self, app: Flask, keys: SigningKeys, *, life_s: float) -> None:
        app.config.update(
            JWT_ALGORITHM="EdDSA", JWT_ENCODE_ISSUER=ISSUER, JWT_DECODE_ISSUER=ISSUER, JWT_ENCODE_AUDIENCE=ISSUER,
            JWT_DECODE_AUDIENCE=ISSUER, JWT_ACCESS_TOKEN_EXPIRES=timedelta(seconds=life_s), JWT_ENCODE_NBF=False)
        manager = JWTManager(app)
        manager.encode_key_loader(_chosen_key)
        manager.decode_key_loader(self._named_key)
        self._keys = keys
        self._checked: dict[str, Claims] = {}

    def make(self, session: Session) -> str:
        """Return a token for a session."""
        key = self._keys.signing()
        g.signing_key = key.private
        token: str = create_access_token(session.account_id, additional_headers={"kid": key.kid}, additional_claims={
            "username": session.username, "role": session.role.value, "sid": session.sid})
        return token

    def read(self, token: str) -> Claims:
        """Return what a token says. Raises `Unauthenticated` unless we signed it, for us, and it has not expired."""
        known = self._checked.get(token)
        if known and time.time() < known.until and self._keys.verifying(known.kid):
            return known
        claims = _claims(token)
        if len(self._checked) >= _REMEMBERED:
            self._checked.clear()
        self._checked[token] = claims
        return claims

    def _named_key(self, headers: dict[str, Any], _: dict[str, Any]) -> Ed25519PublicKey:
        kid = headers.get("kid")
        key = self._keys.verifying(kid) if isinstance(kid, str) else None
        if key is None:
            raise _not_ours()
        return key.public


def _claims(token: str) -> Claims:
    try:
        claims = decode_token(token)
        kid = str(get_unverified_jwt_headers(token)["kid"])  # verified by now
    except ExpiredSignatureError as exc:
        raise Unauthenticated("the access token has expired; get another with POST /v1/auth/refresh, or log in "
                              "again") from exc
    except (PyJWTError, JWTExtendedException, ValueError, KeyError) as exc:
        raise _not_ours() from exc
    account_id, sid, until = claims.get("sub"), claims.get("sid"), claims.get("exp")
    if claims["type"] != "access" or not (isinstance(account_id, str) and isinstance(sid, str)) or until is None:
        raise Unauthenticated("this token is not an access token; log in again")
    return Claims(account_id, sid, float(until), kid)


def _chosen_key(_: str) -> Ed25519PrivateKey:
    key: Ed25519PrivateKey = g.signing_key
    return key


def _not_ours() -> Unauthenticated:
    return Unauthenticated("the access token is damaged, or none that this installation signed; log in again")
