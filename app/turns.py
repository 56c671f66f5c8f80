"""The turns of a conversation: what was asked and what was answered, as they are kept, and what they amount to.

A conversation keeps one element for each answer, and elements are only ever added. An answer that takes the place of
another names it, so what a conversation says now is found by going through all (`standing`).
"""

from collections.abc import Iterable

import msgspec

from app import logs
from app.messages import Message


class Totals(msgspec.Struct, frozen=True):
    """What a conversation has come to with a turn: turns that stand, and tokens of all its answers, replaced ones too."""

    turns: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Turn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question and its answer. `server` and `processor` ran the model. Times are Unix milliseconds."""

    id: str  # that of the chat job which answered it
    asked_ms: int
    answered_ms: int
    user: str
    reply: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    totals: Totals
    reasoning: str | None = None
    finish_reason: str | None = None  # older turns do not say
    replaces: str | None = None  # the turn whose place it takes
    server: str | None = None
    processor: str | None = None
    dropped_turns: int = 0  # those that the model was not shown


_decoder = msgspec.json.Decoder(Turn)


def read(elements: Iterable[bytes]) -> list[Turn]:
    """Return the turns that stand, oldest first, of the elements that a conversation keeps."""
    return standing(_decoder.decode(element) for element in elements)


def standing(turns: Iterable[Turn]) -> list[Turn]:
    """Return the turns that no later one replaced, oldest first. Only the last one can be replaced: the jobs of a
    conversation run one at a time, and one that took another for the last is not kept."""
    found: list[Turn] = []
    for turn in turns:
        if turn.replaces is None:
            found.append(turn)
        elif found and found[-1].id == turn.replaces:
            found[-1] = turn
        else:
            logs.event("turn_out_of_place", turn=turn.id, replaces=turn.replaces)
    return found


def totals(before: Totals, *, replaced: bool, prompt_tokens: int, completion_tokens: int) -> Totals:
    """Return what a conversation has come to with one more answer."""
    return Totals(turns=before.turns + (0 if replaced else 1), prompt_tokens=before.prompt_tokens + prompt_tokens,
                  completion_tokens=before.completion_tokens + completion_tokens)


def history(turns: Iterable[Turn]) -> list[Message]:
    """Return the turns as a model is shown them. Reasoning is left out, as DeepSeek asks."""
    return [message for turn in turns for message in (
        Message(role="user", content=turn.user), Message(role="assistant", content=turn.reply))]
