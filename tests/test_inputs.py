"""What callers may send: any bytes are either read or refused by a class of ours, with a pointer to the member at fault."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.errors import CallerError, Forbidden, InvalidInput
from app.inputs import (
    INPUTS,
    CacheDelete,
    CacheGet,
    CacheInvalidate,
    CachePut,
    CacheWarm,
    ChatInput,
    JobRequest,
    ModelInput,
    QueuePublish,
    QueueRead,
    read_request,
    task_name,
)
from app.job import Lane, Service

VALID: dict[str, tuple[str, dict[str, Any], type[msgspec.Struct]]] = {
    "model.generate": ("model", {"prompt": "hello", "max_tokens": 5, "temperature": 0, "stop": ["a", "b"]}, ModelInput),
    "chat.reply": ("chat", {"conversation": "c-1", "message": "hello", "seed": 7, "top_p": 0.5}, ChatInput),
    "cache.put": ("cache", {"operation": "put", "key": "k", "value": {"a": [1]}, "ttl_s": 5}, CachePut),
    "cache.get": ("cache", {"operation": "get", "key": "k"}, CacheGet),
    "cache.delete": ("cache", {"operation": "delete", "key": "k"}, CacheDelete),
    "cache.invalidate": ("cache", {"operation": "invalidate"}, CacheInvalidate),
    "cache.warm": ("cache", {"operation": "warm", "requests": [{"prompt": "hello", "temperature": 0}]}, CacheWarm),
    "queue.publish": ("queue", {"operation": "publish", "topic": "t", "message": None}, QueuePublish),
    "queue.read": ("queue", {"operation": "read", "topic": "t", "after": "1-2", "limit": 3}, QueueRead),
}


def body(service: object = "model", of: object = None, **members: object) -> bytes:
    """Return a body of `POST /v1/jobs`; `of` is the input."""
    return json.dumps({"service": service, "input": {"prompt": "hello"} if of is None else of, **members}).encode()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2**70, 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["user", "get", "model", "0-0", "k"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab/~`.[]0", max_size=4), inner, max_size=3))


@st.composite
def nearly_right(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a body that is right but for a few members, at any depth, which are missing, strange or of another kind."""
    service, members, _ = draw(st.sampled_from(list(VALID.values())))
    document: dict[str, Any] = json.loads(body(service, members, lane="batch", deadline_s=5))
    if draw(st.booleans()):
        document["input"]["messages"] = [{"role": "user", "content": "hi"}]
    for _ in range(draw(st.integers(0, 3))):
        target = draw(st.sampled_from([document, *(each for each in [document.get("input")] if isinstance(each, dict)),
                                       *_turns(document)]))
        name = draw(st.sampled_from([*target, "x/y", "~"]))
        if draw(st.booleans()):
            target.pop(name, None)
        else:
            target[name] = draw(ANYTHING)
        if not target:
            break
    return document


def _turns(document: dict[str, Any]) -> list[dict[str, Any]]:
    given_input = document.get("input")
    messages = given_input.get("messages") if isinstance(given_input, dict) else None
    return [turn for turn in messages if isinstance(turn, dict) and turn] if isinstance(messages, list) else []


def read(sent: bytes) -> tuple[JobRequest, Any] | InvalidInput | Forbidden:
    """Return what a body reads as, or what it is refused with."""
    try:
        return read_request(sent)
    except (InvalidInput, Forbidden) as exc:
        return exc


def strictly(text: str) -> Any:
    """Read JSON with Python's own reader; raise ValueError where it is none. Python lets pass what JSON forbids: NaN, and
    half of a surrogate pair."""
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    document = json.loads(text, parse_constant=refuse)
    json.dumps(document, ensure_ascii=False).encode()
    return document


def follow(document: Any, pointer: str) -> Any:
    """Return what a JSON pointer (RFC 6901) names in a document; raise where it names nothing."""
    assert pointer == "" or pointer.startswith("/")
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        document = document[int(name)] if isinstance(document, list) else document[name]
    return document


# -- any bytes at all


