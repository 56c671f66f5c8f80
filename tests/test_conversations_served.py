"""Conversations on a whole stack: the gateways, the workers and the scripted engine together."""

from itertools import pairwise
from typing import Any

import pytest

from app.job import model_part
from ops.waiting import wait_until
from tests.caller import Caller


@pytest.fixture
def begun(caller: Caller) -> str:
    """A conversation of its own for a test."""
    return str(caller.call("POST", "/v1/conversations", json={}).json()["id"])


def ask(caller: Caller, name: str, content: str | None = "hello", route: str = "messages", *, wait_s: int = 30,
        **members: Any) -> dict[str, Any]:
    """Submit a turn; return its job, when it has ended if it does so in time."""
    body = members if content is None else {"content": content, **members}
    answer = caller.call("POST", f"/v1/conversations/{name}/{route}", json=body, headers={"Prefer": f"wait={wait_s}"})
    assert answer.status_code in (200, 202), answer.text
    return dict(answer.json())


def said(caller: Caller, name: str) -> list[str]:
    answer = caller.call("GET", f"/v1/conversations/{name}/messages?limit=100")
    assert answer.status_code == 200, answer.text
    return [message["content"] for message in answer.json()["data"]]


def test_turns_sent_at_once_are_answered_in_their_order_and_none_is_lost(caller: Caller, begun: str) -> None:
    jobs = [ask(caller, begun, f"[stall 50ms] {number}", wait_s=0, lane=lane)
            for number, lane in enumerate(["batch", "interactive", "standard", "interactive"])]
    ended = [caller.ended(job["id"]) for job in jobs]

    assert [job["state"] for job in ended] == ["succeeded"] * 4
    assert said(caller, begun)[1::2] == ["0", "1", "2", "3"]
    words = [job["usage"]["prompt_tokens"] for job in ended]
    assert words == sorted(words), "each was shown the ones before"
    assert all(before["finished_at"] <= after["started_at"] for before, after in pairwise(ended))


def test_an_answer_is_had_again_and_a_question_changed(caller: Caller, begun: str) -> None:
    first, again = ask(caller, begun, "one two"), ask(caller, begun, None, "regenerate")
    changed = ask(caller, begun, "three", "edit", lane="interactive")
    message = caller.call("GET", f"/v1/conversations/{begun}/messages").json()["data"][1]

    assert [job["result"]["text"] for job in (first, again, changed)] == ["one two", "one two", "three"]
    assert [job["usage"]["prompt_tokens"] for job in (first, again, changed)] == [2, 2, 1]
    assert said(caller, begun) == ["three", "three"]
    part = caller.job(changed["result"]["model_job"])
    assert (message["job_id"], message["server"], message["processor"], message["model"]) == (
        changed["id"], part["server"], part["processor"], "scripted")


def test_a_conversation_gets_a_title_of_its_first_question(caller: Caller, begun: str) -> None:
    ask(caller, begun, "why is the sky so very blue today")

    def titled() -> bool:
        return caller.call("GET", f"/v1/conversations/{begun}").json()["title"] is not None

    wait_until(titled, timeout_s=30, what="the title")
    assert caller.call("GET", f"/v1/conversations/{begun}").json()["title"] == "why is the sky so very"


def test_deleting_a_conversation_ends_what_runs_in_it(caller: Caller, begun: str) -> None:
    running = ask(caller, begun, "[stall 300s]", wait_s=0)
    waiting = ask(caller, begun, "two", wait_s=0)
    caller.reaches(running["id"], "running")

    assert caller.call("DELETE", f"/v1/conversations/{begun}").status_code == 204
    assert [caller.job(job["id"])["state"] for job in (running, waiting)] == ["cancelled"] * 2
    wait_until(lambda: caller.call("GET", f"/v1/jobs/{model_part(running['id'])}").json().get("state") != "running",
               timeout_s=30, what="the model to stop")
    assert caller.call("GET", f"/v1/conversations/{begun}/messages").status_code == 404


def test_a_turn_asked_twice_with_one_key_is_answered_once(caller: Caller, begun: str) -> None:
    answers = [caller.call("POST", f"/v1/conversations/{begun}/messages", json={"content": "once"},
                           headers={"Idempotency-Key": "k", "Prefer": "wait=30"}) for _ in range(2)]

    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true"]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert said(caller, begun) == ["once", "once"]


def test_what_was_answered_before_is_known_but_another_answer_is_made_anew(caller: Caller, begun: str) -> None:
    elsewhere = str(caller.call("POST", "/v1/conversations", json={}).json()["id"])
    jobs = [ask(caller, begun, f"about {begun}", temperature=0), ask(caller, elsewhere, f"about {begun}", temperature=0),
            ask(caller, elsewhere, None, "regenerate", temperature=0)]

    rules = [caller.job(job["result"]["model_job"])["decision"]["rule"] for job in jobs]
    assert [rule == "cached" for rule in rules] == [False, True, False]
