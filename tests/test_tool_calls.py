"""Tool calls in what models write."""

import json
import time

import pytest

from app.tool_calls import parse, settled, written

HERMES = '<tool_call>\n{"name": "weather", "arguments": {"city": "Graz"}}\n</tool_call>'
V3 = ('<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{"city": "Graz"}\n```'  # noqa: RUF001
      '<｜tool▁call▁end｜><｜tool▁calls▁end｜>')  # noqa: RUF001
V31 = ('<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{"city": "Graz"}'  # noqa: RUF001
       '<｜tool▁call▁end｜><｜tool▁calls▁end｜>')  # noqa: RUF001


@pytest.mark.parametrize("call", [HERMES, V3, V31], ids=["hermes", "v3", "v3.1"])
def test_a_call_is_read_and_the_text_before_it_is_the_content(call: str) -> None:
    content, (read,) = parse("Let me look.\n" + call)

    assert content == "Let me look."
    assert (read.function.name, json.loads(read.function.arguments)) == ("weather", {"city": "Graz"})
    assert read.id.startswith("call_")


def test_two_calls_are_read_in_their_order() -> None:
    _, calls = parse(HERMES + HERMES.replace("weather", "time"))

    assert [call.function.name for call in calls] == ["weather", "time"]
    assert calls[0].id != calls[1].id


@pytest.mark.parametrize("text", [
    "<tool_call>{broken</tool_call>", "a <tool_call> b", '<tool_call>{"x": 1}</tool_call>', "<"])
def test_what_is_no_whole_call_stays_text(text: str) -> None:
    assert parse(text) == (text, [])


@pytest.mark.parametrize("call", [HERMES, V3, V31], ids=["hermes", "v3", "v3.1"])
def test_of_an_unfinished_answer_nothing_of_a_call_is_content(call: str) -> None:
    whole = "Let me look.\n" + call
    sent = [whole[:settled(whole[:at])] for at in range(len(whole) + 1)]

    assert all("Let me look.".startswith(text) for text in sent)
    assert sent[-1] == "Let me look."
    assert settled("a < b") == len("a < b")


@pytest.mark.parametrize("text", [
    "<tool_call>{" * 8_000, "<｜tool▁call▁begin｜>" * 8_000, "<｜tool▁call▁begin｜>x<｜tool▁sep｜>" + " " * 3_000],  # noqa: RUF001
    ids=["hermes", "deepseek", "spaces"])
def test_an_answer_of_openings_is_read_in_no_time(text: str) -> None:
    begun_s = time.process_time()

    assert parse(text) == (text, [])
    assert time.process_time() - begun_s < 1, "the gateway does nothing else meanwhile"


@pytest.mark.parametrize("broken", ['<tool_call>{"name": ', "<｜tool▁call▁begin｜>"], ids=["hermes", "deepseek"])  # noqa: RUF001
def test_a_broken_call_takes_no_other_with_it(broken: str) -> None:
    content, calls = parse(broken + (HERMES if "tool_call" in broken else V31))

    assert (content, [call.function.name for call in calls]) == (broken.rstrip(), ["weather"])


@pytest.mark.parametrize("arguments", ['{"tag": "</tool_call>"}', "{}", "no JSON"])
def test_a_call_that_another_server_made_is_read_as_it_was_written(arguments: str) -> None:
    _, (call,) = parse(written("find", arguments, call_id="call_1"))

    assert (call.id, call.function.name) == ("call_1", "find")
    assert call.function.arguments == arguments or json.loads(call.function.arguments) == json.loads(arguments)