@given(document=nearly_right())
@example(document={"service": "model", "input": {"prompt": "a", "messages": [{"role": "user", "content": ""}]}})
@example(document={"service": "cache", "input": {"operation": "put", "key": "k", "value": 1, "x/y": 1}})
def test_json_is_read_or_refused_with_a_pointer_into_it(document: dict[str, Any]) -> None:
    answer = read(json.dumps(document).encode())

    if isinstance(answer, CallerError):
        assert answer.pointer is not None
        follow(document, answer.pointer)
    else:
        request, decoded = answer
        assert task_name(request.service, decoded).startswith(f"{request.service}.")


@given(document=ANYTHING)
def test_any_other_json_is_refused(document: Any) -> None:
    with pytest.raises(InvalidInput):
        read_request(json.dumps(document).encode())


@given(valid=st.sampled_from(list(VALID)), at=st.integers(0, 100), gone=st.integers(0, 9),
       instead=st.text(st.characters(codec="utf-8"), max_size=5) | st.sampled_from(['"', "\\", "{", "}", "\\ud800", "1e"]))
@example(valid="cache.put", at=0, gone=200, instead="")
def test_text_that_may_not_be_json_is_read_or_refused(valid: str, at: int, gone: int, instead: str) -> None:
    whole = body(*VALID[valid][:2]).decode()
    sent = whole[:at] + instead + whole[at + gone:]
    try:
        answer = read(sent.encode())
    except msgspec.DecodeError:
        with pytest.raises(ValueError):
            strictly(sent)
    else:
        assert isinstance(answer, CallerError) or strictly(sent)


@pytest.mark.parametrize("depth", [100_000, 400_000])
@pytest.mark.parametrize("start", [
    b'{"service":"cache","input":{"operation":"put","key":"k","value":', b'{"service":"model","input":{"messages":',
    b'{"service":"model","x":', b'{"service":"model","input":{"prompt":', b'{"service":', b""])
def test_json_nested_without_end_is_refused_like_any_other_fault(start: bytes, depth: int) -> None:
    with pytest.raises(InvalidInput):
        read_request(start + b"[" * depth + b"]" * depth + b"}" * start.count(b"{"))


# -- what is taken


@pytest.mark.parametrize("task", list(VALID))
def test_each_input_is_decoded_to_its_struct_and_has_a_task_of_its_own(task: str) -> None:
    service, members, kind = VALID[task]

    request, decoded = read_request(body(service, members, lane="batch", deadline_s=2.5))

    assert (request.service, request.lane, request.deadline_s) == (Service(service), Lane.BATCH, 2.5)
    assert isinstance(decoded, kind)
    assert {name: msgspec.json.decode(value) if isinstance(value := getattr(decoded, name), msgspec.Raw) else value
            for name in members if name not in ("operation", "requests")} == {
        name: value for name, value in members.items() if name not in ("operation", "requests")}
    assert task_name(request.service, decoded) == task


def test_every_task_that_callers_can_reach_has_code_in_the_workers() -> None:
    from workers.celery import app
    from workers.tasks import CODES

    app.loader.import_default_modules()
    internal = {"chat.regenerate", "chat.edit", "chat.title"}  # the first two have routes of their own
    assert set(VALID) == {name for name in CODES if name.partition(".")[0] in INPUTS} - internal


@pytest.mark.parametrize(("stop", "strings"), [(None, []), ("x", ["x"]), (["x", "y"], ["x", "y"]), ([], [])])
def test_stop_strings_are_a_list_whichever_way_they_were_given(stop: object, strings: list[str]) -> None:
    _, decoded = read_request(body(of={"prompt": "a", "stop": stop}))
    assert decoded.stop_strings == strings


def test_the_raw_value_of_a_put_is_kept_as_it_was_written() -> None:
    _, decoded = read_request(b'{"service":"cache","input":{"operation":"put","key":"k","value": {"b":1e400, "a":0.10}}}')
    assert bytes(decoded.value) == b'{"b":1e400, "a":0.10}'


# -- what is refused, and where


