"""Conversations over HTTP: made, listed, changed and deleted; each tenant's are its own."""

from typing import Any

import msgspec
import pytest
import redis

from app.conversations import Conversations, turns_key
from app.job import State
from app.ledger import Settled
from tests.gateway import Gateway
from tests.talk import Worker, ask, begin


def test_a_conversation_is_made_read_changed_and_deleted(gateway: Gateway) -> None:
    made = gateway.call("POST", "/v1/conversations", json={"title": "Trees", "system": "be brief"})
    place = made.headers["Location"]
    changed = gateway.call("PATCH", place, json={"title": "Birds"})

    assert made.json == gateway.call("GET", f"/v1/conversations/{made.json['id']}").json | {"title": "Trees"}
    assert (made.json["system"], made.json["turns"]) == ("be brief", 0)
    assert made.json["usage"] == {"prompt_tokens": 0, "completion_tokens": 0}
    assert (changed.json["title"], changed.json["system"]) == ("Birds", "be brief")
    assert gateway.call("DELETE", place).status_code == 204
    assert [gateway.call(method, place).status_code for method in ("GET", "DELETE")] == [404, 404]


@pytest.mark.parametrize(("body", "pointer"), [
    ({"title": "x" * 201}, "/title"), ({"system": "x" * 40_000}, "/system"), ({"titel": "x"}, "/titel")])
def test_a_conversation_with_a_wrong_member_is_refused(gateway: Gateway, body: dict[str, str], pointer: str) -> None:
    refused = gateway.call("POST", "/v1/conversations", json=body)

    assert (refused.status_code, refused.json["pointer"]) == (422, pointer)
    assert gateway.call("GET", "/v1/conversations").json == {"data": [], "next_cursor": None}


def test_conversations_come_in_pages_the_last_used_first(gateway: Gateway, client: redis.Redis) -> None:
    names = [begin(gateway) for _ in range(5)]
    client.zadd(f"conversations:{gateway.account.id}", dict.fromkeys(names, 7))  # at once: names then decide
    ask(gateway, names[2])
    pages, cursor = [], ""
    while cursor is not None:
        page = gateway.call("GET", f"/v1/conversations?limit=2&cursor={cursor}").json
        pages.append([each["id"] for each in page["data"]])
        cursor = page["next_cursor"]

    assert [len(page) for page in pages] == [2, 2, 1]
    assert [name for page in pages for name in page] == [names[2], *sorted(set(names) - {names[2]}, reverse=True)]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=x", "cursor=1", "cursor=-1:a"])
@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/conversations/{}/messages"])
def test_a_limit_or_cursor_that_is_none_is_refused(gateway: Gateway, begun: str, path: str, query: str) -> None:
    good = (path.endswith("messages"), query) == (True, "cursor=1")

    assert gateway.call("GET", f"{path.format(begun)}?{query}").status_code == (200 if good else 422)


@pytest.mark.parametrize(("method", "path", "body"), [
    ("GET", "", None), ("PATCH", "", {"title": "mine"}), ("DELETE", "", None), ("GET", "/messages", None),
    ("POST", "/messages", {"content": "hello"}), ("POST", "/regenerate", {}), ("POST", "/edit", {"content": "hello"})])
def test_the_conversation_of_another_is_unknown_on_every_route(
        gateway: Gateway, begun: str, client: redis.Redis, method: str, path: str, body: Any) -> None:
    stranger = gateway.another("stranger")
    options = {} if body is None else {"json": body}

    assert stranger.call(method, f"/v1/conversations/{begun}{path}", **options).status_code == 404
    assert stranger.call(method, f"/v1/conversations/unheard-of{path}", **options).status_code == 404
    assert client.exists(f"jobs:{stranger.account.id}") == 0
    assert gateway.call("GET", f"/v1/conversations/{begun}").json["title"] is None


# -- deleting


def test_deleting_cancels_what_runs_and_waits_and_a_late_answer_brings_nothing_back(
        gateway: Gateway, begun: str, worker: Worker, client: redis.Redis) -> None:
    worker.run(ask(gateway, begun, "zero"))
    running, waiting = ask(gateway, begun, "one"), ask(gateway, begun, "two")
    claim, outcome = worker.work(running)

    deleted = gateway.call("DELETE", f"/v1/conversations/{begun}")

    assert deleted.status_code == 204
    assert worker.settle(claim, outcome) is Settled.STALE
    assert {worker.ledger.read(job_id).state for job_id in (running, waiting)} == {State.CANCELLED}
    assert [key for key in client.scan_iter() if key.startswith((b"turns:", b"conversation"))] == []


def test_a_turn_accepted_while_its_conversation_is_deleted_fails_and_says_why(
        gateway: Gateway, begun: str, worker: Worker, client: redis.Redis) -> None:
    conversations = Conversations(client)
    turn, conversation = ask(gateway, begun, "one"), conversations.find(gateway.account.id, begun)
    assert conversation
    conversations.forget(gateway.account.id, conversation)
    failed = worker.run(turn)

    assert failed.state is State.FAILED
    assert msgspec.json.decode(failed.error) | {"detail": ""} == {
        "code": "conversation-deleted", "detail": "", "fault": "caller"}


def test_a_job_asked_for_again_after_its_conversation_was_deleted_does_not_bring_it_back(gateway: Gateway) -> None:
    def send() -> Any:
        body = {"service": "chat", "input": {"conversation": "c", "message": "one"}}
        return gateway.call("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": "k"})

    first = send()
    gateway.call("DELETE", "/v1/conversations/c")
    again = send()

    assert (again.json["id"], again.json["state"]) == (first.json["id"], "cancelled")
    assert gateway.call("GET", "/v1/conversations").json["data"] == []


def test_a_new_conversation_of_the_same_name_has_nothing_of_the_one_before(
        gateway: Gateway, worker: Worker, client: redis.Redis) -> None:
    conversations = Conversations(client)
    uids = []
    for _ in range(2):
        uids.append(conversations.begin(gateway.account.id, "c"))
        worker.run(ask(gateway, "c", "one"))
        assert client.llen(turns_key(uids[-1])) == 1
        gateway.call("DELETE", "/v1/conversations/c")

    assert uids[0] != uids[1]
