"""The chat service: a turn of a conversation, answered by the model service (`workers.tasks.part`).

What a conversation holds lies where `app.conversations` says. The turn is appended in the same step that records the
result, so a conversation holds an answer if and only if its job succeeded. Where it has outgrown the window of the model,
the model is not shown its oldest turns (`app.window`). After the first answer the model is asked for a title
(`workers.tasks.chat_title`).
"""

import time
from collections.abc import Sequence
from functools import cache

import msgspec
import redis

from app import turns
from app.conversations import Conversation, Conversations, turns_key
from app.errors import Conflict, ConversationDeleted
from app.inputs import ChatEdit, ChatInput, ChatRegenerate, Message, ModelInput, Sampling
from app.job import Job
from app.turns import Turn
from app.window import Window
from workers import resources
from workers.attempt import Answer, Attempt, SlotsTaken
from workers.tasks import job_task
from workers.tasks.chat_title import ask_for_title
from workers.tasks.part import part_ending_with, through_the_model


class _Asked(msgspec.Struct, frozen=True):
    """A question, where it stands: after `before`, and where it `replaces` a turn, in its place."""

    conversation: Conversation
    text: str
    at_ms: int
    before: Sequence[Turn]
    replaces: str | None = None


@job_task("chat.reply")
def reply(attempt: Attempt) -> Answer:
    """Answer a turn, with the turns before it. Result: `text`, `finish_reason`, `model`, `conversation`, `model_job`,
    `dropped_turns`: how many turns the model was not shown."""
    return _in_a_slot(attempt, msgspec.json.decode(attempt.claim.input, type=ChatInput))


@job_task("chat.regenerate")
def regenerate(attempt: Attempt) -> Answer:
    """Answer the last turn again, in place of the answer there is. Result: as of `chat.reply`."""
    return _in_a_slot(attempt, msgspec.json.decode(attempt.claim.input, type=ChatRegenerate))


@job_task("chat.edit")
def edit(attempt: Attempt) -> Answer:
    """Answer another question in place of the last turn. Result: as of `chat.reply`."""
    return _in_a_slot(attempt, msgspec.json.decode(attempt.claim.input, type=ChatEdit))


def _in_a_slot(attempt: Attempt, request: ChatInput | ChatRegenerate) -> Answer:
    slots = resources.held().chat_slots
    if not slots.acquire(blocking=False):
        raise SlotsTaken("the other slots of this worker are kept for the model's part of chats")
    try:
        with part_ending_with(attempt):
            return _answer(attempt, request, _asked(attempt, request))
    finally:
        slots.release()


def _asked(attempt: Attempt, request: ChatInput | ChatRegenerate) -> _Asked:
    """Find what is asked in the conversation as it is now. Raises `ConversationDeleted`, or `Conflict` where there is no
    turn to replace."""
    conversation = _conversations().find(attempt.claim.tenant, request.conversation)
    if conversation is None:
        raise ConversationDeleted(f"the conversation '{request.conversation}' is not there any more, so this turn was not "
                                  "answered; begin another one")
    standing = _conversations().turns(conversation.uid)
    if isinstance(request, ChatInput) and not isinstance(request, ChatEdit):
        return _Asked(conversation, request.message, attempt.claim.created_ms, standing)
    if not standing:
        raise Conflict("no turn of this conversation has been answered, so there is none to replace")
    *before, last = standing
    if isinstance(request, ChatEdit):
        return _Asked(conversation, request.message, attempt.claim.created_ms, before, last.id)
    return _Asked(conversation, last.user, last.asked_ms, before, last.id)


def _answer(attempt: Attempt, request: ChatInput | ChatRegenerate, asked: _Asked) -> Answer:
    conversation = asked.conversation
    shown = _window().fitting(turns.history(asked.before), Message(role="user", content=asked.text),
                              max_tokens=request.max_tokens, system=conversation.system or None)
    sampling = {name: getattr(request, name) for name in Sampling.__struct_fields__}
    part = through_the_model(attempt, ModelInput(messages=shown.messages, **sampling),
                             anew=isinstance(request, ChatRegenerate))
    result = msgspec.json.decode(part.result or b"{}")
    turn = _turn(attempt, asked, part, result, shown.dropped_turns)
    _conversations().touch(attempt.claim.tenant, conversation.name)
    if turn.totals.turns == 1 and not conversation.title and attempt.node.settings.titles:
        ask_for_title(attempt, conversation, turn)
    return Answer(
        result={**result, "conversation": conversation.name, "model_job": part.id, "dropped_turns": shown.dropped_turns},
        usage=msgspec.json.decode(part.usage) if part.usage else None,
        append=(turns_key(conversation.uid), [msgspec.json.encode(turn)]))


def _turn(attempt: Attempt, asked: _Asked, part: Job, result: dict[str, str], dropped_turns: int) -> Turn:
    usage = msgspec.json.decode(part.usage or b"{}")
    spent = {name: usage.get(name, 0) for name in ("prompt_tokens", "completion_tokens")}
    return Turn(
        id=attempt.claim.id, asked_ms=asked.at_ms, answered_ms=part.finished_ms or round(time.time() * 1000),
        user=asked.text, reply=result["text"], reasoning=result.get("reasoning_content"), model=result["model"],
        finish_reason=result["finish_reason"], replaces=asked.replaces, server=part.server, processor=part.processor,
        dropped_turns=dropped_turns, **spent,
        totals=turns.totals(asked.conversation.totals, replaced=asked.replaces is not None, **spent))


@cache
def _window_on(client: redis.Redis) -> Window:
    return Window(client)


def _window() -> Window:
    return _window_on(resources.held().client)


@cache
def _conversations_on(client: redis.Redis) -> Conversations:
    return Conversations(client)


def _conversations() -> Conversations:
    return _conversations_on(resources.held().client)
