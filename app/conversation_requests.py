"""The bodies of the conversations' routes, and the inputs of the chat service that they stand for."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from app.inputs import LONGEST_DEADLINE_S, ChatEdit, ChatInput, ChatRegenerate, Sampling
from app.job import Lane
from app.messages import Input

_Title = Annotated[str, Meta(max_length=200)]
_System = Annotated[str, Meta(max_length=32_768)]


class NewConversation(Input, kw_only=True):
    """A conversation to begin. One without a title gets one from the model after its first answer. `system` says how the
    model is to behave; it is shown before each turn."""

    title: _Title = ""
    system: _System = ""


class ConversationChange(Input, kw_only=True):
    """What is to be different; what is left out stays."""

    title: _Title | UnsetType = UNSET
    system: _System | UnsetType = UNSET


class Regeneration(Sampling, kw_only=True):
    """How another answer is wanted."""

    lane: Lane = Lane.STANDARD
    deadline_s: Annotated[float, Meta(gt=0, le=LONGEST_DEADLINE_S)] | None = None
    webhook_url: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None


class NewMessage(Regeneration, kw_only=True):
    """What the user says, and how an answer is wanted."""

    content: Annotated[str, Meta(min_length=1)]


def said(name: str, body: NewMessage) -> ChatInput:
    """Return the input for a new turn."""
    return ChatInput(conversation=name, message=body.content, **_sampling(body))


def edited(name: str, body: NewMessage) -> ChatEdit:
    """Return the input for a turn in place of the last one."""
    return ChatEdit(conversation=name, message=body.content, **_sampling(body))


def regenerated(name: str, body: Regeneration) -> ChatRegenerate:
    """Return the input for another answer to the last turn."""
    return ChatRegenerate(conversation=name, **_sampling(body))


def _sampling(body: Sampling) -> dict[str, Any]:
    return {name: getattr(body, name) for name in Sampling.__struct_fields__}
