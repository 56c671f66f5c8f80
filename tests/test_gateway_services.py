"""What each service does with what it is given, over HTTP; every tenant's data is its own."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller


@pytest.fixture
def name() -> str:
    """A name for a conversation, a key or a topic, used by no other test."""
    return f"n-{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def neighbour(stack: Sandbox) -> Iterator[Caller]:
    """A caller with another account."""
    with Caller.fresh(stack) as one:
        yield one


def job(caller: Caller, service: str, **members: Any) -> dict[str, Any]:
    """Submit a job with this input and return it when it has ended."""
    answer = caller.call("POST", "/v1/jobs", json={"service": service, "input": members}, headers={"Prefer": "wait=30"})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def result(caller: Caller, service: str, **members: Any) -> Any:
    """Submit a job with this input and return its result."""
    ended = job(caller, service, **members)
    assert ended["state"] == "succeeded", ended["error"]
    return ended["result"]


# -- model


@pytest.mark.parametrize(("members", "text", "finish_reason"), [
    ({"prompt": "one two three"}, "one two three", "stop"),
    ({"prompt": "one two three", "max_tokens": 2}, "one two", "length"),
    ({"prompt": "one two three", "stop": "two"}, "one ", "stop"),
    ({"prompt": "one two three", "stop": ["three", " two"]}, "one", "stop"),
    ({"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi you"}]}, "hi you", "stop")])
def test_the_model_answers_a_prompt_or_messages_within_the_limits_given(
        caller: Caller, members: dict[str, Any], text: str, finish_reason: str) -> None:
    assert result(caller, "model", **members) == {"text": text, "finish_reason": finish_reason, "model": "scripted"}


def test_text_in_any_script_comes_back_unchanged(caller: Caller) -> None:
    text = "naïve 深度求索 🐋 \\u0000 a\u0000b"

    assert result(caller, "model", prompt=text)["text"] == text


# -- chat


def test_a_second_turn_is_answered_with_the_first_before_it(caller: Caller, name: str) -> None:
    first = job(caller, "chat", conversation=name, message="one two")
    second = job(caller, "chat", conversation=name, message="three")

    assert first["result"]["text"] == "one two"
    assert first["usage"]["prompt_tokens"] == 2
    assert second["result"]["text"] == "three"
    assert second["usage"]["prompt_tokens"] == 2 + 2 + 1, "the turn, its answer, the new turn"


def test_an_answer_names_its_conversation_and_the_models_job_which_can_be_read(caller: Caller, name: str) -> None:
    answer = job(caller, "chat", conversation=name, message="hello there")

    assert answer["result"]["conversation"] == name
    part = caller.job(answer["result"]["model_job"])
    assert (part["service"], part["state"], part["usage"]) == ("model", "succeeded", answer["usage"])


def test_a_turn_that_failed_leaves_no_trace_in_its_conversation(caller: Caller, name: str) -> None:
    failed = job(caller, "chat", conversation=name, message="[error permanent] lost words")

    assert (failed["state"], failed["error"]["code"]) == ("failed", "engine-failed")
    assert job(caller, "chat", conversation=name, message="hello")["usage"]["prompt_tokens"] == 1


def test_conversations_of_one_name_are_apart_for_different_tenants(
        caller: Caller, neighbour: Caller, name: str) -> None:
    job(caller, "chat", conversation=name, message="a long secret of mine")

    assert job(neighbour, "chat", conversation=name, message="hello")["usage"]["prompt_tokens"] == 1


# -- cache


@pytest.mark.parametrize("value", [
    None, False, 0, "", "text", {"a": [1, {"b": None}]}, 1.5, 2**63, "深\u0000", [[]] * 3], ids=repr)
def test_a_cached_value_comes_back_as_it_was_put(caller: Caller, name: str, value: Any) -> None:
    stored = result(caller, "cache", operation="put", key=name, value=value, ttl_s=60)
    found = result(caller, "cache", operation="get", key=name)

    assert stored["stored"] is True
    assert (found["found"], found["value"]) == (True, value)
    assert 0 < found["ttl_s"] <= 60


def test_a_cached_value_can_be_replaced_and_deleted(caller: Caller, name: str) -> None:
    for value in (1, 2):
        result(caller, "cache", operation="put", key=name, value=value)

    assert result(caller, "cache", operation="get", key=name)["value"] == 2
    assert result(caller, "cache", operation="delete", key=name) == {"deleted": True}
    assert result(caller, "cache", operation="delete", key=name) == {"deleted": False}
    assert result(caller, "cache", operation="get", key=name) == {"found": False, "value": None, "ttl_s": None}


def test_a_cached_value_is_gone_when_its_time_is_up(caller: Caller, name: str) -> None:
    result(caller, "cache", operation="put", key=name, value=1, ttl_s=1)

    wait_until(lambda: not result(caller, "cache", operation="get", key=name)["found"], timeout_s=20,
               what="the value to be forgotten")


def test_a_cached_value_is_found_by_its_tenant_only(caller: Caller, neighbour: Caller, name: str) -> None:
    result(caller, "cache", operation="put", key=name, value="mine")

    assert result(neighbour, "cache", operation="get", key=name)["found"] is False
    assert result(neighbour, "cache", operation="delete", key=name) == {"deleted": False}
    result(neighbour, "cache", operation="put", key=name, value="theirs")
    assert result(caller, "cache", operation="get", key=name)["value"] == "mine"


def test_answers_that_are_kept_are_forgotten_for_their_owner_who_has_the_model_asked_anew(
        caller: Caller, neighbour: Caller, name: str) -> None:
    def rule(who: Caller) -> str:
        return str(job(who, "model", prompt=name, temperature=0)["decision"]["rule"])

    for who in (caller, neighbour):
        wait_until(lambda who=who: rule(who) == "cached", timeout_s=20, what="the answer to be known")

    assert result(caller, "cache", operation="invalidate") == {"invalidated": True}
    assert rule(neighbour) == "cached"
    assert rule(caller) != "cached"


# -- queue


def test_messages_are_read_in_order_and_in_pages_each_once(caller: Caller, name: str) -> None:
    sent = [{"number": 1}, "two", None]
    ids = [result(caller, "queue", operation="publish", topic=name, message=message)["id"] for message in sent]

    first = result(caller, "queue", operation="read", topic=name, limit=2)
    rest = result(caller, "queue", operation="read", topic=name, after=first["next"])
    nothing = result(caller, "queue", operation="read", topic=name, after=rest["next"])

    assert [each["message"] for each in first["messages"] + rest["messages"]] == sent
    assert [each["id"] for each in first["messages"] + rest["messages"]] == ids
    assert len(first["messages"]) == 2
    assert nothing == {"messages": [], "next": ids[-1]}
    result(caller, "queue", operation="publish", topic=name, message="four")
    assert result(caller, "queue", operation="read", topic=name, after=nothing["next"])["messages"][0]["message"] == "four"


def test_a_topic_nobody_wrote_to_is_empty(caller: Caller, name: str) -> None:
    assert result(caller, "queue", operation="read", topic=name) == {"messages": [], "next": "0-0"}


def test_topics_of_one_name_are_apart_for_different_tenants(caller: Caller, neighbour: Caller, name: str) -> None:
    result(caller, "queue", operation="publish", topic=name, message="mine")

    assert result(neighbour, "queue", operation="read", topic=name)["messages"] == []
