"""Waiting for a job instead of polling: `Prefer: wait=N` on a submit, `?wait=N` on a read."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from ops.sandbox import Sandbox
from tests.caller import Caller

HELLO = {"service": "model", "input": {"prompt": "hello"}}
UNENDING = {"service": "model", "input": {"prompt": "[stall 300s]"}}
UNKNOWN = "01990000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def unending(stack: Sandbox) -> Iterator[dict[str, Any]]:
    """A job that runs as long as the module's tests do."""
    report = stack.report()
    with Caller(report["entry"], report["api_key"]) as caller:
        job = caller.submit(UNENDING["input"]["prompt"])  # type: ignore[index]
        try:
            yield caller.reaches(job["id"], "running")
        finally:
            caller.call("DELETE", f"/v1/jobs/{job['id']}")


def submit(caller: Caller, body: Any, prefer: str) -> requests.Response:
    return caller.call("POST", "/v1/jobs", json=body, headers={"Prefer": prefer})


# -- Prefer: wait


@pytest.mark.parametrize("prefer", [
    "wait=30", 'wait="30"', "WAIT = 30", "respond-async, wait=30", "wait=30, respond-async", "wait=30;reason=x"])
def test_a_submit_that_prefers_to_wait_is_answered_with_the_result(caller: Caller, prefer: str) -> None:
    answer = submit(caller, HELLO, prefer)

    assert answer.status_code == 200
    job = answer.json()
    assert (job["state"], job["result"]["text"]) == ("succeeded", "hello")
    assert answer.headers["Preference-Applied"] == "wait=30"
    assert answer.headers["Vary"] == "Prefer"
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert "Retry-After" not in answer.headers
    assert caller.job(job["id"]) == job


def test_when_the_time_passes_first_the_answer_is_202_with_the_job_as_it_stands(
        caller: Caller, unending: dict[str, Any]) -> None:
    began = time.monotonic()
    answer = submit(caller, UNENDING, "wait=1")
    took_s = time.monotonic() - began
    job = answer.json()
    caller.call("DELETE", f"/v1/jobs/{job['id']}")

    assert answer.status_code == 202
    assert job["state"] in ("queued", "running")
    assert 1 <= took_s < 10
    assert answer.headers["Preference-Applied"] == "wait=1"
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("prefer", [
    "wait=0", "wait=", "wait", "wait=abc", "wait=-1", "wait=1.5", "wait=30s", "await=30", "x-wait=30", "respond-async", "",
    "=;,"])
def test_a_preference_that_is_none_is_ignored(caller: Caller, prefer: str) -> None:
    answer = submit(caller, HELLO, prefer)

    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers
    caller.ended(answer.json()["id"])


def test_nobody_waits_longer_than_the_setting_allows(caller: Caller) -> None:
    answer = submit(caller, HELLO, "wait=999999999")

    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == "wait=60"


def test_a_job_that_failed_while_its_caller_waited_is_answered_like_any_that_ended(caller: Caller) -> None:
    answer = submit(caller, {"service": "model", "input": {"prompt": "[error permanent]"}}, "wait=30")

    assert (answer.status_code, answer.json()["state"]) == (200, "failed")


# -- ?wait


@pytest.mark.parametrize("how", [{"params": {"wait": "30"}}, {"headers": {"Prefer": "wait=30"}}])
def test_a_read_that_waits_is_answered_as_soon_as_the_job_has_ended(caller: Caller, how: dict[str, Any]) -> None:
    job = caller.submit("[stall 300ms] hello")

    began = time.monotonic()
    answer = caller.call("GET", f"/v1/jobs/{job['id']}", **how)

    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    assert time.monotonic() - began < 10, "it waited for its time to pass, not for the job"


def test_a_read_says_whether_it_followed_the_callers_preference(caller: Caller) -> None:
    path = f"/v1/jobs/{caller.ended(caller.submit('hello')['id'])['id']}"
    preferred, plain = (caller.call("GET", path, headers=headers).headers for headers in ({"Prefer": "wait=5"}, {}))

    assert (preferred["Preference-Applied"], preferred["Vary"]) == ("wait=5", "Prefer")
    assert "Preference-Applied" not in plain
    assert plain["Vary"] == "Prefer"


def test_a_read_that_waited_in_vain_shows_the_job_as_it_stands(caller: Caller, unending: dict[str, Any]) -> None:
    began = time.monotonic()
    answer = caller.call("GET", f"/v1/jobs/{unending['id']}?wait=0.5")
    took_s = time.monotonic() - began

    assert (answer.status_code, answer.json()) == (200, unending)
    assert 0.5 <= took_s < 10
    assert answer.headers["Retry-After"] == "1"


def test_a_read_that_waits_for_an_ended_job_is_answered_at_once(caller: Caller) -> None:
    job = caller.ended(caller.submit("hello")["id"])

    began = time.monotonic()
    assert caller.call("GET", f"/v1/jobs/{job['id']}?wait=60").json() == job
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("wait", ["-1", "61", "1e9", "abc", "nan", "inf", "-inf", "", "1 2"])
def test_a_read_that_waits_for_no_possible_time_is_refused(
        caller: Caller, unending: dict[str, Any], wait: str) -> None:
    answer = caller.call("GET", f"/v1/jobs/{unending['id']}", params={"wait": wait})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input")
    assert answer.json()["detail"] == f"wait must be 0 to 60 seconds; got '{wait}'"


def test_waiting_for_a_job_nobody_knows_is_refused_at_once(caller: Caller) -> None:
    assert caller.call("GET", f"/v1/jobs/{UNKNOWN}?wait=60").status_code == 404


def test_all_who_wait_for_a_job_learn_of_its_end_at_both_gateways(caller: Caller, stack: Sandbox) -> None:
    report = stack.report()
    job = caller.submit("[stall 1s] hello")

    def wait_for(address: str) -> requests.Response:
        with Caller(address, report["api_key"]) as one:
            return one.call("GET", f"/v1/jobs/{job['id']}?wait=30")

    with ThreadPoolExecutor(16) as crowd:
        answers = list(crowd.map(wait_for, [*report["gateways"].values()] * 8))

    assert [answer.json() for answer in answers] == [caller.job(job["id"])] * 16
    assert answers[0].json()["state"] == "succeeded"
    assert max(answer.elapsed.total_seconds() for answer in answers) < 10


def test_one_who_waits_for_a_job_learns_at_once_that_it_was_cancelled(caller: Caller, stack: Sandbox) -> None:
    report = stack.report()
    job = caller.submit("[stall 300s]")
    try:
        caller.reaches(job["id"], "running")
        with Caller(report["entry"], report["api_key"]) as other, ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(other.call, "GET", f"/v1/jobs/{job['id']}?wait=60")
            caller.call("POST", f"/v1/jobs/{job['id']}/cancel")
            answer = waiting.result(timeout=30)
    finally:
        caller.call("DELETE", f"/v1/jobs/{job['id']}")

    assert answer.json()["state"] == "cancelled"
    assert answer.elapsed.total_seconds() < 10
