"""Completions that come again with the same `Idempotency-Key`; the model is not run."""

from typing import Any

import pytest
import redis
from werkzeug.test import TestResponse

from app import limits
from app.ledger import Ledger
from app.settings import Settings
from tests.gateway import Gateway
from tests.model_ledger import a_job

ASKED: dict[str, Any] = {"model": "default", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def gateway(settings: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    monkeypatch.setattr("app.api.completions._SOON_S", 0.05)
    return Gateway(settings, client)


def ask(gateway: Gateway, **members: Any) -> TestResponse:
    return gateway.call("POST", "/v1/chat/completions", json={**ASKED, **members}, headers={"Idempotency-Key": "k"})


def states(gateway: Gateway) -> list[str]:
    return [job["state"] for job in gateway.call("GET", "/v1/jobs").json["data"]]


def test_who_was_refused_for_a_limit_is_answered_when_he_comes_again(gateway: Gateway, client: redis.Redis) -> None:
    limits.change(client, gateway.account.id, {"jobs_in_flight": 1})
    assert ask(gateway, n=2).status_code == 429
    assert states(gateway) == ["cancelled"]

    limits.change(client, gateway.account.id, {"jobs_in_flight": None})
    with ask(gateway, n=2) as again:
        assert (again.status_code, next(iter(again.response))) == (200, b"\n"), "not told that the job was cancelled"
        assert states(gateway) == ["queued", "queued", "cancelled"]


def test_whose_connection_broke_is_answered_when_he_comes_again(gateway: Gateway) -> None:
    ask(gateway, stream=True).close()
    assert states(gateway) == ["cancelled"]

    with ask(gateway, stream=True):
        assert states(gateway) == ["queued", "cancelled"]


def test_a_second_reader_who_goes_leaves_the_first_ones_job_alone(gateway: Gateway) -> None:
    with ask(gateway):
        ask(gateway).close()
        assert states(gateway) == ["queued"]
    assert states(gateway) == ["cancelled"]


def test_a_cancel_frees_only_the_key_of_the_very_job(ledger: Ledger) -> None:
    first, second = (a_job(idempotency_key=key) for key in ("k", "other"))
    for job in (first, second):
        ledger.submit(job)
    ledger.cancel(second.id, freed_key="k")
    ledger.cancel(second.id, freed_key="other")
    assert [ledger.is_used("ann", key) for key in ("k", "other")] == [True, True], "it had ended before"
    ledger.cancel(first.id, "ann", freed_key="k")
    assert not ledger.is_used("ann", "k")
