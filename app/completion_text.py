"""What one choice of a completion says: turns a job's events into what its reader has not had. Pure.

What was sent cannot be taken back. After a restart the new text goes on where the old one was, as long as it agrees with
it; where it does not, the stream has to end with an error. Where tools are offered, what may become a call is held back;
where JSON is asked for, all content is, until it is known to be JSON.
"""

import re
from typing import Any

import msgspec

from app.errors import Diverged, NotJson
from app.messages import ToolCall
from app.tool_calls import parse, settled

_FENCE = re.compile(r"```(?:json)?[^\S\n]*\n(.*?)\n?```", re.DOTALL)  # of a text without space around it
_MEMBERS = {"reasoning_content": "reasoning_content", "text": "content"}  # a job's names, and a completion's


class Answered(msgspec.Struct, frozen=True):
    """An answer in OpenAI's terms."""

    content: str | None
    reasoning: str | None
    calls: list[ToolCall]
    finish_reason: str
    logprobs: Any


def answered(result: dict[str, Any], *, tools: bool, json: bool) -> Answered:
    """Return what a job's result says. Raises `NotJson`. An answer cut off at its limit of tokens is not looked at."""
    text, reason = result["text"], result["finish_reason"]
    content, calls = parse(text) if tools else (text, [])
    if json and not calls and reason == "stop":
        content = _json(content)
    return Answered(content=content or (None if calls else ""), reasoning=result.get("reasoning_content"), calls=calls,
                    finish_reason="tool_calls" if calls else reason, logprobs=result.get("logprobs"))


class ChoiceText:
    """One choice of a stream."""

    def __init__(self, *, tools: bool, json: bool) -> None:
        self._tools, self._json = tools, json
        self._now = dict.fromkeys(_MEMBERS, "")
        self._sent = dict.fromkeys(_MEMBERS, "")

    def restarted(self) -> None:
        """What was said is void."""
        self._now = dict.fromkeys(_MEMBERS, "")

    def said(self, data: dict[str, Any]) -> dict[str, str]:
        """Take a `token` event's data; return the delta to send, empty for none. Raises `Diverged`."""
        delta: dict[str, str] = {}
        for member in _MEMBERS:
            if piece := data.get(member):
                self._now[member] += piece
                delta |= self._send(member, self._now[member], self._certain(member))
        return delta

    def ended(self, result: dict[str, Any]) -> tuple[dict[str, Any], Answered]:
        """Take the result; return the last delta, and the whole. Raises `Diverged` or `NotJson`."""
        whole = answered(result, tools=self._tools, json=self._json)
        reasoning, content = whole.reasoning or "", whole.content or ""
        delta: dict[str, Any] = self._last("reasoning_content", reasoning) | self._last("text", content)
        if whole.calls:
            delta["tool_calls"] = [{"index": at, **msgspec.to_builtins(call), "type": "function"}
                                   for at, call in enumerate(whole.calls)]
        return delta, whole

    def _certain(self, member: str) -> int:
        if member == "text" and self._json:
            return 0
        text = self._now[member]
        return settled(text) if member == "text" and self._tools else len(text)

    def _last(self, member: str, text: str) -> dict[str, str]:
        if len(text) < len(self._sent[member]):
            raise _diverged()
        return self._send(member, text, len(text))

    def _send(self, member: str, text: str, upto: int) -> dict[str, str]:
        sent = self._sent[member]
        if not (text.startswith(sent) or sent.startswith(text)):
            raise _diverged()
        fresh = text[len(sent):upto]
        self._sent[member] += fresh
        return {_MEMBERS[member]: fresh} if fresh else {}


def _diverged() -> Diverged:
    return Diverged("the answer was begun anew on another worker and differs from what was sent already; ask again")


def _json(text: str) -> str:
    """Return an answer's JSON, out of its Markdown fence if it has one. Raises `NotJson`."""
    fenced = _FENCE.fullmatch(text.strip())
    content = fenced[1] if fenced else text
    try:
        msgspec.json.decode(content)
        return content
    except msgspec.DecodeError as exc:
        raise NotJson(f"the model was asked for JSON and answered something else ({exc}); ask again or say in a message "
                      "what the JSON is to hold") from exc
