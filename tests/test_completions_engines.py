"""Tools and forms of answers reach the model the same way through every engine."""

import msgspec
import pytest

from app.errors import EngineFailed, InvalidInput
from app.inputs import ModelInput
from app.tool_calls import parse
from tests import counted
from tests.counted import Case
from tests.upstream import ask, delta, streams, usage
from workers.engine.prompts import Prompts
from workers.engine.upstream_request import arguments

#: As Qwen's; one that wants a call's arguments as text, as DeepSeek's V3 and R1 do.
_TEMPLATE = ("{% if tools %}{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}{% endif %}"
             "{% for m in messages %}{{ m.role }}: {{ m.content or '' }}{% for call in m.tool_calls or [] %}"
             "<tool_call>{{ call.function.name }} ARGUMENTS</tool_call>{% endfor %}\n{% endfor %}assistant:")
TEMPLATES = {"as JSON": _TEMPLATE.replace("ARGUMENTS", "{{ call.function.arguments | tojson }}"),
             "as text": _TEMPLATE.replace("ARGUMENTS", "{{ '' + call.function.arguments }}")}

CONVERSATION = {
    "messages": [
        {"role": "developer", "content": "be brief"}, {"role": "user", "content": [{"type": "text", "text": "the sea?"}]},
        {"role": "assistant", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sea"}'}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "wide"}],
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}},
              {"type": "function", "function": {"name": "hear"}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}}


def request(**members: object) -> ModelInput:
    return msgspec.convert({**CONVERSATION, **members}, ModelInput)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("choice", ["auto", "none", {"type": "function", "function": {"name": "hear"}}], ids=str)
def test_gateway_and_engine_fill_in_tools_alike(name: str, choice: object) -> None:
    case = Case(counted.KINDS["bytes"](), TEMPLATES[name])
    asked = request(tool_choice=choice)
    read = Prompts(case.tokenizer, "m").read(asked)
    text = case.tokenizer.decode(read.tokens)

    assert case.counter.of_messages(asked.conversation, tools=asked.offered) == len(read.tokens)
    assert ('"look"' in text, '"hear"' in text) == (choice == "auto", choice != "none")
    assert '<tool_call>look {"at": "sea"}</tool_call>' in text
    assert "system: be brief\n\nAnswer with valid JSON" in text


def test_tools_are_refused_where_the_models_template_has_no_place_for_them() -> None:
    case = Case(counted.KINDS["bytes"](), counted.TEMPLATES["plain"])
    asked = request()

    with pytest.raises(InvalidInput, match="takes no tools"):
        case.counter.of_messages(asked.conversation, tools=asked.offered)
    with pytest.raises(EngineFailed, match="takes no `tools`"):
        Prompts(case.tokenizer, "m").read(asked)


def test_the_upstream_gets_tools_and_form_as_the_caller_gave_them() -> None:
    sent = arguments(request(tool_choice="required"), "m")

    assert {name: sent[name] for name in ("tools", "response_format")} == {
        name: CONVERSATION[name] for name in ("tools", "response_format")}
    assert sent["tool_choice"] == "required"
    assert [turn["role"] for turn in sent["messages"]] == ["system", "user", "assistant", "tool"]
    assert sent["messages"][2]["tool_calls"] == CONVERSATION["messages"][2]["tool_calls"]  # type: ignore[index]


def test_calls_that_an_upstream_streams_are_written_as_models_write_them() -> None:
    pieces = [delta(tool_calls=[{"index": 0, "id": "call_9", "function": {"name": "look", "arguments": ""}}]),
              delta(tool_calls=[{"index": 0, "function": {"arguments": '{"at":'}}]),
              delta(tool_calls=[{"index": 0, "function": {"arguments": '"sea"}'}}]),
              delta("tool_calls"), usage(3, 4)]
    generation = ask(streams(*pieces), request=request())

    content, (call,) = parse(generation.text)
    assert (content, call.id, call.function.name) == ("", "call_9", "look")
    assert msgspec.json.decode(call.function.arguments) == {"at": "sea"}
    assert generation.finish_reason == "stop"
