"""A job that waits because every worker is busy, as its caller sees it: its place in line, and how it leaves the line."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from ops.sandbox import Sandbox
from tests.caller import Caller

pytestmark = pytest.mark.usefixtures("every_slot_busy")


@pytest.fixture(scope="module")
def every_slot_busy(stack: Sandbox) -> Iterator[None]:
    """Jobs that hold every slot of the model service until the module's tests are done."""
    report = stack.report()
    with Caller(report["entry"], report["api_key"]) as caller:
        stalled = [caller.submit("[stall 300s]") for _ in range(int(stack.client().hget("slots", "model")))]
        try:
            for job in stalled:
                caller.reaches(job["id"], "running")
            yield
        finally:
            for job in stalled:
                caller.call("DELETE", f"/v1/jobs/{job['id']}")


@pytest.fixture
def line(caller: Caller) -> Iterator[list[dict[str, Any]]]:
    """Jobs in line; those put here are cancelled after the test."""
    jobs: list[dict[str, Any]] = []
    yield jobs
    for job in jobs:
        caller.call("DELETE", f"/v1/jobs/{job['id']}")


def traces(client: redis.Redis, job_id: str) -> set[str]:
    """Where the queue still knows a job."""
    sets = ("waiting:model", "woken:model", "backlog:model", "deadlines", "delayed", "leases")
    found = {name for name in sets if client.zscore(name, job_id) is not None}
    return found | {"the Celery queue" for message in client.lrange("model", 0, -1) if job_id.encode() in message}


def test_waiting_jobs_tell_their_place_in_line_and_when_to_look_again(
        caller: Caller, line: list[dict[str, Any]]) -> None:
    line += [caller.submit("hello") for _ in range(3)]

    assert [job["position"] for job in line] == [0, 1, 2]
    assert [caller.job(job["id"])["position"] for job in line] == [0, 1, 2]
    assert all(job["state"] == "queued" and job["eta_s"] > 0 for job in line)
    assert 1 <= int(caller.call("GET", f"/v1/jobs/{line[0]['id']}").headers["Retry-After"]) <= 30


def test_an_interactive_job_stands_before_a_standard_one_and_that_before_a_batch_job(
        caller: Caller, line: list[dict[str, Any]]) -> None:
    line += [caller.submit("hello", lane=lane) for lane in ("batch", "standard", "interactive")]

    assert [job["lane"] for job in line] == ["batch", "standard", "interactive"]
    assert [caller.job(job["id"])["position"] for job in line] == [2, 1, 0]


@pytest.mark.parametrize(("method", "path"), [("DELETE", ""), ("POST", "/cancel")])
def test_a_waiting_job_that_is_cancelled_is_gone_from_the_queue_and_never_starts(
        caller: Caller, stack: Sandbox, method: str, path: str) -> None:
    job, client = caller.submit("hello", deadline_s=60), stack.client()
    assert traces(client, job["id"]) == {"waiting:model", "woken:model", "deadlines", "the Celery queue"}

    cancelled = caller.call(method, f"/v1/jobs/{job['id']}{path}").json()

    assert (cancelled["state"], cancelled["attempt"], cancelled["started_at"]) == ("cancelled", 0, None)
    assert cancelled["error"]["code"] == "cancelled"
    assert traces(client, job["id"]) == set()
    assert caller.call("DELETE", f"/v1/jobs/{job['id']}").json() == cancelled


def test_those_behind_a_cancelled_job_move_up(caller: Caller, line: list[dict[str, Any]]) -> None:
    line += [caller.submit("hello") for _ in range(2)]

    caller.call("DELETE", f"/v1/jobs/{line[0]['id']}")

    assert caller.job(line[1]["id"])["position"] == 0


@pytest.mark.parametrize("deadline_s", [0.5, 1e-9])
def test_a_job_whose_deadline_passes_before_a_worker_is_free_has_expired(
        caller: Caller, stack: Sandbox, deadline_s: float) -> None:
    job = caller.submit("hello", deadline_s=deadline_s, headers={"Prefer": "wait=30"})

    assert (job["state"], job["attempt"], job["started_at"]) == ("expired", 0, None)
    assert job["error"] == {"code": "deadline-passed", "fault": "caller",
                            "detail": "the deadline passed before a worker was free"}
    assert job["finished_at"] >= job["created_at"]
    assert traces(stack.client(), job["id"]) == set()
    assert caller.call("DELETE", f"/v1/jobs/{job['id']}").json() == job


def test_a_caller_who_waits_for_a_waiting_job_is_shown_its_place_when_time_is_up(
        caller: Caller, line: list[dict[str, Any]]) -> None:
    answer = caller.call("POST", "/v1/jobs", json={"service": "model", "input": {"prompt": "hello"}},
                         headers={"Prefer": "wait=1"})
    line.append(answer.json())

    assert (answer.status_code, line[0]["state"], line[0]["position"]) == (202, "queued", 0)


def test_the_other_services_answer_meanwhile(caller: Caller) -> None:
    answer = caller.call("POST", "/v1/jobs", json={"service": "cache", "input": {"operation": "get", "key": "k"}},
                         headers={"Prefer": "wait=30"})

    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
