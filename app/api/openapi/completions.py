"""The OpenAI-compatible routes, for the OpenAPI document. Their errors are in OpenAI's form."""

from typing import Any

import msgspec

from app.api.models import ModelList, ModelObject
from app.api.openapi import parts
from app.api.openapi.parts import Part
from app.api.openapi.results import Logprobs
from app.completion_request import CompletionRequest
from app.messages import ToolCall


class OpenAIError(msgspec.Struct):
    """What is wrong. `param` is the member at fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrorBody(msgspec.Struct):
    """An error in OpenAI's form."""

    error: OpenAIError


class CompletionMessage(msgspec.Struct):
    """An answer. `reasoning_content` is there where the model thought aloud, `tool_calls` where it calls tools."""

    role: str
    content: str | None
    refusal: None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[ToolCall] | msgspec.UnsetType = msgspec.UNSET


class CompletionChoice(msgspec.Struct):
    """One of `n` answers. `finish_reason` is `stop`, `length` or `tool_calls`."""

    index: int
    message: CompletionMessage
    logprobs: Logprobs | None
    finish_reason: str


class PromptTokensDetails(msgspec.Struct):
    """Tokens of the prompt that were not computed again."""

    cached_tokens: int


class CompletionUsage(msgspec.Struct):
    """Tokens of all choices; the prompt is counted once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class ChatCompletion(msgspec.Struct):
    """A chat completion."""

    id: str
    object: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage


def _errors(*statuses: int) -> dict[str, Any]:
    return {str(status): parts.json("OpenAIErrorBody", "An error") for status in statuses}


_DESCRIPTION = """As OpenAI's, over the same queues as jobs, in the lane `interactive`: a job for each choice, cancelled
when the client closes its connection. A request that waits for more than three seconds is answered with status 200 and
blank lines until the answer, or an error's body, is there; a stream has `: keep-alive` comments, and an error comes as
its last event, `{"error": ...}`. `tool_choice` other than `auto` and `none`, and `response_format`, are told to the
model in words; an answer that should be JSON and is not is the error `answer_not_json`. The content of a JSON answer
comes in one piece, log probabilities in the last chunk of a choice. If a worker is lost in mid-stream, the stream goes
on where the new answer agrees with what was sent, else it ends with the error `stream_diverged`."""

_NAME = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"},
         "description": "A model's name, or `default`."}

COMPLETIONS = Part(
    schemas=(CompletionRequest, ChatCompletion, ModelList, ModelObject, OpenAIErrorBody),
    paths={
        "/v1/chat/completions": {"post": {
            "operationId": "createChatCompletion", "summary": "Answer a conversation, as OpenAI's API does",
            "description": _DESCRIPTION, "parameters": [parts.IDEMPOTENCY, parts.CANCEL_AFTER, parts.TRACEPARENT],
            "requestBody": parts.body("CompletionRequest"),
            "responses": {
                "200": {"description": "The completion, whole or as a stream", "content": {
                    "application/json": {"schema": {"anyOf": [parts.ref("ChatCompletion"), parts.ref("OpenAIErrorBody")]}},
                    "text/event-stream": {"schema": parts.ref("ServerSentEvent")}}},
                "422": None, **_errors(400, 401, 403, 404, 408, 409, 410, 413, 415, 429, 500, 502, 504),
                "503": {**_errors(503)["503"], "description": parts.NOT_TAKEN}}}},
        "/v1/models": {"get": {
            "operationId": "listModels", "summary": "List the models served",
            "responses": {"200": parts.json("ModelList", "The models"), **_errors(401, 403, 503)}}},
        "/v1/models/{model}": {"get": {
            "operationId": "readModel", "summary": "Read a model", "parameters": [_NAME],
            "responses": {"200": parts.json("ModelObject", "The model"), **_errors(401, 403, 404, 503)}}},
    })
