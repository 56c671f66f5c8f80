"""What operators set for an account, and what its callers are told."""

from collections.abc import Iterator

import pytest
import redis

from app import limits
from app.settings import Settings
from ops.sandbox import Sandbox
from tests.caller import Caller
from tests.gateway import Gateway
from tests.operating import operate


@pytest.fixture
def limited(stack: Sandbox) -> Iterator[Caller]:
    """A fresh account that may submit two jobs a minute, for a thousand tokens, and have one of them in flight."""
    with Caller.fresh(stack) as one:
        done = operate(stack, "limits", "set", one.username, "--requests-per-minute", "2", "--tokens-per-minute", "1000",
                       "--jobs-in-flight", "1")
        assert done.returncode == 0, done.stderr
        yield one


def test_what_is_set_is_read_and_goes_back_to_the_default(client: redis.Redis) -> None:
    limits.change(client, "ann", {"weight": 2.5, "requests_per_minute": 60.0})
    limits.change(client, "ann", {"requests_per_minute": None})

    assert limits.read(client, "ann") == {"weight": 2.5}
    limits.forget(client, "ann")
    assert limits.read(client, "ann") == {}


def test_answers_to_warm_the_cache_with_cost_tokens_like_any_others(settings: Settings, client: redis.Redis) -> None:
    gateway = Gateway(settings, client)
    limits.change(client, gateway.account.id, {"tokens_per_minute": 1000})
    wanted = {"operation": "warm", "requests": [{"prompt": "a", "temperature": 0, "max_tokens": 200}] * 3}

    answers = [gateway.call("POST", "/v1/jobs", json={"service": "cache", "input": wanted}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 429]


def test_a_caller_is_told_its_limits_and_refused_beyond_them_by_either_gateway(stack: Sandbox, limited: Caller) -> None:
    first, second = stack.report()["gateways"].values()
    limited.address = first
    accepted = limited.call("POST", "/v1/jobs", json={"service": "model", "input": {"prompt": "a", "max_tokens": 100}},
                            headers={"Prefer": "wait=30"})
    assert accepted.status_code == 200, accepted.text
    assert accepted.headers["RateLimit-Policy"] == '"requests";q=2;w=60, "tokens";q=1000;qu="tokens";w=60, "jobs";q=1'
    assert accepted.headers["x-ratelimit-limit-requests"] == "2"
    assert accepted.headers["x-ratelimit-remaining-requests"] == "1"
    assert 0 < int(accepted.headers["x-ratelimit-remaining-tokens"]) < 900
    assert accepted.headers["RateLimit"].startswith('"requests";r=1;t=')

    limited.address = second
    running = limited.call("POST", "/v1/jobs",
                           json={"service": "model", "input": {"prompt": "[stall 60s]", "max_tokens": 1}})
    assert running.status_code == 202, running.text
    refused = limited.call("POST", "/v1/jobs", json={"service": "model", "input": {"prompt": "b", "max_tokens": 1}})
    assert (refused.status_code, refused.json()["code"]) == (429, "limit-exceeded")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    limited.call("DELETE", f"/v1/jobs/{running.json()['id']}")


def test_reading_costs_nothing_and_a_refusal_writes_nothing(stack: Sandbox, limited: Caller) -> None:
    job = limited.submit("[stall 60s]")
    for _ in range(10):
        assert limited.call("GET", f"/v1/jobs/{job['id']}").status_code == 200
    refused = limited.call("POST", "/v1/jobs", json={"service": "model", "input": {"prompt": "b"}})

    assert refused.status_code == 429
    assert "jobs in flight" in refused.json()["detail"]
    assert [each["id"] for each in limited.call("GET", "/v1/jobs").json()["data"]] == [job["id"]]
    limited.call("DELETE", f"/v1/jobs/{job['id']}")
    assert limited.submit("hello", headers={"Prefer": "wait=30"})["state"] == "succeeded"


@pytest.mark.parametrize(("options", "says"), [
    (["--weight", "0"], "neither `default` nor a number"), (["--jobs-in-flight", "x"], "neither `default` nor a number"),
    ([], "say what to set")])
def test_what_makes_no_limit_is_refused_in_a_line(stack: Sandbox, options: list[str], says: str) -> None:
    done = operate(stack, "limits", "set", "demo", *options)

    assert done.returncode != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_operator_sees_an_accounts_limits_and_where_they_come_from(stack: Sandbox, limited: Caller) -> None:
    shown = stack.celery("limits", "show", limited.username).stdout

    assert any(line.split()[:3] == ["requests_per_minute", "2", "own"] for line in shown.splitlines())
    assert any(line.split()[:3] == ["weight", "1", "default"] for line in shown.splitlines())
    assert operate(stack, "limits", "show", "nobody-of-that-name").returncode != 0
