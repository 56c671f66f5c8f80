"""What the services answer with, for the OpenAPI document."""

from typing import Any

import msgspec


class Logprobs(msgspec.Struct):
    """How likely each token of the answer was, in OpenAI's form."""

    content: list[dict[str, Any]]


class ModelResult(msgspec.Struct):
    """An answer of the model service. `finish_reason` is `stop` or `length`; `reasoning_content` is there where the model
    thought aloud, `logprobs` where they were asked for."""

    text: str
    finish_reason: str
    model: str
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    logprobs: Logprobs | msgspec.UnsetType = msgspec.UNSET


class ChatResult(ModelResult, kw_only=True):
    """A reply of the chat service, and the job of the model service that wrote it."""

    conversation: str
    model_job: str
    dropped_turns: int


class CachePutResult(msgspec.Struct):
    """A value was kept, in so many bytes."""

    stored: bool
    bytes: int


class CacheGetResult(msgspec.Struct):
    """A value, and how long it is kept on."""

    found: bool
    value: Any
    ttl_s: float | None


class CacheDeleteResult(msgspec.Struct):
    """Whether there was a value to forget."""

    deleted: bool


class CacheInvalidateResult(msgspec.Struct):
    """The caller's answers were forgotten."""

    invalidated: bool


class CacheWarmResult(msgspec.Struct):
    """How many requests were submitted, were known already, and cannot be kept."""

    submitted: int
    known: int
    unfit: int


class QueuePublishResult(msgspec.Struct):
    """A message was appended under this id."""

    id: str


class QueueReadResult(msgspec.Struct):
    """Messages of a topic, each with its `id` and `message`, and where to read on."""

    messages: list[dict[str, Any]]
    next: str


RESULTS = (ChatResult, ModelResult, CachePutResult, CacheGetResult, CacheDeleteResult, CacheInvalidateResult,
           CacheWarmResult, QueuePublishResult, QueueReadResult)
