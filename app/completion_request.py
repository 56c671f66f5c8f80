"""The body of `POST /v1/chat/completions`, as OpenAI's SDKs send it, and the model's input that it stands for.

A member that is null counts as left out. What SDKs send and what has no meaning here is accepted and ignored; any other
unknown member is refused.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.errors import InvalidInput, MalformedRequest
from app.inputs import LARGEST_SEED, ModelInput, Sampling, check_choice, invalid
from app.messages import Input, JsonObjectFormat, JsonSchemaFormat, Message, ResponseFormat, Tool, ToolChoice

#: Tokens of an answer where the request sets no limit; the model's context may end it before.
MOST_TOKENS = 4096

MOST_CHOICES = 8

_Limit = Annotated[int, Meta(ge=1, le=32_768)]


class StreamOptions(Input):
    """What a stream has beside the answer."""

    include_usage: bool = False
    include_obfuscation: bool = False  # ignored


class CompletionRequest(Sampling, kw_only=True):
    """A chat completion. `user` and what follows it are accepted and ignored."""

    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: _Limit | None = None  # type: ignore[assignment] # whether it was given matters here
    max_completion_tokens: _Limit | None = None
    n: Annotated[int, Meta(ge=1, le=MOST_CHOICES)] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None
    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    parallel_tool_calls: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    reasoning_effort: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stream_options is not None and not self.stream:
            raise ValueError("`stream_options` needs `stream` to be true")
        check_choice(self.tools, self.tool_choice)

    @property
    def calls_tools(self) -> bool:
        """Whether the answer may call tools."""
        return bool(self.tools) and self.tool_choice != "none"

    @property
    def wants_json(self) -> bool:
        """Whether the answer has to be JSON."""
        return isinstance(self.response_format, JsonObjectFormat | JsonSchemaFormat)

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def input_of(self, choice: int) -> ModelInput:
        """Return the model's input for a choice. With a seed, each choice has the next one, as in vLLM."""
        given = {name: getattr(self, name) for name in _PASSED_ON}
        limit = self.max_completion_tokens or self.max_tokens or MOST_TOKENS
        seed = (self.seed + choice) % (LARGEST_SEED + 1) if self.seed is not None else None
        return ModelInput(**given | {"max_tokens": limit, "seed": seed})


_PASSED_ON = (*(field.name for field in msgspec.structs.fields(Sampling)), "messages", "tools", "tool_choice",
              "response_format")


def read(body: bytes) -> CompletionRequest:
    """Read a body. Raises `MalformedRequest` or `InvalidInput`."""
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        given = {name: value for name, value in members.items() if bytes(value) != b"null"}
        return msgspec.json.decode(msgspec.json.encode(given), type=CompletionRequest)
    except msgspec.ValidationError as exc:
        raise invalid(exc, CompletionRequest) from exc
    except msgspec.DecodeError as exc:
        raise MalformedRequest(f"the body is not JSON: {exc}") from exc
    except RecursionError as exc:
        raise InvalidInput("the JSON is nested too deeply", pointer="") from exc
