"""Picks what of a conversation the model is shown, so that the prompt and the answer fit its window.

The system prompt and the question always stay. Of the rest the oldest turns go first, and a turn goes whole: what the user
asked with everything that answered it. Counting is the caller's (`app.token_count`), so this knows no tokenizer. Whether
even the question alone fits is left to the gateway and the engine, which refuse it.
"""

from collections.abc import Callable, Sequence

import msgspec

from app.messages import Message


class Context(msgspec.Struct, frozen=True):
    """What the model is shown, and how many turns it is not shown."""

    messages: list[Message]
    dropped_turns: int


def fitting(history: Sequence[Message], asked: Message, *, system: str | None = None, room: int | None,
            count: Callable[[Sequence[Message]], int]) -> Context:
    """Return the longest end of the history that fits `room` tokens together with the system prompt and the question, all
    of it where `room` is None. `count` tells the tokens of messages, and must not fall as turns are put before others."""
    leading = [Message(role="system", content=system)] if system else []
    turns = turns_of(history)

    def shown(dropped: int) -> list[Message]:
        return [*leading, *(message for turn in turns[dropped:] for message in turn), asked]

    if room is None or count(shown(0)) <= room:
        return Context(shown(0), 0)
    too_few, enough = 0, len(turns)  # dropping `too_few` turns is not enough; all of them is the most there is
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if count(shown(middle)) <= room:
            enough = middle
        else:
            too_few = middle
    return Context(shown(enough), enough)


def turns_of(history: Sequence[Message]) -> list[list[Message]]:
    """Split a history into turns: each begins with what the user said."""
    turns: list[list[Message]] = []
    for message in history:
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return turns
