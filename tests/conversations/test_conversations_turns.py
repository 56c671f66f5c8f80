"""What is said in a conversation: turns, other answers to them, and what a worker that was lost leaves of them."""

from typing import Any

import msgspec
import pytest
import redis

from app.api.openapi.conversations import ConversationObject, ConversationPage, MessagePage
from app.job import State
from app.ledger import Settled, new_owner
from tests.gateway import Gateway
from tests.talk import PLACE, Worker, ask, begin, messages, said
from workers.tasks import chat


def test_turns_are_answered_in_order_and_told_with_who_answered(gateway: Gateway, begun: str, worker: Worker) -> None:
    first, second = ask(gateway, begun, "one"), ask(gateway, begun, "two", lane="interactive")
    too_early = worker.ledger.claim(second, PLACE, owner=new_owner())
    worker.run(first, "uno")
    worker.run(second, "due", reasoning_content="hm")
    one, _, _, answer = messages(gateway, begun)
    whole = gateway.call("GET", f"/v1/conversations/{begun}").json

    assert too_early is State.QUEUED
    assert said(gateway, begun) == [("user", "one"), ("assistant", "uno"), ("user", "two"), ("assistant", "due")]
    assert (answer["job_id"], answer["reasoning_content"], answer["model"]) == (second, "hm", "m")
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 2}
    assert (one["usage"], one["model"], one["job_id"]) == (None, None, first)
    assert (whole["turns"], whole["usage"]) == (2, {"prompt_tokens": 6, "completion_tokens": 4})


def test_answers_tell_why_they_ended_where_it_was_kept(
        gateway: Gateway, begun: str, worker: Worker, client: redis.Redis) -> None:
    worker.run(ask(gateway, begun, "one"))
    worker.run(ask(gateway, begun, "two"), finish_reason="length")
    told = [message["finish_reason"] for message in messages(gateway, begun)]
    (key,) = client.scan_iter("turns:*")
    older = msgspec.json.decode(client.lindex(key, 1))
    kept = older.pop("finish_reason")
    client.lset(key, 1, msgspec.json.encode(older))

    assert (told, kept) == ([None, "stop", None, "length"], "length")
    assert [message["finish_reason"] for message in messages(gateway, begun)] == [None, "stop", None, None]


