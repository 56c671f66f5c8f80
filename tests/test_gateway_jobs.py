"""A job over HTTP: accepted, run, read back, by its owner, at any gateway."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import TERMINAL, Caller

#: What api.md promises, and the Celery task's name.
MEMBERS = {
    "id", "service", "task", "state", "lane", "route", "server", "processor", "attempt", "durability", "position", "eta_s",
    "created_at", "started_at", "finished_at", "usage", "result", "error", "decision"}

INPUTS: dict[str, dict[str, Any]] = {
    "model": {"prompt": "hello there"}, "chat": {"conversation": "c", "message": "hello there"},
    "cache": {"operation": "get", "key": "k"}, "queue": {"operation": "read", "topic": "t"}}

A_MINUTE = timedelta(minutes=1)


def at(text: str) -> datetime:
    """Return a time of the job object: RFC 3339, in UTC, to the millisecond."""
    assert text.endswith("Z")
    assert len(text) == len("2026-01-01T00:00:00.000Z")
    return datetime.fromisoformat(text)


def test_a_submit_is_answered_with_the_job_as_queued_and_where_to_find_it(caller: Caller) -> None:
    answer = caller.call("POST", "/v1/jobs", json={"service": "model", "input": {"prompt": "hello"}, "lane": "batch"})

    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert 1 <= int(answer.headers["Retry-After"]) <= 30
    assert "Prefer" in answer.headers["Vary"]
    assert "Idempotency-Replayed" not in answer.headers
    assert set(job) == MEMBERS
    assert (job["service"], job["task"], job["lane"], job["route"]) == ("model", "model.generate", "batch", "local")
    assert (job["state"], job["attempt"], job["durability"]) == ("queued", 0, 1)
    assert isinstance(job["position"], int)
    assert job["eta_s"] is None or job["eta_s"] > 0
    assert abs(at(job["created_at"]) - datetime.now().astimezone()) < A_MINUTE
    assert {name for name in MEMBERS if job[name] is None} - {"eta_s"} == {
        "server", "processor", "started_at", "finished_at", "usage", "result", "error", "decision"}
    found = caller.call("GET", answer.headers["Location"])
    assert (found.status_code, found.json()["id"]) == (200, job["id"])
    caller.ended(job["id"])


def test_a_job_is_queued_then_runs_then_has_succeeded(caller: Caller) -> None:
    job = caller.submit("[stall 1s] hello there")
    seen = [job["state"]]

    def ended() -> bool:
        job.update(caller.job(job["id"]))
        if job["state"] != seen[-1]:
            seen.append(job["state"])
        return job["state"] in TERMINAL

    wait_until(ended, timeout_s=30, what="the job to end")
    assert seen == ["queued", "running", "succeeded"]


def test_an_ended_job_says_what_came_out_at_what_cost_and_when(caller: Caller) -> None:
    job = caller.ended(caller.submit("say this [stall 20ms] back")["id"])

    assert job["state"] == "succeeded"
    assert job["result"] == {"text": "say this back", "finish_reason": "stop", "model": "scripted"}
    assert job["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "cached_tokens": 0}
    assert timedelta(0) <= at(job["started_at"]) - at(job["created_at"]) < A_MINUTE
    assert timedelta(milliseconds=20) <= at(job["finished_at"]) - at(job["started_at"]) < A_MINUTE
    assert (job["position"], job["eta_s"], job["error"]) == (None, None, None)
    assert "Retry-After" not in caller.call("GET", f"/v1/jobs/{job['id']}").headers


@pytest.mark.parametrize("service", INPUTS)
def test_every_service_answers_and_says_where_it_ran_and_why(caller: Caller, service: str) -> None:
    job = caller.call("POST", "/v1/jobs", json={"service": service, "input": INPUTS[service]},
                      headers={"Prefer": "wait=30"}).json()

    assert (job["state"], job["service"], job["attempt"]) == ("succeeded", service, 1)
    servers = {server["name"]: server for server in caller.call("GET", "/v1/status").json()["servers"]}
    (worker,) = (each for each in servers[job["server"]]["workers"] if service in each["services"])
    assert job["processor"] == ",".join(worker["processors"])
    assert job["decision"]["server"] == job["server"]
    assert job["decision"]["rule"]
    assert job["decision"]["detail"]


def test_a_job_that_the_engine_refuses_has_failed_with_the_reason_and_whose_fault_it_is(caller: Caller) -> None:
    job = caller.ended(caller.submit("[error permanent]")["id"])

    assert (job["state"], job["result"], job["usage"]) == ("failed", None, None)
    assert job["error"] == {"code": "engine-failed", "detail": "the script says [error permanent]", "fault": "engine"}


def test_the_job_object_shows_nothing_internal(caller: Caller, stack: Sandbox) -> None:
    job = caller.submit("[stall 30s] a-word-of-the-prompt")
    try:
        running = caller.reaches(job["id"], "running")
        record = stack.client().hgetall(f"job:{job['id']}")
    finally:
        cancelled = caller.call("DELETE", f"/v1/jobs/{job['id']}").json()

    secrets = [record[b"owner"].decode(), record[b"tenant"].decode(), "a-word-of-the-prompt"]
    for shown in (job, running, cancelled):
        assert set(shown) == MEMBERS
        assert not [secret for secret in secrets if secret in json.dumps(shown)]


def test_a_job_is_the_same_at_the_entry_and_at_both_gateways(caller: Caller, stack: Sandbox) -> None:
    report = stack.report()
    addresses = [report["entry"], *report["gateways"].values()]
    assert len(set(addresses)) == 3

    for address in addresses:
        with Caller(address, report["api_key"]) as here:
            job = here.submit("hello", headers={"Prefer": "wait=30"})
        for other in addresses:
            with Caller(other, report["api_key"]) as there:
                assert there.job(job["id"]) == job


def test_a_job_that_one_gateway_accepted_can_be_waited_for_and_cancelled_at_the_other(stack: Sandbox) -> None:
    report = stack.report()
    first, second = report["gateways"].values()
    with Caller(first, report["api_key"]) as here, Caller(second, report["api_key"]) as there:
        job = here.submit("[stall 500ms] hello")
        waited = there.call("GET", f"/v1/jobs/{job['id']}?wait=30").json()
        stalled = here.submit("[stall 30s]")
        cancelled = there.call("DELETE", f"/v1/jobs/{stalled['id']}").json()

        assert (waited["id"], waited["state"]) == (job["id"], "succeeded")
        assert (cancelled["id"], cancelled["state"]) == (stalled["id"], "cancelled")
        assert here.job(stalled["id"]) == cancelled


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "?wait=5"), ("DELETE", ""), ("POST", "/cancel")])
def test_another_tenants_job_is_unknown_and_stays_as_it_is(
        caller: Caller, somebody_else: Caller, method: str, path: str) -> None:
    job = caller.ended(caller.submit("hello")["id"])

    answer = somebody_else.call(method, f"/v1/jobs/{job['id']}{path}")

    assert (answer.status_code, answer.json()["code"]) == (404, "job-unknown")
    assert caller.job(job["id"]) == job


@pytest.fixture(scope="module")
def somebody_else(stack: Sandbox) -> Any:
    """A caller with another account."""
    with Caller.fresh(stack) as one:
        yield one
