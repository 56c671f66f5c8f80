"""What a choice of a stream says, and what of it may be sent."""

import time
from typing import Any

import pytest

from app.completion_text import ChoiceText, answered
from app.errors import Diverged, NotJson
from app.tool_calls import written


def result(text: str, finish_reason: str = "stop", **members: Any) -> dict[str, Any]:
    return {"text": text, "finish_reason": finish_reason, "model": "m", **members}


def choice(*, tools: bool = False, json: bool = False) -> ChoiceText:
    return ChoiceText(tools=tools, json=json)


def test_reasoning_and_content_are_told_apart_and_the_end_adds_what_is_missing() -> None:
    text = choice()

    assert text.said({"reasoning_content": "hm"}) == {"reasoning_content": "hm"}
    assert text.said({"text": "one "}) == {"content": "one "}
    last, whole = text.ended(result("one two", reasoning_content="hm"))
    assert (last, whole.content, whole.reasoning, whole.finish_reason) == ({"content": "two"}, "one two", "hm", "stop")


def test_after_a_restart_an_answer_that_agrees_goes_on_where_it_was() -> None:
    text = choice()
    text.said({"text": "one two"})
    text.restarted()

    assert text.said({"text": "one"}) == {}
    assert text.said({"text": " two three"}) == {"content": " three"}
    assert text.ended(result("one two three"))[0] == {}


def test_after_a_restart_an_answer_that_differs_is_an_error() -> None:
    text = choice()
    text.said({"text": "one two"})
    text.restarted()

    with pytest.raises(Diverged):
        text.said({"text": "one six"})


def test_after_a_restart_an_answer_that_ends_too_early_is_an_error() -> None:
    text = choice()
    text.said({"text": "one two"})
    text.restarted()

    with pytest.raises(Diverged):
        text.ended(result("one"))


def test_a_restart_does_not_matter_for_what_was_held_back() -> None:
    text = choice(json=True)
    assert text.said({"text": '{"a": 1'}) == {}
    text.restarted()
    text.said({"text": '{"b": 2}'})

    assert text.ended(result('{"b": 2}'))[0] == {"content": '{"b": 2}'}


def test_a_tool_call_is_never_sent_as_content() -> None:
    text, call = choice(tools=True), written("f", '{"x":1}', call_id="call_1")
    sent = [text.said({"text": letter}) for letter in "Wait. " + call]

    assert "".join(delta.get("content", "") for delta in sent) == "Wait."
    last, whole = text.ended(result("Wait. " + call))
    assert last == {"tool_calls": [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}]}
    assert (whole.content, whole.finish_reason) == ("Wait.", "tool_calls")


def test_an_answer_of_calls_alone_has_no_content() -> None:
    assert answered(result(written("f", "{}", call_id=None)), tools=True, json=False).content is None


def test_calls_are_not_looked_for_where_no_tools_were_offered() -> None:
    call = written("f", "{}", call_id=None)

    assert answered(result(call), tools=False, json=False).content == call


@pytest.mark.parametrize(("text", "content"), [
    ('{"a": 1}', '{"a": 1}'), ('```json\n{"a": 1}\n```', '{"a": 1}'), (' \n``` \n{"a": 1}```\n', '{"a": 1}')])
def test_json_comes_out_of_its_fence(text: str, content: str) -> None:
    assert answered(result(text), tools=False, json=True).content == content


def test_what_is_not_json_where_json_was_asked_for_is_an_error_unless_it_was_cut_off() -> None:
    with pytest.raises(NotJson):
        answered(result("Sure!"), tools=False, json=True)
    assert answered(result('{"a', "length"), tools=False, json=True).content == '{"a'


def test_a_fence_around_nothing_is_read_in_no_time() -> None:
    begun_s = time.process_time()
    with pytest.raises(NotJson):
        answered(result("```" + "\n" * 20_000), tools=False, json=True)

    assert time.process_time() - begun_s < 1, "the gateway does nothing else meanwhile"
