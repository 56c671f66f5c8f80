"""The auth service: passwords are checked here, not in the gateway."""

import functools

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.inputs import Input
from workers import resources
from workers.attempt import Answer, Attempt
from workers.tasks import job_task


class LoginInput(Input):
    """What the gateway puts into an auth job: `sealed` is JSON with `username` and `password`, under the keyring's seal."""

    sealed: str


class Credentials(Input):
    """What a caller logs in with."""

    username: str
    password: str


#: argon2id with the library's defaults (RFC 9106, low-memory profile).
hasher = PasswordHasher()


@job_task("auth.login")
def login(attempt: Attempt) -> Answer:
    """Check a password. Result: `granted`, and if so `account`, `username` and `role`.

    An unknown name takes as long as a wrong password: it is checked against a hash that nothing matches.
    """
    held = resources.held()
    assert held.keyring is not None, "the auth service loads the keyring before its first job"
    sealed = msgspec.json.decode(attempt.claim.input, type=LoginInput).sealed
    given = msgspec.json.decode(held.keyring.unseal(sealed), type=Credentials)
    account = held.accounts.find(given.username)
    granted = _matches(account.password_hash if account else _nobodys_hash(), given.password)
    if account is None or not granted:
        return Answer(result={"granted": False})
    return Answer(result={"granted": True, "account": account.id, "username": account.username,
                          "role": account.role.value})


def _matches(password_hash: str, password: str) -> bool:
    try:
        return hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


@functools.cache
def _nobodys_hash() -> str:
    return hasher.hash("nobody has this password")
