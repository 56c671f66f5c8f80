"""Conversations, for the OpenAPI document."""

from typing import Any, Literal

import msgspec

from app.api.openapi import parts
from app.api.openapi.parts import Part
from app.conversation_requests import ConversationChange, NewConversation, NewMessage, Regeneration


class TokenUsage(msgspec.Struct):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int


class ConversationObject(msgspec.Struct):
    """A conversation as its caller sees it. `usage` is of all its answers, those included that others have replaced; times
    are RFC 3339 in UTC, and `updated_at` is when it was used last."""

    id: str
    title: str | None
    system: str | None
    created_at: str
    updated_at: str
    turns: int
    usage: TokenUsage


class ConversationPage(msgspec.Struct):
    """The caller's conversations, the last used first; `next_cursor` is null where no more follow."""

    data: list[ConversationObject]
    next_cursor: str | None


class MessageObject(msgspec.Struct):
    """A message. `job_id` is the job that answers, or has answered. A user's message without an assistant's after it is
    being answered. `finish_reason` is null for a user's message, and for an answer kept before it was recorded. `server`
    and `processor` ran the model."""

    id: str
    role: Literal["user", "assistant"]
    content: str
    reasoning_content: str | None
    finish_reason: str | None
    created_at: str
    job_id: str
    server: str | None
    processor: str | None
    model: str | None
    usage: TokenUsage | None


class MessagePage(msgspec.Struct):
    """The messages of a conversation, oldest first; `next_cursor` is null where no more follow."""

    data: list[MessageObject]
    next_cursor: str | None


_ID = parts.path("conversation_id", {"type": "string"})
_PAGE = [parts.query("cursor", {"type": "string"}, "The `next_cursor` of the page before."),
         parts.query("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}, "How many, at most.")]
_NOW = {"200": parts.json("ConversationObject", "The conversation"), **parts.problems(404)}
_CREATED = parts.with_headers(parts.json("ConversationObject", "Begun"), "Location")


def _asking(operation: str, summary: str, body: str, *more: int) -> dict[str, Any]:
    """A route that makes a chat job."""
    return {"post": {"operationId": operation, "summary": summary, "parameters": [_ID, *parts.MAKING],
                     "requestBody": parts.body(body),
                     "responses": {**parts.accepted("JobObject"), **parts.problems(404, 410, *more)}}}


CONVERSATIONS = Part(
    schemas=(NewConversation, ConversationChange, NewMessage, Regeneration, ConversationObject, ConversationPage,
             MessagePage),
    paths={
        "/v1/conversations": {
            "post": {"operationId": "createConversation", "summary": "Begin a conversation",
                     "requestBody": parts.body("NewConversation"), "responses": {"201": _CREATED}},
            "get": {"operationId": "listConversations", "summary": "List the caller's conversations", "parameters": _PAGE,
                    "responses": {"200": parts.json("ConversationPage", "A page of them"), **parts.problems(422)}}},
        "/v1/conversations/{conversation_id}": {
            "get": {"operationId": "readConversation", "summary": "Read a conversation", "parameters": [_ID],
                    "responses": _NOW},
            "patch": {"operationId": "changeConversation", "summary": "Rename a conversation, or change its system prompt",
                      "parameters": [_ID], "requestBody": parts.body("ConversationChange"), "responses": _NOW},
            "delete": {"operationId": "deleteConversation", "summary": "Delete a conversation, with what is said in it",
                       "parameters": [_ID], "responses": {"204": {"description": "It is gone"}, **parts.problems(404)}}},
        "/v1/conversations/{conversation_id}/messages": {
            "get": {"operationId": "listMessages", "summary": "Read the messages of a conversation",
                    "parameters": [_ID, *_PAGE],
                    "responses": {"200": parts.json("MessagePage", "A page of them"), **parts.problems(404, 422)}},
            **_asking("say", "Add a message, and have it answered", "NewMessage")},
        "/v1/conversations/{conversation_id}/regenerate": _asking(
            "regenerate", "Have another answer to the last message, in place of the one there is", "Regeneration", 409),
        "/v1/conversations/{conversation_id}/edit": _asking(
            "edit", "Say something else instead of the last message, and have it answered", "NewMessage", 409)})