def test_the_model_is_shown_the_system_prompt_and_what_stands(
        gateway: Gateway, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    real = chat.through_the_model
    monkeypatch.setattr(chat, "through_the_model", lambda attempt, request, **more: (
        shown.append([message.content for message in request.messages]), real(attempt, request, **more))[1])
    name = begin(gateway, system="be brief")
    for job_id, answer in ((ask(gateway, name, "one"), "uno"), (ask(gateway, name, "two"), "due"),
                           (ask(gateway, name, None, "regenerate"), "zwei"), (ask(gateway, name, "three", "edit"), "tre")):
        assert worker.run(job_id, answer).state is State.SUCCEEDED

    assert shown == [["be brief", "one"], *[["be brief", "one", "uno", "two"]] * 2, ["be brief", "one", "uno", "three"]]
    assert said(gateway, name) == [("user", "one"), ("assistant", "uno"), ("user", "three"), ("assistant", "tre")]
    assert gateway.call("GET", f"/v1/conversations/{name}").json["turns"] == 2


def test_a_turn_that_waits_is_told_without_an_answer_in_the_place_it_will_have(
        gateway: Gateway, begun: str, worker: Worker) -> None:
    worker.run(ask(gateway, begun, "one"), "uno")
    again = ask(gateway, begun, None, "regenerate")
    (waiting,) = messages(gateway, begun)
    ask(gateway, begun, "two")

    assert (waiting["content"], waiting["job_id"]) == ("one", again)
    assert said(gateway, begun) == [("user", "one"), ("user", "two")]
    gateway.call("DELETE", f"/v1/jobs/{again}")
    assert said(gateway, begun) == [("user", "one"), ("assistant", "uno"), ("user", "two")]


@pytest.mark.parametrize(("route", "content"), [("regenerate", None), ("edit", "hello")])
def test_where_nothing_was_said_there_is_nothing_to_replace(
        gateway: Gateway, begun: str, worker: Worker, route: str, content: str | None) -> None:
    body = {"content": content} if content else {}
    refused = gateway.call("POST", f"/v1/conversations/{begun}/{route}", json=body)
    turn = ask(gateway, begun, "one")
    replacing = ask(gateway, begun, content, route)  # there is something to wait for
    gateway.call("DELETE", f"/v1/jobs/{turn}")
    failed = worker.run(replacing)

    assert (refused.status_code, refused.json["code"]) == (409, "conflict")
    assert (failed.state, msgspec.json.decode(failed.error)["code"]) == (State.FAILED, "conflict")


def test_messages_come_in_pages(gateway: Gateway, begun: str, worker: Worker) -> None:
    for number in range(3):
        worker.run(ask(gateway, begun, str(number)))
    path, found, cursor = f"/v1/conversations/{begun}/messages?limit=4", [], ""
    while cursor is not None:
        page = gateway.call("GET", f"{path}&cursor={cursor}").json
        found.append([message["content"] for message in page["data"]])
        cursor = page["next_cursor"]

    assert found == [["0", "well", "1", "well"], ["2", "well"]]


def test_the_same_key_gives_the_same_turn_and_another_body_is_refused(gateway: Gateway, begun: str) -> None:
    def send(route: str, **body: str) -> Any:
        return gateway.call("POST", f"/v1/conversations/{begun}/{route}", json=body, headers={"Idempotency-Key": "k"})

    first, again, other = (send("messages", content=content) for content in "aab")
    elsewhere = send("edit", content="a")

    assert (first.status_code, again.headers["Idempotency-Replayed"]) == (202, "true")
    assert again.json["id"] == first.json["id"]
    assert [answer.status_code for answer in (other, elsewhere)] == [422, 422]
    assert said(gateway, begun) == [("user", "a")]


def test_a_turn_of_an_attempt_that_was_lost_is_not_kept_twice(
        gateway: Gateway, begun: str, worker: Worker, client: redis.Redis) -> None:
    job_id = ask(gateway, begun, "one")
    lost, outcome = worker.work(job_id, "uno")
    worker.ledger.now_ms = lost.created_ms + 3_600_000
    worker.ledger.reap()
    worker.ledger.now_ms += 3_600_000
    claim, again = worker.work(job_id, "not asked a second time")

    assert worker.settle(claim, again) is Settled.RECORDED
    assert worker.settle(claim, again) is Settled.AGAIN
    assert worker.settle(lost, outcome) is Settled.STALE
    assert said(gateway, begun) == [("user", "one"), ("assistant", "uno")]


def test_what_only_routes_may_ask_for_cannot_be_submitted_as_a_job(gateway: Gateway) -> None:
    for members in ({"replaces": "x"}, {"mode": "edit"}):
        body = {"service": "chat", "input": {"conversation": "c", "message": "hello", **members}}
        assert gateway.call("POST", "/v1/jobs", json=body).status_code == 422

    assert gateway.call("GET", "/v1/conversations").json["data"] == []


def test_a_job_begins_the_conversation_that_it_names(gateway: Gateway, worker: Worker) -> None:
    body = {"service": "chat", "input": {"conversation": "c", "message": "one"}}
    worker.run(gateway.call("POST", "/v1/jobs", json=body).json["id"], "uno")

    assert [each["id"] for each in gateway.call("GET", "/v1/conversations").json["data"]] == ["c"]
    assert said(gateway, "c") == [("user", "one"), ("assistant", "uno")]


def test_answers_are_as_the_document_says(gateway: Gateway, begun: str, worker: Worker) -> None:
    worker.run(ask(gateway, begun, "one"))
    ask(gateway, begun, "two")

    for path, kind in (("", ConversationPage), (f"/{begun}", ConversationObject), (f"/{begun}/messages", MessagePage)):
        told = gateway.call("GET", f"/v1/conversations{path}").json
        assert msgspec.to_builtins(msgspec.convert(told, kind)) == told
