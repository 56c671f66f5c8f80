"""The demo account, and a first job that goes the way of any caller's: login, submit, wait, answer."""

import contextlib
import json
import urllib.error
import urllib.request
from typing import Any

from app.accounts import Account, Accounts, Role
from app.passwords import hashed

USERNAME = "demo"
QUESTION = "What is the capital of France? Answer in one sentence."

_ANSWER_S = 60
_KEY_NAME = "make up"


def demo_account(accounts: Accounts, password: str) -> tuple[Account, str]:
    """Return the demo account, with a new password and one new API key; earlier keys of `make up` end."""
    if not accounts.set_password(USERNAME, hashed(password)):
        accounts.add(USERNAME, Role.OPERATOR, hashed(password))
    for key in accounts.keys(USERNAME):
        if key.name == _KEY_NAME:
            accounts.revoke_key(key.id)
    account = accounts.find(USERNAME)
    if account is None:
        raise OSError("the demo account vanished while it was being made; is another `make up` running?")
    return account, accounts.add_key(account, _KEY_NAME)[0]


def first_answer(address: str, username: str, password: str) -> dict[str, Any]:
    """Log in and have a job answered. Raises `OSError` with the job as it stands when that fails."""
    token = _call(f"{address}/v1/auth/login", {"username": username, "password": password})["access_token"]
    job = submit(address, token, QUESTION, wait_s=_ANSWER_S)
    if job["state"] != "succeeded":
        with contextlib.suppress(OSError):  # or the next start would find it waiting
            _call(f"{address}/v1/jobs/{job['id']}/cancel", {}, token=token)
        why = f": {json.dumps(job['error'])}" if job["error"] else ""
        raise OSError(f"the first job did not succeed; after {_ANSWER_S} s at most it was {job['state']}, at attempt "
                      f"{job['attempt']}{why}. The model workers' logs say more: servers/*/model.log")
    return job


def submit(address: str, token: str, question: str, *, wait_s: int = 0) -> dict[str, Any]:
    """Submit a job and return it, after its end or `wait_s` seconds. Raises `OSError` when it is refused."""
    return _call(f"{address}/v1/jobs", {"service": "model", "lane": "interactive", "input": {
        "messages": [{"role": "user", "content": question}], "max_tokens": 48, "temperature": 0}},
        token=token, wait_s=wait_s)


def _call(url: str, body: dict[str, Any], *, token: str | None = None, wait_s: int = 0) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    if token:
        headers |= {"Authorization": f"Bearer {token}", "Prefer": f"wait={wait_s}", "Cache-Control": "no-cache"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=wait_s + 30) as response:
            return dict(json.load(response))
    except urllib.error.HTTPError as exc:
        raise OSError(f"{url} answered {exc.code}: {exc.read().decode(errors='replace')}") from exc
