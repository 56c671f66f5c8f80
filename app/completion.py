"""Completions and their chunks, in OpenAI's form. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from app.completion_text import Answered
from app.job import Job

DONE = b"data: [DONE]\n\n"
COMMENT = b": keep-alive\n\n"


class Heading(msgspec.Struct, frozen=True):
    """What a completion and each of its chunks begin with. `usage` is whether the stream ends with the usage."""

    id: str
    created: int  # Unix seconds
    model: str
    usage: bool = False

    def completion(self, answers: Sequence[Answered], jobs: Sequence[Job]) -> dict[str, Any]:
        """Return the whole completion."""
        return {"id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
                "choices": [_choice(index, answer) for index, answer in enumerate(answers)], "usage": usage(jobs)}

    def chunk(self, index: int, delta: dict[str, Any], finish_reason: str | None = None, logprobs: Any = None) -> bytes:
        """Return a chunk with a piece of a choice, as it is sent."""
        return self._event([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}])

    def usage_chunk(self, jobs: Sequence[Job]) -> bytes:
        """Return the chunk with the usage, as it is sent."""
        return self._event([], usage(jobs))

    def _event(self, choices: list[dict[str, Any]], used: dict[str, Any] | None = None) -> bytes:
        return event({"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
                      "choices": choices, **({"usage": used} if self.usage else {})})


def event(data: Any) -> bytes:
    """Return JSON as a server-sent event."""
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def usage(jobs: Iterable[Job]) -> dict[str, Any]:
    """Return the tokens of a completion's jobs: the prompt is counted once, the answers together."""
    used = [msgspec.json.decode(job.usage or b"{}") for job in jobs]
    prompt = max((one.get("prompt_tokens", 0) for one in used), default=0)
    completion = sum(one.get("completion_tokens", 0) for one in used)
    cached = min((one.get("cached_tokens", 0) for one in used), default=0)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached}}


def _choice(index: int, answer: Answered) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.content, "refusal": None}
    if answer.reasoning is not None:
        message["reasoning_content"] = answer.reasoning
    if answer.calls:
        message["tool_calls"] = [{**msgspec.to_builtins(call), "type": "function"} for call in answer.calls]
    return {"index": index, "message": message, "logprobs": answer.logprobs, "finish_reason": answer.finish_reason}
