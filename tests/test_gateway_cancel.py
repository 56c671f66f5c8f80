"""Ending a job before its time, over HTTP: by its caller, or by its deadline, while it runs or after it has ended.

What happens to jobs that still wait is in test_gateway_queued.py.
"""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller

WAYS = [("DELETE", ""), ("POST", "/cancel")]

A_WHILE_S = 20  # a cancelled job's worker notices with its next beat, some seconds at most


@pytest.fixture
def running(caller: Caller) -> Iterator[dict[str, Any]]:
    """A job that runs until it is cancelled."""
    job = caller.submit("[stall 300s] hello")
    try:
        yield caller.reaches(job["id"], "running")
    finally:
        caller.call("DELETE", f"/v1/jobs/{job['id']}")


@pytest.mark.parametrize(("method", "path"), WAYS)
def test_a_running_job_is_cancelled_at_once(
        caller: Caller, running: dict[str, Any], method: str, path: str) -> None:
    answer = caller.call(method, f"/v1/jobs/{running['id']}{path}")

    assert answer.status_code == 200
    job = answer.json()
    assert job["error"] == {"code": "cancelled", "detail": "cancelled by the caller", "fault": "caller"}
    assert job["finished_at"] >= job["started_at"] == running["started_at"]
    assert job == running | {"state": "cancelled", "error": job["error"], "finished_at": job["finished_at"]}
    assert "Retry-After" not in answer.headers
    assert caller.job(running["id"]) == job


def test_the_worker_of_a_cancelled_job_soon_takes_the_next(caller: Caller, stack: Sandbox) -> None:
    slots = int(stack.client().hget("slots", "model"))
    stalled = [caller.submit("[stall 300s]") for _ in range(slots)]
    try:
        for job in stalled:
            caller.reaches(job["id"], "running")
    finally:
        for job in stalled:
            caller.call("DELETE", f"/v1/jobs/{job['id']}")

    short = [caller.submit("[stall 50ms] hello") for _ in range(slots)]

    assert [caller.ended(job["id"], timeout_s=A_WHILE_S)["state"] for job in short] == ["succeeded"] * slots


@pytest.mark.parametrize(("method", "path"), WAYS)
@pytest.mark.parametrize(("prompt", "state"), [("hello", "succeeded"), ("[error permanent]", "failed")])
def test_cancelling_an_ended_job_changes_nothing(
        caller: Caller, prompt: str, state: str, method: str, path: str) -> None:
    job = caller.ended(caller.submit(prompt)["id"])
    assert job["state"] == state

    answer = caller.call(method, f"/v1/jobs/{job['id']}{path}")

    assert (answer.status_code, answer.json()) == (200, job)


def test_cancelling_twice_is_answered_twice_and_counted_once(
        caller: Caller, running: dict[str, Any], stack: Sandbox) -> None:
    client = stack.client()
    before = int(client.hget("counts", "cancelled") or 0)

    answers = [caller.call(method, f"/v1/jobs/{running['id']}{path}") for method, path in WAYS * 2]

    assert {answer.status_code for answer in answers} == {200}
    assert [answer.json() for answer in answers] == [answers[0].json()] * 4
    assert answers[0].json()["state"] == "cancelled"
    assert int(client.hget("counts", "cancelled") or 0) == before + 1


def test_cancelling_a_chat_cancels_the_models_part_of_it(caller: Caller, stack: Sandbox) -> None:
    client = stack.client()
    body = {"service": "chat", "input": {"conversation": uuid.uuid4().hex, "message": "[stall 300s] hello"}}
    chat = caller.call("POST", "/v1/jobs", json=body).json()

    def part() -> str | None:
        ids = [key.decode().removeprefix("job:") for key in client.scan_iter(match="job:*", count=1000)
               if client.hget(key, "parent") == chat["id"].encode()]
        return ids[0] if ids else None

    try:
        part_id = wait_until(part, timeout_s=A_WHILE_S, what="the model's part of the chat") or ""
        caller.reaches(part_id, "running")
    finally:
        cancelled = caller.call("DELETE", f"/v1/jobs/{chat['id']}").json()

    assert cancelled["state"] == "cancelled"
    assert caller.ended(part_id, timeout_s=A_WHILE_S)["state"] == "cancelled"


def test_a_job_still_running_at_its_deadline_is_cancelled(caller: Caller) -> None:
    job = caller.submit("[stall 300s]", deadline_s=1, headers={"Prefer": "wait=30"})
    caller.call("DELETE", f"/v1/jobs/{job['id']}")

    assert job["state"] == "cancelled"
    assert job["attempt"] == 1
    assert job["started_at"] < job["finished_at"]
    assert (job["error"]["code"], job["error"]["fault"]) == ("deadline-passed", "caller")
    assert job["error"]["detail"] == "the deadline passed while the job was being worked on"


def test_a_job_that_ends_before_its_deadline_keeps_its_result(caller: Caller) -> None:
    job = caller.submit("hello", deadline_s=30, headers={"Prefer": "wait=20"})

    assert (job["state"], job["result"]["text"]) == ("succeeded", "hello")


@pytest.mark.parametrize(("method", "path"), WAYS)
@pytest.mark.parametrize("job_id", ["01990000-0000-7000-8000-000000000000", "nonsense"])
def test_a_job_nobody_knows_cannot_be_cancelled(caller: Caller, job_id: str, method: str, path: str) -> None:
    answer = caller.call(method, f"/v1/jobs/{job_id}{path}")

    assert (answer.status_code, answer.json()["code"]) == (404, "job-unknown")
