"""Passwords: argon2id, with the library's defaults (RFC 9106, low-memory profile).

Hashing takes tens of milliseconds and megabytes on purpose; so the auth workers and operators' commands do it, the gateway
never.
"""

import functools

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_hasher = PasswordHasher()


def hashed(password: str) -> str:
    """Return what is kept of a password."""
    return _hasher.hash(password)


def matches(password_hash: str | None, password: str) -> bool:
    """Tell whether the password is the one. Without a hash (nobody has that name) the answer takes as long as ever."""
    try:
        return _hasher.verify(password_hash or _nobodys(), password) and password_hash is not None
    except (VerificationError, InvalidHashError):
        return False


def prepare() -> None:
    """Do what the first unknown name would otherwise be slower for."""
    _nobodys()


@functools.cache
def _nobodys() -> str:
    return _hasher.hash("nobody has this password")
