"""Writes a request as the arguments of the OpenAI client: `/chat/completions` for messages, `/completions` for a prompt.

Only what the caller gave is sent, so that the rest is the upstream's own default; `max_tokens` always is. What OpenAI's
protocol lacks goes by the names that vLLM and SGLang have for it; a server that does not know them refuses or ignores them.
"""

from typing import Any

import msgspec

from app.inputs import ModelInput
from app.messages import turns

_BY_OPENAI = ("max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "stop")
_BY_VLLM = ("top_k", "min_p", "repetition_penalty", "stop_token_ids")
_ALWAYS = {"max_tokens"}


def arguments(request: ModelInput, model: str) -> dict[str, Any]:
    """Return the keyword arguments for the client's `create`."""
    given = {field.name: value for field in msgspec.structs.fields(ModelInput)
             if (value := getattr(request, field.name)) not in (None, field.default, []) or field.name in _ALWAYS}
    asked: dict[str, Any] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    asked |= {name: given[name] for name in _BY_OPENAI if name in given}
    if extra := {name: given[name] for name in _BY_VLLM if name in given}:
        asked["extra_body"] = extra
    if request.messages is None:
        return asked | {"prompt": request.prompt} | ({"logprobs": request.top_logprobs} if request.logprobs else {})
    asked["messages"] = turns(request.messages, parsed=False)
    asked |= {name: msgspec.to_builtins(value) for name in ("tools", "tool_choice", "response_format")
              if (value := getattr(request, name)) is not None}
    if request.logprobs:
        asked |= {"logprobs": True} | ({"top_logprobs": request.top_logprobs} if request.top_logprobs else {})
    return asked
