"""Finds the tool calls in the text that a model wrote, and keeps them from being taken for content while it is written.

Two ways to write them are understood: Hermes's and Qwen's, `<tool_call>{"name": ..., "arguments": ...}</tool_call>`, and
DeepSeek's, with and without the fence of V3 and R1 (V3.1 has none). What is no whole call stays text. Pure.
"""

import re
import uuid
from typing import Any

import msgspec

from app.messages import FunctionCall, ToolCall

_OPENINGS = ("<tool_call>", "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>")  # noqa: RUF001 - DeepSeek's own letters

#: No call reaches over the opening of the next, so the time for a text grows with its length, and not faster: an answer
#: may be openings and nothing else, and the gateway reads it.
_HERMES = re.compile(r"<tool_call>\s*(\{(?:(?!<tool_call>).)*?\})\s*(?:</tool_call>|$)", re.DOTALL)
_DEEPSEEK = re.compile(r"<｜tool▁call▁begin｜>((?:(?!<｜tool▁call▁begin｜>).)*?)<｜tool▁sep｜>"  # noqa: RUF001
                       r"((?:(?!<｜tool▁call▁begin｜>).)*?)(?:<｜tool▁call▁end｜>|$)", re.DOTALL)  # noqa: RUF001
_FENCED = re.compile(r"([^\n]+)\n```(?:json)?[^\S\n]*\n(.*?)\n?```", re.DOTALL)  # of a text without space around it
_AROUND = re.compile(r"<｜tool▁calls▁(?:begin|end)｜>")  # noqa: RUF001


class _Written(msgspec.Struct):
    """A call as Hermes writes it. `id` is there where another server had named the call."""

    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")
    id: str | None = None


def parse(text: str) -> tuple[str, list[ToolCall]]:
    """Return the content and the calls of an answer. Without a call the content is the text as it was."""
    calls: list[tuple[int, int, ToolCall]] = []
    for pattern, read in ((_HERMES, _hermes), (_DEEPSEEK, _deepseek)):
        for found in pattern.finditer(text):
            call = read(found)
            if call is not None:
                calls.append((*found.span(), call))
    if not calls:
        return text, []
    calls.sort(key=lambda call: call[0])
    pieces, at = [], 0
    for start, end, _ in calls:
        pieces.append(text[at:start])
        at = end
    pieces.append(text[at:])
    return _AROUND.sub("", "".join(pieces)).rstrip(), [call for _, _, call in calls]


def settled(text: str) -> int:
    """Return how many characters at the beginning of an unfinished answer are content, whatever comes."""
    starts = [at for opening in _OPENINGS if (at := text.find(opening)) >= 0]
    end = min(starts, default=len(text))
    if not starts:
        longest = max(map(len, _OPENINGS))
        for at in range(max(0, len(text) - longest), len(text)):
            if any(opening.startswith(text[at:]) for opening in _OPENINGS):
                end = at
                break
    return len(text[:end].rstrip())


def written(name: str, arguments: str, *, call_id: str | None) -> str:
    """Return a call as `parse` reads it. Arguments that are no JSON are kept as text."""
    try:
        msgspec.json.decode(arguments or "{}")
        raw = msgspec.Raw((arguments or "{}").encode())
    except msgspec.DecodeError:
        raw = msgspec.Raw(msgspec.json.encode(arguments))
    call: dict[str, Any] = {"name": name, "arguments": raw} | ({"id": call_id} if call_id else {})
    # "<" can only be in strings; escaped, it closes no call that it should not
    return "<tool_call>" + msgspec.json.encode(call).decode().replace("<", "\\u003c") + "</tool_call>"


def _hermes(found: re.Match[str]) -> ToolCall | None:
    try:
        call = msgspec.json.decode(found[1], type=_Written)
        arguments = bytes(call.arguments)
        text = msgspec.json.decode(arguments) if arguments.startswith(b'"') else arguments.decode()
    except msgspec.DecodeError:
        return None
    return _call(call.name, text, call.id)


def _deepseek(found: re.Match[str]) -> ToolCall | None:
    head, body = found[1].strip(), found[2]
    fenced = _FENCED.fullmatch(body.strip())
    name, arguments = (fenced[1].strip(), fenced[2].strip()) if fenced else (head, body.strip())
    try:
        msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return None
    return _call(name, arguments, None) if name else None


def _call(name: str, arguments: str, call_id: str | None) -> ToolCall:
    return ToolCall(id=call_id or f"call_{uuid.uuid4().hex[:24]}", function=FunctionCall(name=name, arguments=arguments))
