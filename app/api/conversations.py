"""Conversations over HTTP: begin, list, change and delete them. What is said in them: `app.api.conversation_turns`."""

import uuid
from contextlib import suppress
from typing import Any

import msgspec
from flask import Blueprint, Response, request

from app.accounts import Scope
from app.api import bodies, caller, conversation_turns, paging
from app.conversation_requests import ConversationChange, NewConversation
from app.conversations import Conversation
from app.errors import JobGone, JobUnknown, NotFound
from app.job import timestamp

blueprint = Blueprint("conversations", __name__, url_prefix="/v1/conversations")
blueprint.register_blueprint(conversation_turns.blueprint)


@blueprint.post("")
def create() -> Response:
    """Begin a conversation: 201."""
    who = caller.current(Scope.CHAT)
    body, name = bodies.decode(bodies.json_body(), NewConversation), str(uuid.uuid4())
    bodies.gateway().conversations.begin(who.tenant, name, title=body.title, system=body.system)
    return bodies.json_response(_public(_found(who.tenant, name)), 201, [("Location", f"/v1/conversations/{name}")])


@blueprint.get("")
def index() -> Response:
    """Return the caller's conversations, the last used first, a page at a time."""
    who = caller.current(Scope.CHAT)
    found, cursor = bodies.gateway().conversations.page(
        who.tenant, before=request.args.get("cursor", ""), limit=paging.limit())
    return bodies.json_response({"data": [_public(each) for each in found], "next_cursor": cursor})


@blueprint.get("/<conversation_id>")
def read(conversation_id: str) -> Response:
    """Return a conversation; its messages have a route of their own."""
    who = caller.current(Scope.CHAT)
    return bodies.json_response(_public(_found(who.tenant, conversation_id)))


@blueprint.patch("/<conversation_id>")
def change(conversation_id: str) -> Response:
    """Give a conversation another title or system prompt, and return it."""
    who = caller.current(Scope.CHAT)
    body = msgspec.to_builtins(bodies.decode(bodies.json_body(), ConversationChange))
    if not bodies.gateway().conversations.change(who.tenant, conversation_id, **body):
        raise _missing(conversation_id)
    return bodies.json_response(_public(_found(who.tenant, conversation_id)))


@blueprint.delete("/<conversation_id>")
def delete(conversation_id: str) -> Response:
    """Delete a conversation: what waits or runs for it is cancelled, and what was said in it is gone. 204."""
    who = caller.current(Scope.CHAT)
    conversation = _found(who.tenant, conversation_id)
    _cancel_all(who.tenant, conversation_id)
    conversations = bodies.gateway().conversations
    conversations.forget(who.tenant, conversation)
    if _cancel_all(who.tenant, conversation_id):  # accepted just before it was forgotten; one may have ended just now
        conversations.forget(who.tenant, conversation)
    return bodies.WholeResponse(status=204)


def _cancel_all(tenant: str, name: str) -> int:
    """Cancel what waits or runs for a conversation, the last first, so that none begins meanwhile; return how many."""
    gateway = bodies.gateway()
    ids = gateway.conversations.live_jobs(tenant, name)
    for job_id in reversed(ids):
        with suppress(JobUnknown, JobGone):
            gateway.ledger.cancel(job_id, tenant)
    return len(ids)


def _found(tenant: str, name: str) -> Conversation:
    found = bodies.gateway().conversations.find(tenant, name)
    if found is None:
        raise _missing(name)
    return found


def _missing(name: str) -> NotFound:
    return conversation_turns.missing(name)


def _public(found: Conversation) -> dict[str, Any]:
    """Return a conversation as its caller sees it."""
    return {"id": found.name, "title": found.title or None, "system": found.system or None,
            "created_at": timestamp(found.created_ms), "updated_at": timestamp(found.updated_ms),
            "turns": found.totals.turns,
            "usage": {"prompt_tokens": found.totals.prompt_tokens, "completion_tokens": found.totals.completion_tokens}}
