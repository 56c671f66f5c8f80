"""The auth service: passwords are checked here, not in the gateway."""

import msgspec

from app.inputs import Input
from app.passwords import matches
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


@job_task("auth.login")
def login(attempt: Attempt) -> Answer:
    """Check a password. Result: `granted`, and if so `account`, `username` and the account's `version`.

    An unknown name takes as long as a wrong password, and so does a disabled account, which nothing fits.
    """
    held = resources.held()
    assert held.keyring is not None, "the auth service loads the keyring before its first job"
    sealed = msgspec.json.decode(attempt.claim.input, type=LoginInput).sealed
    given = msgspec.json.decode(held.keyring.unseal(sealed), type=Credentials)
    account = held.accounts.find(given.username)
    granted = matches(account.password_hash if account and account.disabled_ms is None else None, given.password)
    if account is None or not granted:
        return Answer(result={"granted": False})
    return Answer(result={"granted": True, "account": account.id, "username": account.username,
                          "version": account.version})
