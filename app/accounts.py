"""Accounts and API keys, as they lie in Redis.

    account:<username>   HASH  id, role, password (argon2id), created_ms, version, disabled_ms
    apikey:<sha256>      HASH  id, account, username, role, name, scopes, created_ms, expires_ms, used_ms; the key itself is
                               shown once and not kept

An account is a tenant: its jobs, topics and cached values are its own. What ends a credential (a new password, a disabled
or removed account, a revoked key) is published on the channel `revoked` in the same step, for the gateways to hear.
"""

import hashlib
import secrets
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import redis

from app import limits
from app.errors import InvalidInput
from app.ledger.scripts import Evaluator
from app.lua_script import LuaScript

KEY_PREFIX = "tk_"

_USE_NOTED_MS = 60_000  # the time of a key's last use is right to a minute


class Role(StrEnum):
    """What an account may do."""

    USER = "user"  # its own jobs
    OPERATOR = "operator"  # the state of the system, too


class Scope(StrEnum):
    """What a credential may be used for. An access token has all that its role allows; an API key those that it was made
    with."""

    JOBS_READ = "jobs:read"  # read, list and follow jobs
    JOBS_WRITE = "jobs:write"  # submit and cancel jobs, completions included
    CHAT = "chat"  # conversations
    EVENTS = "events"  # the account's event stream and webhooks
    OPERATE = "operate"  # the state of the system; needs the role operator, too


