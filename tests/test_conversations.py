"""Conversations over HTTP and what the chat service's worker does with them, with no process but the test's and Redis."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import redis

from app.announcements import Announcements
from app.answers import Answers
from app.conversations import Conversations, turns_key
from app.job import NewJob, Service, State, model_part
from app.ledger import Claim, Ending, Ledger, Place, Settled, new_owner
from app.model_names import ModelNames
from app.response_cache import ResponseCache
from app.settings import Settings
from tests.gateway import Gateway
from workers import resources
from workers.attempt import Attempt, call, ending, verdict
from workers.tasks import CODES, chat, chat_title
from workers.tasks.chat_title import shortened

PLACE = Place(worker="w", server="server-1", processor="P3")

assert {chat, chat_title}, "the tasks are registered"


@pytest.fixture
def gateway(client: redis.Redis, settings: Settings) -> Gateway:
    return Gateway(settings, client)


@pytest.fixture
def begun(gateway: Gateway) -> str:
    """A conversation."""
    return begin(gateway)


@pytest.fixture
def worker(client: redis.Redis, settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator["Worker"]:
    """A worker of the chat service; what the model says is in the test's hands."""
    announcements, cache = Announcements(settings), ResponseCache(settings, client)
    monkeypatch.setattr(resources, "_held", resources.Resources(
        client=client, accounts=None, announcements=announcements, cache=cache,  # type: ignore[arg-type]
        answers=Answers(cache, ModelNames(client, settings), settings)))
    yield Worker(ledger, settings)
    announcements.stop()


class Worker:
    """Runs jobs of the chat service one by one, and has the model's part of each answered before."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self.ledger, self.settings = ledger, settings

    def run(self, job_id: str, said: str = "well", **result: Any) -> Any:
        """Run a job; return the job as it is then."""
        claim, outcome = self.work(job_id, said, **result)
        self.settle(claim, outcome)
        return self.ledger.read(job_id)

    def work(self, job_id: str, said: str = "well", **result: Any) -> tuple[Claim, Any]:
        """Claim a job and do its work, all but to settle it."""
        claim = self.ledger.claim(job_id, PLACE, owner=new_owner())
        assert isinstance(claim, Claim), claim
        self.ledger.submit(NewJob(id=model_part(job_id), service=Service.MODEL, task="model.generate", tenant=claim.tenant,
                                  input=b"{}", parent=job_id), answer=Ending(
            result=msgspec.json.encode({"text": said, "finish_reason": "stop", "model": "m", **result}),
            usage=b'{"prompt_tokens":3,"completion_tokens":2,"cached_tokens":0}'))
        node: Any = SimpleNamespace(ledger=self.ledger, settings=self.settings, wake_when_lost=lambda *_: None)
        return claim, call(CODES[claim.task], Attempt(claim, node, lambda: False))

    def settle(self, claim: Claim, outcome: Any) -> Settled:
        """Settle as a worker does."""
        judged = verdict(outcome, errors_before=0, settings=self.settings)
        assert judged.state is not None
        return self.ledger.settle(claim, judged.state, ending(outcome, judged.error))


def begin(gateway: Gateway, **members: str) -> str:
    answer = gateway.call("POST", "/v1/conversations", json=members)
    assert answer.status_code == 201, answer.text
    return str(answer.json["id"])


def ask(gateway: Gateway, name: str, content: str | None = "hello", route: str = "messages", **members: Any) -> str:
    """Submit a turn and return its job's id."""
    body = {"content": content, **members} if content is not None else members
    answer = gateway.call("POST", f"/v1/conversations/{name}/{route}", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json["id"])


def messages(gateway: Gateway, name: str) -> list[dict[str, Any]]:
    answer = gateway.call("GET", f"/v1/conversations/{name}/messages?limit=100")
    assert answer.status_code == 200, answer.text
    return list(answer.json["data"])


def said(gateway: Gateway, name: str) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages(gateway, name)]


# -- conversations


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


# -- turns


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


# -- titles


def title_job(client: redis.Redis, job_id: str) -> str | None:
    """The job that makes a title after this one."""
    of = [key.decode().partition(":")[2] for key in client.scan_iter("job:*") if client.hget(key, "task") == b"chat.title"
          and client.hget(key, "parent") == job_id.encode()]
    return of[0] if of else None


def test_the_first_answer_has_a_title_made_that_is_no_job_of_the_caller(
        gateway: Gateway, begun: str, worker: Worker, client: redis.Redis) -> None:
    first = ask(gateway, begun, "why is the sky blue")
    worker.run(first)
    second = ask(gateway, begun, "and the sea?")
    worker.run(second)
    job_id = title_job(client, first)
    assert job_id
    made = worker.run(job_id, '"The blue sky"\n\nI hope you like it')

    assert made.lane == "batch"
    assert gateway.call("GET", f"/v1/conversations/{begun}").json["title"] == "The blue sky"
    assert title_job(client, second) is None
    assert {job["id"] for job in gateway.call("GET", "/v1/jobs").json["data"]} == {first, second}


def test_a_title_given_in_the_meantime_stays_and_a_new_conversation_of_the_name_gets_no_old_title(
        gateway: Gateway, worker: Worker, client: redis.Redis) -> None:
    titles = []
    for name in ("renamed", "begun-anew"):
        body = {"service": "chat", "input": {"conversation": name, "message": "one"}}
        job_id = gateway.call("POST", "/v1/jobs", json=body).json["id"]
        worker.run(job_id)
        titles.append(title_job(client, job_id))
    gateway.call("PATCH", "/v1/conversations/renamed", json={"title": "Mine"})
    gateway.call("DELETE", "/v1/conversations/begun-anew")
    gateway.call("POST", "/v1/jobs", json=body)

    results = [msgspec.json.decode(worker.run(job_id, "Theirs").result) for job_id in titles if job_id]

    assert results == [{"title": "Theirs", "given": False}] * 2
    found = {each["id"]: each["title"] for each in gateway.call("GET", "/v1/conversations").json["data"]}
    assert found == {"renamed": "Mine", "begun-anew": None}


def test_titles_can_be_turned_off_and_a_titled_conversation_gets_none(
        gateway: Gateway, begun: str, worker: Worker, client: redis.Redis) -> None:
    titled = ask(gateway, begin(gateway, title="Mine"))
    worker.run(titled)
    worker.settings = Settings(titles=False)
    unwanted = ask(gateway, begun)
    worker.run(unwanted)

    assert (title_job(client, titled), title_job(client, unwanted)) == (None, None)


@pytest.mark.parametrize(("text", "title"), [
    ("Blue skies", "Blue skies"), ('"Blue skies."', "Blue skies"), ("**Title: Blue skies**\nmore", "Blue skies"),
    ("\n\n# one two three four five six seven", "one two three four five six"), ("", ""), ("  \n ", ""),
    ("x" * 300, "x" * 80)])
def test_a_title_is_the_first_line_without_what_is_around_it(text: str, title: str) -> None:
    assert shortened(text) == title


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
