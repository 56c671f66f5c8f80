"""What each service takes as `input`: the structs that validate a request, and from which OpenAPI is generated.

Unknown members are refused. Sampling parameters carry OpenAI's names. The longest text is bounded by the gateway's limit
on the body; a prompt over the model's context is refused by the gateway, where it can count (`app.api.prompt_length`), else
by the engine.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.choices import choices
from app.errors import Forbidden, InvalidInput
from app.job import Lane, Service
from app.messages import Input as Input
from app.messages import Message as Message
from app.messages import NamedTool, ResponseFormat, Tool, ToolChoice, instructions, with_instructions

LONGEST_DEADLINE_S = 604_800  # a week
LARGEST_SEED = 2**53

Key = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9._:-]+(?!\n)$")]


class Sampling(Input, kw_only=True):
    """How tokens are picked, by OpenAI's names and vLLM's for what OpenAI lacks.

    What is left out is the model's own (its generation_config), else neutral. Temperature 0 is greedy.
    """

    max_tokens: Annotated[int, Meta(ge=1, le=32_768)] = 256
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None  # 0 or -1: any
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=2)] | None = None  # of tokens in the prompt or the answer
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0  # of tokens in the answer
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0  # of them, for each time
    seed: Annotated[int, Meta(ge=0, le=LARGEST_SEED)] | None = None
    stop: Annotated[str, Meta(min_length=1)] | Annotated[
        list[Annotated[str, Meta(min_length=1)]], Meta(max_length=4)] | None = None
    stop_token_ids: Annotated[list[Annotated[int, Meta(ge=0, le=2**31)]], Meta(max_length=16)] = []  # noqa: RUF012 - msgspec copies it
    logprobs: bool = False
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] = 0

    def __post_init__(self) -> None:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("`top_logprobs` needs `logprobs` to be true")

    @property
    def stop_strings(self) -> list[str]:
        """The stop strings as a list, whichever way they were given."""
        if self.stop is None:
            return []
        return [self.stop] if isinstance(self.stop, str) else list(self.stop)


class ModelInput(Sampling, kw_only=True):
    """`model.generate`: either `messages` (through the model's chat template) or a bare `prompt`."""

    messages: Annotated[list[Message], Meta(min_length=1)] | None = None
    prompt: Annotated[str, Meta(min_length=1)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.messages is None and self.prompt is None:
            raise ValueError("give `messages` or a `prompt`")
        if self.messages is not None and self.prompt is not None:
            raise ValueError("give either `messages` or `prompt`, and not both")
        if self.messages is None and (self.tools or self.tool_choice or self.response_format):
            raise ValueError("`tools`, `tool_choice` and `response_format` go with `messages`")
        check_choice(self.tools, self.tool_choice)

    @property
    def conversation(self) -> list[Message]:
        """The messages, with what the answer has to look like said in words."""
        if self.response_format is None and self.tool_choice is None:
            return self.messages or []
        return with_instructions(self.messages or [], instructions(self.response_format, self.tool_choice))

    @property
    def offered(self) -> list[dict[str, Any]] | None:
        """The tools that the model is shown, None where there are none."""
        if not self.tools or self.tool_choice == "none":
            return None
        tools = self.tools
        if isinstance(self.tool_choice, NamedTool):
            tools = [tool for tool in tools if tool.function.name == self.tool_choice.function.name]
        return [msgspec.to_builtins(tool) for tool in tools]


def check_choice(tools: Sequence[Tool] | None, choice: ToolChoice | None) -> None:
    """Refuse to choose among tools that are not there. Raises `ValueError`."""
    if choice in (None, "none", "auto"):
        return
    if not tools:
        raise ValueError("`tool_choice` needs `tools`")
    if isinstance(choice, NamedTool) and choice.function.name not in [tool.function.name for tool in tools]:
        raise ValueError(f"`tool_choice` names '{choice.function.name}', which is not among `tools`")


class ChatInput(Sampling, kw_only=True):
    """`chat.reply`: a turn of the caller's conversation `conversation`; the history before it is Tandem's to keep."""

    conversation: Key
    message: Annotated[str, Meta(min_length=1)]


class ChatRegenerate(Sampling, kw_only=True):
    """`chat.regenerate`: another answer to the last turn of a conversation. Callers have a route for it."""

    conversation: Key


class ChatEdit(ChatInput, kw_only=True):
    """`chat.edit`: a question, and its answer, in place of the last turn of a conversation. Callers have a route for it."""


class CachePut(Input, tag_field="operation", tag="put"):
    """`cache.put`: keep a JSON value for `ttl_s` seconds."""

    key: Key
    value: msgspec.Raw
    ttl_s: Annotated[int, Meta(ge=1, le=604_800)] = 3600


class CacheGet(Input, tag_field="operation", tag="get"):
    """`cache.get`: read a value; `found` is false where there is none."""

    key: Key


class CacheDelete(Input, tag_field="operation", tag="delete"):
    """`cache.delete`: forget a value; `deleted` is false where there was none."""

    key: Key


class CacheInvalidate(Input, tag_field="operation", tag="invalidate"):
    """`cache.invalidate`: forget the answers to the caller's deterministic requests, so that they are made anew."""


class CacheWarm(Input, tag_field="operation", tag="warm"):
    """`cache.warm`: have deterministic requests of the model service answered in the batch lane, before they are asked."""

    requests: Annotated[list[ModelInput], Meta(min_length=1, max_length=100)]


class QueuePublish(Input, tag_field="operation", tag="publish"):
    """`queue.publish`: append a JSON message to the caller's topic; the newest 10,000 are kept."""

    topic: Key
    message: msgspec.Raw


class QueueRead(Input, tag_field="operation", tag="read"):
    """`queue.read`: the messages of the caller's topic that come after `after`, oldest first."""

    topic: Key
    after: Annotated[str, Meta(pattern=r"^[0-9]{1,19}-[0-9]{1,19}(?!\n)$")] = "0-0"
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


CacheInput = CachePut | CacheGet | CacheDelete | CacheInvalidate | CacheWarm
QueueInput = QueuePublish | QueueRead

#: Services that callers may name in `POST /v1/jobs`, and what they take.
INPUTS: dict[Service, Any] = {
    Service.MODEL: ModelInput, Service.CHAT: ChatInput, Service.CACHE: CacheInput, Service.QUEUE: QueueInput,
}


class JobRequest(Input, kw_only=True):
    """The body of `POST /v1/jobs`."""

    service: Service
    input: msgspec.Raw
    lane: Lane = Lane.STANDARD
    deadline_s: Annotated[float, Meta(gt=0, le=LONGEST_DEADLINE_S)] | None = None
    webhook_url: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None  # see app.webhooks


_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)

_NOT_AMONG = ("Invalid enum value", "Invalid value")

#: What to do instead of sending a member that other APIs have.
_HINTS = {"stream": " (a job's tokens are followed at /v1/jobs/{id}/events)",
          "model": " (a job goes to the model that is served; /v1/models names it)"}

_request_decoder = msgspec.json.Decoder(JobRequest)
_input_decoders = {service: msgspec.json.Decoder(kind) for service, kind in INPUTS.items()}


def read_request(body: bytes) -> tuple[JobRequest, Any]:
    """Validate a body, and return the request with its decoded input.

    Raises `InvalidInput` with a JSON pointer to the member at fault. `body` must be UTF-8; where it is no JSON,
    `msgspec.DecodeError` is raised.
    """
    try:
        request = _request_decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise invalid(exc, JobRequest) from exc
    except RecursionError as exc:
        raise InvalidInput("the JSON is nested too deeply; some hundred levels are as deep as it may go",
                           pointer="") from exc
    decoder = _input_decoders.get(request.service)
    if decoder is None:
        raise Forbidden(f"jobs of the service '{request.service}' are not submitted directly; "
                        "log in with POST /v1/auth/login", pointer="/service")
    try:
        return request, decoder.decode(request.input)
    except msgspec.ValidationError as exc:
        raise invalid(exc, INPUTS[request.service], under="/input") from exc


_CHAT_TASKS: dict[Any, str] = {ChatInput: "chat.reply", ChatRegenerate: "chat.regenerate", ChatEdit: "chat.edit"}


def task_name(service: Service, decoded: Any) -> str:
    """Return the Celery task that runs this input, e.g. "cache.put"."""
    if service is Service.MODEL:
        return "model.generate"
    if service is Service.CHAT:
        return _CHAT_TASKS[type(decoded)]
    return f"{service.value}.{decoded.__struct_config__.tag}"


def invalid(exc: msgspec.ValidationError, kind: Any, *, under: str = "") -> InvalidInput:
    """Turn msgspec's message ("Expected `int`, got `str` - at `$.a[0].b`") into ours, with a JSON pointer. `kind` is the
    type that was to be decoded."""
    message, _, path = str(exc).partition(" - at `")
    steps = path.rstrip("`").removeprefix("key in ").removeprefix("$").replace("[", ".").replace("]", "")
    pointer = under + steps.replace(".", "/")
    if message.startswith(_NOT_AMONG) and (allowed := choices(kind, steps.split(".")[1:])):
        message += f"; it must be one of {', '.join(allowed)}"
    if stranger := _UNKNOWN.fullmatch(message):
        message += _HINTS.get(stranger[1], "")
        pointer += "/" + stranger[1].replace("~", "~0").replace("/", "~1")
    return InvalidInput(f"{message}, at {pointer or 'the top level'}", pointer=pointer)
