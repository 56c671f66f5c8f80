"""Deterministic requests through the whole stack: answered once, however many ask, at once or later."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller


@pytest.fixture
def other(stack: Sandbox) -> Any:
    """A caller of another tenant."""
    with Caller.fresh(stack) as one:
        yield one


def ask(caller: Caller, text: str, *, headers: dict[str, str] | None = None, **sampling: Any) -> dict[str, Any]:
    return caller.submit(input={"prompt": text, "temperature": 0, **sampling}, headers=headers)


def runs(stack: Sandbox, jobs: list[dict[str, Any]]) -> int:
    """How many of these jobs a worker has run: those that another's answer ended, or the cache, have said why."""
    read = stack.client()
    return sum(b"local-first" in (read.hget(f"job:{job['id']}", "decision") or b"") for job in jobs)


def asked_at_once(callers: list[Caller], text: str) -> list[dict[str, Any]]:
    """Have all ask the same at once, and return the jobs as they have ended."""
    with ThreadPoolExecutor(20) as pool:
        jobs = list(pool.map(lambda caller: ask(caller, text), callers))
    return [caller.ended(job["id"]) for caller, job in zip(callers, jobs, strict=True)]


def test_a_hundred_who_ask_the_same_at_once_cost_one_run(stack: Sandbox, stranger: Caller) -> None:
    jobs = asked_at_once([stranger] * 100, "[stall 1500ms] once for all")

    assert {job["state"] for job in jobs} == {"succeeded"}
    assert {job["result"]["text"] for job in jobs} == {"once for all"}
    assert len({job["id"] for job in jobs}) == 100
    assert runs(stack, jobs) == 1


def test_two_tenants_do_not_share(stack: Sandbox, stranger: Caller, other: Caller) -> None:
    jobs = asked_at_once([stranger, other] * 50, "[stall 1500ms] each its own")

    assert {job["result"]["text"] for job in jobs} == {"each its own"}
    assert (runs(stack, jobs[::2]), runs(stack, jobs[1::2])) == (1, 1)


def test_what_was_answered_is_known_and_events_tell_it_like_any_other(stack: Sandbox, stranger: Caller) -> None:
    first = stranger.ended(ask(stranger, "known later", max_tokens=9)["id"])

    def again() -> dict[str, Any]:
        return ask(stranger, "known later", max_tokens=9, headers={"Prefer": "wait=20"})

    second = wait_until(lambda: again() if again()["decision"]["rule"] == "cached" else None, timeout_s=10,
                        what="the answer to be kept")
    assert (second["state"], second["result"], second["usage"]) == ("succeeded", first["result"], first["usage"])
    assert second["id"] != first["id"]
    told = stranger.call("GET", f"/v1/jobs/{second['id']}/events").text
    assert [line for line in told.splitlines() if line.startswith("event")] == [
        "event: queued", "event: started", "event: token", "event: succeeded"]
    assert '"text":"known later"' in told


def test_who_wants_an_answer_of_his_own_says_so(stack: Sandbox, stranger: Caller) -> None:
    jobs = [stranger.ended(ask(stranger, "afresh", headers={"Cache-Control": "no-cache"})["id"]) for _ in range(3)]

    assert runs(stack, jobs) == 3


def test_what_is_drawn_at_random_is_never_shared(stack: Sandbox, stranger: Caller) -> None:
    jobs = [stranger.ended(stranger.submit("by chance")["id"]) for _ in range(3)]

    assert runs(stack, jobs) == 3


def test_warming_answers_what_is_not_known_in_the_batch_lane(stack: Sandbox, stranger: Caller) -> None:
    requests = [{"prompt": f"warm {number}", "temperature": 0} for number in range(3)] + [{"prompt": "random"}]
    body = {"service": "cache", "input": {"operation": "warm", "requests": requests}}
    done = stranger.call("POST", "/v1/jobs", json=body, headers={"Prefer": "wait=20"}).json()
    assert done["result"] == {"submitted": 3, "known": 0, "unfit": 1}

    def known() -> bool:
        again = stranger.call("POST", "/v1/jobs", json=body, headers={"Prefer": "wait=20"}).json()
        return bool(again["result"]["known"] == 3)

    wait_until(known, timeout_s=20, what="the requests to be answered")
    assert ask(stranger, "warm 1", headers={"Prefer": "wait=20"})["decision"]["rule"] == "cached"


def test_a_follower_is_cancelled_alone_and_the_others_outlive_a_cancelled_leader(stack: Sandbox, stranger: Caller) -> None:
    leader, second, third = (ask(stranger, "[stall 2s] shared fate") for _ in range(3))
    stranger.reaches(leader["id"], "running")
    assert stranger.call("DELETE", f"/v1/jobs/{third['id']}").json()["state"] == "cancelled"
    assert stranger.job(leader["id"])["state"] == "running"
    assert stranger.call("DELETE", f"/v1/jobs/{leader['id']}").json()["state"] == "cancelled"

    assert stranger.ended(second["id"])["result"]["text"] == "shared fate"
