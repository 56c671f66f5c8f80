"""The gateway in the test's own process, over a real Redis: for what needs no server and no worker."""

from typing import Any

import redis
from werkzeug.test import TestResponse

from app import topology
from app.accounts import Accounts, Role
from app.api import create_app
from app.settings import Settings


class Gateway:
    """Speaks to the application as one caller; `another` gives others of the same gateway."""

    def __init__(self, settings: Settings, client: redis.Redis, *, app: Any = None, role: Role = Role.USER,
                 name: str = "first") -> None:
        _, plan = topology.load({})
        self._settings, self._redis = settings, client
        self.app = app or create_app(settings, plan)
        accounts = Accounts(client)
        self.account = accounts.add(name, role, "no password")
        self.key, _ = accounts.add_key(self.account, "tests")

    def another(self, name: str, role: Role = Role.USER) -> "Gateway":
        """Return another caller of this gateway."""
        return Gateway(self._settings, self._redis, app=self.app, role=role, name=name)

    def call(self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> TestResponse:
        """Make one call; `options` are those of werkzeug's client."""
        given = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        return self.app.test_client().open(path, method=method, headers=given, **options)

    def submit(self, prompt: str = "hello", **members: Any) -> str:
        """Submit a job of the model service, which nobody runs, and return its id."""
        answer = self.call("POST", "/v1/jobs", json={"service": "model", "input": {"prompt": prompt}, **members})
        assert answer.status_code == 202, answer.text
        return str(answer.json["id"])
