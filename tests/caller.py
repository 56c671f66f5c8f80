"""A caller over HTTP, as the tests need one: one connection, one set of credentials."""

import uuid
from typing import Any

import requests

from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.operating import operate

TERMINAL = ("succeeded", "failed", "cancelled", "expired")


class Caller:
    """Speaks to one address with one API key (or access token)."""

    def __init__(self, address: str, key: str = "") -> None:
        self.address = address
        self.username = ""
        self.credentials = f"Bearer {key}" if key else ""
        self._session = requests.Session()
        if key:
            self._session.headers["Authorization"] = self.credentials

    @classmethod
    def fresh(cls, stack: Sandbox, role: str = "user") -> "Caller":
        """Return a caller with an account of its own."""
        name = f"u{uuid.uuid4().hex[:12]}"
        added = operate(stack, "users", "add", name, "--role", role)
        assert added.returncode == 0, added.stderr
        key = operate(stack, "keys", "add", name)
        assert key.returncode == 0, key.stderr
        one = cls(stack.report()["entry"], key.stdout.strip())
        one.username = name
        return one

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Make one call; `options` are those of `requests`."""
        return self._session.request(method, self.address + path, timeout=90, **options)

    def submit(self, prompt: str = "hello", *, headers: dict[str, str] | None = None, **members: Any) -> dict[str, Any]:
        """Submit a job of the model service and return the job object; `members` are more of the body's."""
        body = {"service": "model", "input": {"prompt": prompt}, **members}
        answer = self.call("POST", "/v1/jobs", json=body, headers=headers)
        assert answer.status_code in (200, 202), answer.text
        return dict(answer.json())

    def job(self, job_id: str) -> dict[str, Any]:
        """Return the job as it stands."""
        answer = self.call("GET", f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ended(self, job_id: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until the job has ended, and return it."""
        return self.reaches(job_id, *TERMINAL, timeout_s=timeout_s)

    def reaches(self, job_id: str, *states: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until the job is in one of these states, and return it."""
        seen: dict[str, Any] = {}

        def there() -> bool:
            seen.update(self.job(job_id))
            return seen["state"] in states

        wait_until(there, timeout_s=timeout_s, what=f"job {job_id} to be {' or '.join(states)}")
        return seen
