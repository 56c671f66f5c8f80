"""Accounts and API keys, as they lie in Redis.

    account:<username>   HASH  id, role, password (argon2id), created_ms
    apikey:<sha256>      HASH  id, account, username, role, name, created_ms; the key itself is shown once and not kept

An account is a tenant: its jobs, topics and cached values are its own.
"""

import hashlib
import secrets
import time
import uuid
from dataclasses import dataclass
from enum import StrEnum

import redis

from app.errors import InvalidInput

KEY_PREFIX = "tk_"


class Role(StrEnum):
    """What an account may do."""

    USER = "user"  # its own jobs
    OPERATOR = "operator"  # the state of the system, too


class Scope(StrEnum):
    """What a credential may be used for. An access token has all; an API key those that it was made with."""

    JOBS_READ = "jobs:read"  # read, list and follow jobs
    JOBS_WRITE = "jobs:write"  # submit and cancel jobs, completions included
    CHAT = "chat"  # conversations
    EVENTS = "events"  # the account's event stream and webhooks
    OPERATE = "operate"  # the state of the system; needs the role operator, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Someone who can log in."""

    id: str
    username: str
    role: Role
    password_hash: str
    created_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key that acts for an account."""

    id: str
    account_id: str
    username: str
    role: Role
    name: str
    scopes: frozenset[Scope] = frozenset(Scope)


class Accounts:
    """Reads and writes accounts and keys. Raises redis-py's errors; callers translate them."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def add(self, username: str, role: Role, password_hash: str) -> Account:
        """Make an account. Raises `InvalidInput` when the name is taken."""
        account = Account(id=str(uuid.uuid4()), username=username, role=role, password_hash=password_hash,
                          created_ms=time.time_ns() // 1_000_000)
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
                       password_hash=record[b"password"].decode(), created_ms=int(record[b"created_ms"]))

    def set_password(self, username: str, password_hash: str) -> bool:
        """Replace a password; return whether there is such an account."""
        if self.find(username) is None:
            return False
        self._client.hset(_account(username), "password", password_hash)
        return True

    def remove(self, username: str) -> bool:
        """Delete an account and its keys; return whether there was one."""
        for key in self.keys(username):
            self.revoke_key(key.id)
        self._client.srem("accounts", username)
        return bool(self._client.delete(_account(username)))

    def all(self) -> list[Account]:
        """Return every account, by name."""
        names = sorted(name.decode() for name in self._client.smembers("accounts"))
        return [account for name in names if (account := self.find(name))]

    def add_key(self, account: Account, name: str) -> tuple[str, ApiKey]:
        """Make a key for an account; return the key's text, which cannot be had again, and its record."""
        text = KEY_PREFIX + secrets.token_urlsafe(32)
        key = ApiKey(id=secrets.token_hex(6), account_id=account.id, username=account.username, role=account.role,
                     name=name)
        self._client.hset(_key(text), mapping={
            "id": key.id, "account": account.id, "username": account.username, "role": account.role.value,
            "name": name, "created_ms": time.time_ns() // 1_000_000})
        self._client.hset("apikeys", key.id, _key(text))
        return text, key

    def find_key(self, text: str) -> ApiKey | None:
        """Return what a key's text stands for, or None."""
        return self._read_key(_key(text))

    def keys(self, username: str | None = None) -> list[ApiKey]:
        """Return the keys of an account, or all."""
        records = [self._read_key(where.decode()) for where in self._client.hvals("apikeys")]
        return [key for key in records if key and username in (None, key.username)]

    def revoke_key(self, key_id: str) -> bool:
        """Delete a key by its id; return whether there was one."""
        where = self._client.hget("apikeys", key_id)
        if where is None:
            return False
        self._client.delete(where)
        return bool(self._client.hdel("apikeys", key_id))

    def _read_key(self, where: str) -> ApiKey | None:
        record = self._client.hgetall(where)
        if not record:
            return None
        return ApiKey(id=record[b"id"].decode(), account_id=record[b"account"].decode(),
                      username=record[b"username"].decode(), role=Role(record[b"role"].decode()),
                      name=record[b"name"].decode())


def _account(username: str) -> str:
    return f"account:{username}"


def _key(text: str) -> str:
    return f"apikey:{hashlib.sha256(text.encode()).hexdigest()}"
