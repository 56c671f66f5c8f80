"""Sessions: one for each login, kept alive by refresh tokens that are each good for one use.

    session:<sid>            HASH    account, username, family, current, previous (hashes), begun_ms, turned_ms
    sessions:<account id>    ZSET    sids, by when they end
    revoked                  CHANNEL `session:<sid>` or `account:<id>`: look again at what you believe of it

A refresh token is `rt_<sid>.<family>.<secret>`: the family's secret is the session's for life, the last part changes each
time. So whoever sends the right family with a wrong secret has, or stole, an earlier token of this session, and the session
ends; a made-up token ends nothing, though its sid, which stands in access tokens too, be right. Only hashes are kept.

A reply can be lost, and the caller then has only the token that it sent. For `LOST_REPLY_S` that one is honoured again, as
long as its successor was not used, and the successor is void then. This opens no door: at any time one token alone is good
to go on with, so when a thief and the owner both try, one of the two comes with a void one, and the session ends.
"""

import hashlib
import secrets
from dataclasses import dataclass

import redis

from app import logs
from app.accounts import Role
from app.errors import Unauthenticated
from app.ledger.scripts import Evaluator
from app.lua_script import LuaScript

LOST_REPLY_S = 10.0  # a caller that saw no reply tries again within its timeout and a moment

_PREFIX = "rt_"


@dataclass(frozen=True, slots=True)
class Session:
    """A session that is alive, with what its account is now."""

    sid: str
    account_id: str
    username: str
    role: Role


@dataclass(frozen=True, slots=True)
class _Token:
    """A refresh token, taken apart."""

    sid: str
    family: str
    secret: str

    @property
    def text(self) -> str:
        return f"{_PREFIX}{self.sid}.{self.family}.{self.secret}"


class Sessions:
    """Begins, continues and ends sessions. Raises `StoreUnavailable` when Redis cannot do it."""

    def __init__(self, client: redis.Redis, *, life_s: float, lost_reply_s: float = LOST_REPLY_S,
                 evaluator: Evaluator | None = None) -> None:
        """A session ends when it was not refreshed for `life_s`. `evaluator` may replace the client for looking sessions
        up, of which a gateway does many at a time."""
        self._life_ms = round(life_s * 1000)
        self._lost_reply_ms = round(lost_reply_s * 1000)
        self._begin = LuaScript(client, "begin_session")
        self._find = LuaScript(client, "find_session", evaluator)
        self._turn = LuaScript(client, "turn_session")
        self._end = LuaScript(client, "end_session")

    def begin(self, username: str, account_id: str, *, version: int) -> tuple[Session, str] | None:
        """Begin a session; return it with its first refresh token. None when the account has changed since it was at
        `version`, when its password was checked."""
        token = _Token(secrets.token_hex(16), secrets.token_urlsafe(16), secrets.token_urlsafe(32))
        role = self._begin([f"account:{username}", f"session:{token.sid}", f"sessions:{account_id}"], token.sid, account_id,
                           version, _hash(token.family), _hash(token.secret), self._life_ms)
        if role is None:
            return None
        return Session(token.sid, account_id, username, Role(role.decode())), token.text

    def find(self, sid: str) -> Session | None:
        """Return the session, or None when it has ended or its account is disabled or gone."""
        found = self._find([f"session:{sid}"])
        return None if found is None else _session(sid, found)

    def refresh(self, text: str) -> tuple[Session, str]:
        """Exchange a refresh token for the next one. Raises `Unauthenticated`; a token that was used before ends its
        session."""
        token = _parse(text)
        if token is None:
            raise Unauthenticated("this is no refresh token; log in again")
        after = _Token(token.sid, token.family, secrets.token_urlsafe(32))
        found = self._turn([f"session:{token.sid}"], token.sid, _hash(token.family), _hash(token.secret),
                           _hash(after.secret), self._life_ms, self._lost_reply_ms)
        if found is None:
            raise Unauthenticated("the session of this refresh token has ended; log in again")
        if found[0] == b"reused":
            logs.event("refresh_token_reused", session=token.sid)
            raise Unauthenticated("this refresh token was used before, so somebody else may have it; its session has been "
                                  "ended: log in again")
        return _session(token.sid, found[1:]), after.text

    def end(self, text: str) -> bool:
        """End the session of a refresh token, be it an old one; return whether there was one."""
        token = _parse(text)
        return token is not None and bool(self._end([f"session:{token.sid}"], token.sid, _hash(token.family)))


def _session(sid: str, found: list[bytes]) -> Session:
    account_id, username, role = (part.decode() for part in found)
    return Session(sid, account_id, username, Role(role))


def _parse(text: str) -> _Token | None:
    parts = text.removeprefix(_PREFIX).split(".")
    return _Token(*parts) if text.startswith(_PREFIX) and len(parts) == 3 else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