#: The scopes that a role allows.
SCOPES_OF = {Role.USER: frozenset(Scope) - {Scope.OPERATE}, Role.OPERATOR: frozenset(Scope)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Someone who can log in, unless disabled. `version` grows with each change."""

    id: str
    username: str
    role: Role
    password_hash: str
    created_ms: int
    version: int = 0
    disabled_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key that acts for an account. `scopes` are those that the account's role still allows."""

    id: str
    account_id: str
    username: str
    role: Role
    name: str
    scopes: frozenset[Scope]
    created_ms: int = 0
    expires_ms: int | None = None
    used_ms: int | None = field(default=None, compare=False)  # right to a minute

    def has_expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_ms is not None and time.time() * 1000 >= self.expires_ms


class Accounts:
    """Reads and writes accounts and keys. Raises redis-py's errors, or `StoreUnavailable`."""

    def __init__(self, client: redis.Redis, evaluator: Evaluator | None = None) -> None:
        """`evaluator` may replace the client for looking keys up, of which a gateway does many at a time."""
        self._client = client
        self._change = LuaScript(client, "change_account")
        self._find_key = LuaScript(client, "find_key", evaluator)

    def add(self, username: str, role: Role, password_hash: str) -> Account:
        """Make an account. Raises `InvalidInput` when the name is taken."""
        account = Account(id=str(uuid.uuid4()), username=username, role=role, password_hash=password_hash,
                          created_ms=_now_ms())
        if not self._client.hsetnx(_account(username), "id", account.id):
            raise InvalidInput(f"the username '{username}' is taken")
        self._client.hset(_account(username), mapping={
            "role": role.value, "password": password_hash, "created_ms": account.created_ms})
        self._client.sadd("accounts", username)
        return account

    def find(self, username: str) -> Account | None:
        """Return the account of that name, or None."""
        record = self._client.hgetall(_account(username))
        if b"password" not in record:
            return None
        return Account(id=record[b"id"].decode(), username=username, role=Role(record[b"role"].decode()),
                       password_hash=record[b"password"].decode(), created_ms=int(record[b"created_ms"]),
                       version=int(record.get(b"version", 0)), disabled_ms=_number(record.get(b"disabled_ms")))

    def set_password(self, username: str, password_hash: str) -> bool:
        """Replace a password and end the account's sessions; return whether there is such an account."""
        return bool(self._change([_account(username)], "end", "password", password_hash))

    def set_role(self, username: str, role: Role) -> bool:
        """Give an account another role, its sessions and keys included; return whether there is such an account."""
        return bool(self._change([_account(username)], "keep", "role", role.value))

    def disable(self, username: str) -> bool:
        """Let nobody use an account: its sessions end, its keys rest; return whether there is such an account."""
        return bool(self._change([_account(username)], "end", "disabled_ms", _now_ms()))

    def enable(self, username: str) -> bool:
        """Let a disabled account be used again, its keys included; return whether there is such an account."""
        return bool(self._change([_account(username)], "keep", "disabled_ms", ""))

    def remove(self, username: str) -> bool:
        """Delete an account with its sessions, keys and limits; return whether there was one."""
        account = self.find(username)
        removed = bool(self._change([_account(username)], "remove"))  # first: no key acts for an account that is not there
        for key in self.keys(username):
            self.revoke_key(key.id)
        if removed and account:
            limits.forget(self._client, account.id)
        return removed

    def all(self) -> list[Account]:
        """Return every account, by name."""
        names = sorted(name.decode() for name in self._client.smembers("accounts"))
        return [account for name in names if (account := self.find(name))]

    def add_key(self, account: Account, name: str, *, scopes: Iterable[Scope] | None = None,
                life_s: float | None = None) -> tuple[str, ApiKey]:
        """Make a key for an account; return the key's text, which cannot be had again, and its record.

        Without `scopes` it has all that the role allows; without `life_s` it does not expire. Raises `InvalidInput` for a
        scope that the role does not allow.
        """
        wanted = SCOPES_OF[account.role] if scopes is None else frozenset(scopes)
        if beyond := sorted(wanted - SCOPES_OF[account.role]):
            raise InvalidInput(f"the role {account.role} of '{account.username}' does not allow the scope "
                               f"{', '.join(beyond)}; it allows {', '.join(sorted(SCOPES_OF[account.role]))}")
        text, now_ms = KEY_PREFIX + secrets.token_urlsafe(32), _now_ms()
        key = ApiKey(id=secrets.token_hex(6), account_id=account.id, username=account.username, role=account.role,
                     name=name, scopes=wanted, created_ms=now_ms,
                     expires_ms=None if life_s is None else now_ms + round(life_s * 1000))
        record: dict[str, str | int] = {
            "id": key.id, "account": account.id, "username": account.username, "role": account.role.value,
            "name": name, "scopes": ",".join(sorted(wanted)), "created_ms": now_ms}
        if key.expires_ms is not None:
            record["expires_ms"] = key.expires_ms
        self._client.hset(_key(text), mapping=record)
        self._client.hset("apikeys", key.id, _key(text))
        return text, key

    def find_key(self, text: str) -> ApiKey | None:
        """Return what a key's text stands for now, or None; note that it was used. An expired key, or one of a disabled
        account, stands for nothing."""
        found = self._find_key([_key(text)], _USE_NOTED_MS)
        if found is None:
            return None
        pairs, account_id, role, disabled = found
        record = dict(zip(pairs[::2], pairs[1::2], strict=True))
        if account_id != record[b"account"] or disabled:
            return None
        key = _read_key(record, Role(role.decode()))
        return None if key.has_expired() else key

    def keys(self, username: str | None = None) -> list[ApiKey]:
        """Return the keys of an account, or all, with those that expired."""
        records = [self._client.hgetall(where) for where in self._client.hvals("apikeys")]
        keys = [_read_key(record, Role(record[b"role"].decode())) for record in records if record]
        return [key for key in keys if username in (None, key.username)]

    def revoke_key(self, key_id: str) -> bool:
        """Delete a key by its id; return whether there was one."""
        where = self._client.hget("apikeys", key_id)
        if where is None:
            return False
        with self._client.pipeline() as transaction:
            transaction.delete(where)
            transaction.hdel("apikeys", key_id)
            transaction.publish("revoked", f"key:{key_id}")
            return bool(transaction.execute()[1])


def _read_key(record: dict[bytes, bytes], role: Role) -> ApiKey:
    allowed, stated = SCOPES_OF[role], record.get(b"scopes")
    scopes = allowed if stated is None else allowed & {Scope(name) for name in stated.decode().split(",") if name}
    return ApiKey(id=record[b"id"].decode(), account_id=record[b"account"].decode(), name=record[b"name"].decode(),
                  username=record[b"username"].decode(), role=role, scopes=scopes,
                  created_ms=int(record.get(b"created_ms", 0)), expires_ms=_number(record.get(b"expires_ms")),
                  used_ms=_number(record.get(b"used_ms")))


def _number(value: bytes | None) -> int | None:
    return None if value is None else int(value)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _account(username: str) -> str:
    return f"account:{username}"


def _key(text: str) -> str:
    return f"apikey:{hashlib.sha256(text.encode()).hexdigest()}"
