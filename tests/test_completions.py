"""The official OpenAI client, unchanged, against the whole stack."""

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller
from tests.operating import operate

HELLO: Any = [{"role": "user", "content": "hello there world"}]


@pytest.fixture
def sdk(stranger: Caller) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stranger.address}/v1", api_key=stranger.credentials.removeprefix("Bearer "),
                       max_retries=0, timeout=60) as client:
        yield client


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


def jobs_of(caller: Caller) -> list[dict[str, Any]]:
    return list(caller.call("GET", "/v1/jobs").json()["data"])


def test_a_completion_has_text_reason_and_usage(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model="default", messages=HELLO, max_tokens=2, n=2)

    assert [choice.message.content for choice in answer.choices] == ["hello there"] * 2
    assert [choice.finish_reason for choice in answer.choices] == ["length"] * 2
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 4, 7)
    assert answer.model == sdk.models.list().data[0].id == sdk.models.retrieve(answer.model).id


def test_a_stream_begins_with_the_role_keeps_reasoning_apart_and_ends_with_the_usage(sdk: openai.OpenAI) -> None:
    chunks = list(sdk.chat.completions.create(
        model="default", messages=said("[think] hm well [answer] one [stall 300ms] two"), stream=True,
        stream_options={"include_usage": True}))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]

    assert deltas[0].role == "assistant"
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "hm well"
    assert "".join(delta.content or "" for delta in deltas) == "one two"
    assert sum(bool(delta.content) for delta in deltas) > 1, "it came in pieces"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert (chunks[-1].choices, chunks[-1].usage and chunks[-1].usage.completion_tokens) == ([], 4)
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_choices_of_a_stream_are_told_apart(sdk: openai.OpenAI) -> None:
    texts = {0: "", 1: "", 2: ""}
    for chunk in sdk.chat.completions.create(model="default", messages=HELLO, n=3, stream=True, stop="world", seed=1):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""

    assert texts == dict.fromkeys(range(3), "hello there ")


def test_tools_and_json(sdk: openai.OpenAI) -> None:
    tools: Any = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    call = '<tool_call>{"name":"f","arguments":{"x":1}}</tool_call>'
    answer = sdk.chat.completions.create(model="default", messages=said(call), tools=tools)
    chunks = list(sdk.chat.completions.create(model="default", messages=said(call), tools=tools, stream=True))
    json = sdk.chat.completions.create(model="default", messages=HELLO, response_format={"type": "json_object"})

    whole: Any = (answer.choices[0].message.tool_calls or [])[0]
    assert (whole.function.name, whole.function.arguments) == ("f", '{"x":1}')
    assert answer.choices[0].finish_reason == "tool_calls"
    streamed: Any = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [(call.index, call.function.name) for call in streamed] == [(0, "f")]
    assert not any(chunk.choices[0].delta.content for chunk in chunks)
    assert json.choices[0].message.content == '{"text": "hello there world"}'


def test_errors_are_the_clients_own_classes(sdk: openai.OpenAI, stranger: Caller) -> None:
    with pytest.raises(openai.NotFoundError, match="not served"):
        sdk.chat.completions.create(model="gpt-x", messages=HELLO)
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.chat.completions.create(model="default", messages=HELLO, temperature=9)
    with pytest.raises(openai.AuthenticationError):
        sdk.with_options(api_key="tk_no").chat.completions.create(model="default", messages=HELLO)
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError) as failed:
            sdk.chat.completions.create(model="default", messages=said("[error permanent]"), stream=stream)
        assert (failed.value.status_code, failed.value.code) == (502, "engine_failed")
    with pytest.raises(openai.APIError, match="the script says"):
        list(sdk.chat.completions.create(model="default", messages=said("some words [stall 200ms] [error permanent]"),
                                         stream=True))

    assert (refused.value.param, refused.value.type) == ("temperature", "invalid_request_error")


def cancelled(caller: Caller, count: int) -> None:
    wait_until(lambda: [job["state"] for job in jobs_of(caller)] == ["cancelled"] * count, timeout_s=5,
               what=f"{count} jobs to be cancelled")


def test_a_tenant_beyond_its_limit_gets_the_clients_rate_limit_error_with_the_headers(
        sdk: openai.OpenAI, stack: Sandbox, stranger: Caller) -> None:
    assert operate(stack, "limits", "set", stranger.username, "--requests-per-minute", "1").returncode == 0
    sdk.chat.completions.create(model="default", messages=HELLO)
    with pytest.raises(openai.RateLimitError) as refused:
        sdk.chat.completions.create(model="default", messages=HELLO)

    assert refused.value.status_code == 429
    assert refused.value.code == "rate_limit_exceeded"
    assert 1 <= int(refused.value.response.headers["Retry-After"]) <= 60
    assert refused.value.response.headers["x-ratelimit-limit-requests"] == "1"


def test_closing_a_stream_cancels_the_jobs(sdk: openai.OpenAI, stranger: Caller) -> None:
    stream = sdk.chat.completions.create(model="default", messages=said("one [stall 60s] two"), stream=True, n=2)
    next(iter(stream))
    stream.close()

    cancelled(stranger, 2)


@pytest.mark.parametrize("wait_s", [1.0, 5.0], ids=["before it began", "among blank lines"])
def test_giving_up_on_an_answer_cancels_the_job(sdk: openai.OpenAI, stranger: Caller, wait_s: float) -> None:
    with pytest.raises(openai.APITimeoutError):
        sdk.with_options(timeout=openai.Timeout(wait_s, read=1.5 if wait_s == 1.0 else 3.5)).chat.completions.create(
            model="default", messages=said("[stall 60s] one"))

    cancelled(stranger, 1)


def test_an_answer_that_takes_long_comes_after_blank_lines(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.with_raw_response.create(model="default", messages=said("[stall 4s] late"))

    assert answer.text.startswith("\n")  # type: ignore[operator] # a method by its types, a text in this client
    assert answer.parse().choices[0].message.content == "late"


def test_the_async_client_works_too(stack: Sandbox, stranger: Caller) -> None:
    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=f"{stranger.address}/v1",
                                      api_key=stranger.credentials.removeprefix("Bearer ")) as client:
            stream = await client.chat.completions.create(model="default", messages=HELLO, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(ask()) == "hello there world"