@pytest.mark.parametrize(("service", "members", "pointer", "said"), [
    ("model", {}, "/input", "give `messages` or a `prompt`"),
    ("model", {"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "/input", "and not both"),
    ("model", {"prompt": ""}, "/input/prompt", "length >= 1"),
    ("model", {"prompt": "a", "messages": []}, "/input/messages", "length >= 1"),
    ("model", {"messages": [{"role": "user", "content": "a"}, {"role": "bot", "content": "b"}]},
     "/input/messages/1/role", "Invalid enum value 'bot'"),
    ("model", {"messages": [{"role": "user", "content": ""}]}, "/input/messages/0", "length >= 1"),
    ("model", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "/input/messages/0/content/0/type",
     "it must be one of text, refusal"),
    ("model", {"messages": [{"role": "tool", "content": "a"}]}, "/input/messages/0", "tool_call_id"),
    ("model", {"messages": [{"role": "user", "content": "a"}], "tool_choice": "required"}, "/input", "needs `tools`"),
    ("model", {"prompt": "a", "response_format": {"type": "json_object"}}, "/input", "go with `messages`"),
    ("model", {"messages": [{"role": "user"}]}, "/input/messages/0", "missing required field `content`"),
    ("model", {"messages": [{"role": "user", "content": "a", "nome": "b"}]}, "/input/messages/0/nome", "unknown field"),
    ("model", {"prompt": "a", "stop": ["a", ""]}, "/input/stop/1", "length >= 1"),
    ("model", {"prompt": "a", "stop": ["a"] * 5}, "/input/stop", "length <= 4"),
    ("model", {"prompt": "a", "max_tokens": 0}, "/input/max_tokens", ">= 1"),
    ("model", {"prompt": "a", "max_tokens": 32_769}, "/input/max_tokens", "<= 32768"),
    ("model", {"prompt": "a", "max_tokens": "5"}, "/input/max_tokens", "Expected `int`, got `str`"),
    ("model", {"prompt": "a", "temperature": 2.1}, "/input/temperature", "<= 2"),
    ("model", {"prompt": "a", "top_p": 0}, "/input/top_p", "> 0"),
    ("model", {"prompt": "a", "seed": 2**53 + 1}, "/input/seed", "<= 9007199254740992"),
    ("model", {"prompt": "a", "n": 2}, "/input/n", "unknown field `n`"),
    ("chat", {"message": "a"}, "/input", "missing required field `conversation`"),
    ("chat", {"message": "a", "conversation": "a b"}, "/input/conversation", "regex"),
    ("chat", {"message": "a", "conversation": "a\n"}, "/input/conversation", "regex"),
    ("chat", {"message": "a", "conversation": "a" * 201}, "/input/conversation", "length <= 200"),
    ("cache", {"key": "k"}, "/input", "missing required field `operation`"),
    ("cache", {"operation": "steal", "key": "k"}, "/input/operation", "Invalid value 'steal'"),
    ("cache", {"operation": "put", "key": "k"}, "/input", "missing required field `value`"),
    ("cache", {"operation": "put", "key": "k", "value": 1, "ttl_s": 604_801}, "/input/ttl_s", "<= 604800"),
    ("queue", {"operation": "read", "topic": "t", "after": "1"}, "/input/after", "regex"),
    ("queue", {"operation": "read", "topic": "t", "limit": 1001}, "/input/limit", "<= 1000"),
    ("queue", {"operation": "publish", "topic": "", "message": 1}, "/input/topic", "length >= 1")])
def test_a_fault_in_the_input_is_named_with_its_pointer(
        service: str, members: dict[str, Any], pointer: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_request(body(service, members))
    assert refused.value.pointer == pointer
    assert said in str(refused.value)
    assert f"at {pointer}" in str(refused.value)


@pytest.mark.parametrize(("sent", "pointer", "said"), [
    (b"[]", "", "Expected `object`, got `array`, at the top level"), (b"{}", "", "missing required field `service`"),
    (body("mail"), "/service", "Invalid enum value 'mail'"), (body(lane="slow"), "/lane", "Invalid enum value 'slow'"),
    (body(deadline_s=0), "/deadline_s", "> 0"), (body(deadline_s=604_801), "/deadline_s", "<= 604800"),
    (body(priority=1), "/priority", "unknown field `priority`"), (body(**{"a/b~c": 1}), "/a~1b~0c", "unknown field"),
    (body(of=[]), "/input", "Expected `object`, got `array`")])
def test_a_fault_around_the_input_is_named_with_its_pointer(sent: bytes, pointer: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_request(sent)
    assert refused.value.pointer == pointer
    assert said in str(refused.value)


def test_jobs_of_the_auth_service_are_not_for_callers_to_submit() -> None:
    with pytest.raises(Forbidden, match="log in with POST /v1/auth/login") as refused:
        read_request(body("auth", {"username": "ann", "password": "secret"}))
    assert refused.value.pointer == "/service"
