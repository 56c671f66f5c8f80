"""Conversations in the test's own process: a worker of the chat service, and callers who talk. There is no model: what it
says is in the test's hands."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import redis

from app.announcements import Announcements
from app.answers import Answers
from app.job import NewJob, Service, model_part
from app.ledger import Claim, Ending, Ledger, Place, Settled, new_owner
from app.model_names import ModelNames
from app.response_cache import ResponseCache
from app.settings import Settings
from tests.gateway import Gateway
from workers import resources
from workers.application import TASK_MODULES
from workers.attempt import Attempt, call, ending, verdict
from workers.tasks import CODES

PLACE = Place(worker="w", server="server-1", processor="P3")


class Worker:
    """Runs jobs of the chat service one by one, and has the model's part of each answered before."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self.ledger, self.settings = ledger, settings
        for module in TASK_MODULES:
            importlib.import_module(module)

    @classmethod
    @contextmanager
    def working(cls, ledger: Ledger, settings: Settings, client: redis.Redis,
                monkeypatch: pytest.MonkeyPatch) -> Iterator["Worker"]:
        """Give a worker that holds what its tasks need."""
        announcements, cache = Announcements(settings), ResponseCache(settings, client)
        monkeypatch.setattr(resources, "_held", resources.Resources(
            client=client, accounts=None, announcements=announcements, cache=cache,  # type: ignore[arg-type]
            answers=Answers(cache, ModelNames(client, settings), settings)))
        yield cls(ledger, settings)
        announcements.stop()

    def run(self, job_id: str, said: str = "well", **result: Any) -> Any:
        """Run a job; return the job as it is then."""
        claim, outcome = self.work(job_id, said, **result)
        self.settle(claim, outcome)
        return self.ledger.read(job_id)

    def work(self, job_id: str, said: str = "well", **result: Any) -> tuple[Claim, Any]:
        """Claim a job and do its work, all but to settle it."""
        claim = self.ledger.claim(job_id, PLACE, owner=new_owner())
        assert isinstance(claim, Claim), claim
        self.ledger.submit(NewJob(id=model_part(job_id), service=Service.MODEL, task="model.generate", tenant=claim.tenant,
                                  input=b"{}", parent=job_id), answer=Ending(
            result=msgspec.json.encode({"text": said, "finish_reason": "stop", "model": "m", **result}),
            usage=b'{"prompt_tokens":3,"completion_tokens":2,"cached_tokens":0}'))
        node: Any = SimpleNamespace(ledger=self.ledger, settings=self.settings, wake_when_lost=lambda *_: None)
        return claim, call(CODES[claim.task], Attempt(claim, node, lambda: False))

    def settle(self, claim: Claim, outcome: Any) -> Settled:
        """Settle as a worker does."""
        judged = verdict(outcome, errors_before=0, settings=self.settings)
        assert judged.state is not None
        return self.ledger.settle(claim, judged.state, ending(outcome, judged.error))


def begin(gateway: Gateway, **members: str) -> str:
    answer = gateway.call("POST", "/v1/conversations", json=members)
    assert answer.status_code == 201, answer.text
    return str(answer.json["id"])


def ask(gateway: Gateway, name: str, content: str | None = "hello", route: str = "messages", **members: Any) -> str:
    """Submit a turn and return its job's id."""
    body = {"content": content, **members} if content is not None else members
    answer = gateway.call("POST", f"/v1/conversations/{name}/{route}", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json["id"])


def messages(gateway: Gateway, name: str) -> list[dict[str, Any]]:
    answer = gateway.call("GET", f"/v1/conversations/{name}/messages?limit=100")
    assert answer.status_code == 200, answer.text
    return list(answer.json["data"])


def said(gateway: Gateway, name: str) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages(gateway, name)]
