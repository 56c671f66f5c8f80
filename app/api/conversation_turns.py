"""What is said in a conversation, over HTTP: say something, have another answer, read the messages.

Each question is a job of the chat service, in the line of its conversation: which turn is the last, and so is the one to be
replaced, is found when the job runs.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from flask import Blueprint, Response

from app.accounts import Scope
from app.api import bodies, caller, paging, submission
from app.conversation_requests import NewMessage, Regeneration, edited, regenerated, said
from app.conversations import Conversations, line_of
from app.errors import Conflict, NotFound, PromptTooLong
from app.inputs import ChatInput, ChatRegenerate
from app.job import Job, Service, timestamp
from app.turns import Turn

blueprint = Blueprint("conversation_turns", __name__)


@blueprint.post("/<conversation_id>/messages")
def say(conversation_id: str) -> Response:
    """Add a turn: the job that answers it."""
    who = caller.current(Scope.CHAT)
    body = bodies.decode(bodies.json_body(), NewMessage)
    return _asked(who, said(conversation_id, body), body, check=_touched)


@blueprint.post("/<conversation_id>/regenerate")
def regenerate(conversation_id: str) -> Response:
    """Have another answer to the last turn, in place of the one there is."""
    who = caller.current(Scope.CHAT)
    body = bodies.decode(bodies.json_body(), Regeneration)
    return _asked(who, regenerated(conversation_id, body), body, check=_with_a_turn)


@blueprint.post("/<conversation_id>/edit")
def edit(conversation_id: str) -> Response:
    """Say something else instead of the last turn, whose answer goes with it."""
    who = caller.current(Scope.CHAT)
    body = bodies.decode(bodies.json_body(), NewMessage)
    return _asked(who, edited(conversation_id, body), body, check=_with_a_turn)


@blueprint.get("/<conversation_id>/messages")
def messages(conversation_id: str) -> Response:
    """Return the messages, oldest first, a page at a time; last those which are not answered yet."""
    who = caller.current(Scope.CHAT)
    limit, offset = paging.limit(), paging.offset()
    gateway = bodies.gateway()
    found = gateway.conversations.find(who.tenant, conversation_id)
    if found is None:
        raise missing(conversation_id)
    ids = gateway.conversations.live_jobs(who.tenant, conversation_id)  # before the turns: what ends meanwhile is in these
    live = gateway.ledger.read_all(ids, who.tenant) if ids else []
    told = list(_told(gateway.conversations.turns(found.uid), [job for job in live if job]))
    rest = len(told) > offset + limit
    return bodies.json_response({"data": told[offset:offset + limit], "next_cursor": str(offset + limit) if rest else None})


def missing(name: str) -> NotFound:
    """Say that the caller has no such conversation."""
    return NotFound(f"there is no conversation '{name[:60]}' of yours; POST /v1/conversations begins one")


def _asked(who: caller.Caller, decoded: ChatInput | ChatRegenerate, body: Regeneration, *,
           check: Callable[[str, str], object]) -> Response:
    """Submit the job that answers, and answer with it. `check` looks whether the conversation is there, which leaves its
    mark, and so comes last."""
    try:
        job = submission.new_job(
            who, Service.CHAT, decoded, msgspec.json.encode(decoded), lane=body.lane, deadline_s=body.deadline_s,
            digested=[type(decoded).__name__, decoded.conversation, body], webhook_url=body.webhook_url,
            line=line_of(who.tenant, decoded.conversation))
    except PromptTooLong as exc:
        raise PromptTooLong(str(exc), pointer="/content") from exc
    check(who.tenant, decoded.conversation)
    return submission.answer(job)


def _touched(tenant: str, name: str) -> Conversations:
    conversations = bodies.gateway().conversations
    if not conversations.touch(tenant, name):
        raise missing(name)
    return conversations


def _with_a_turn(tenant: str, name: str) -> None:
    """Refuse where nothing has been said, nor is about to be. Raises `Conflict`."""
    conversations = _touched(tenant, name)
    live = conversations.live_jobs(tenant, name)  # first: what ends meanwhile has left its turn
    found = conversations.find(tenant, name)
    if found is None:
        raise missing(name)
    if not live and not found.totals.turns:
        raise Conflict("nothing has been said in this conversation yet, so there is no turn to replace")


def _told(turns: Sequence[Turn], live: Sequence[Job]) -> Iterator[dict[str, Any]]:
    """Tell the turns that stand, then those which wait for their answer. One that is to replace the last takes its place at
    once."""
    answered = {turn.id for turn in turns}
    waiting = [job for job in live if job.id not in answered and not job.state.terminal]
    kept, asked = list(turns), list[tuple[Job, str]]()
    for job in waiting:
        message = msgspec.json.decode(job.input).get("message")
        if job.task != "chat.reply":
            before = asked.pop()[1] if asked else kept.pop().user if kept else None
            message = message if message is not None else before
        if message is not None:
            asked.append((job, message))
    for turn in kept:
        usage = {"prompt_tokens": turn.prompt_tokens, "completion_tokens": turn.completion_tokens}
        yield _message(turn.id, "user", turn.user, turn.asked_ms)
        yield _message(turn.id, "assistant", turn.reply, turn.answered_ms, reasoning_content=turn.reasoning,
                       finish_reason=turn.finish_reason, server=turn.server, processor=turn.processor, model=turn.model,
                       usage=usage)
    for job, message in asked:
        yield _message(job.id, "user", message, job.created_ms)


def _message(job_id: str, role: str, content: str, at_ms: int, **more: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("reasoning_content", "finish_reason", "server", "processor", "model", "usage"))
    return {"id": f"{job_id}.{role}", "role": role, "content": content, "created_at": timestamp(at_ms), "job_id": job_id,
            **nothing, **more}
