"""What the model is shown of a conversation fits its window, and is as much as fits."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from app.context import fitting
from app.messages import Message

ASKED = Message(role="user", content="and now?")


def counted(messages: Sequence[Message]) -> int:
    return sum(len(str(message.content)) for message in messages)


def history_of(pairs: Sequence[tuple[str, str]]) -> list[Message]:
    return [said for user, reply in pairs
            for said in (Message(role="user", content=user), Message(role="assistant", content=reply))]


texts = st.text("ab", min_size=1, max_size=12)
pairs = st.lists(st.tuples(texts, texts), max_size=12)


@given(pairs=pairs, system=st.none() | texts, room=st.integers(0, 250))
def test_the_longest_end_of_whole_turns_that_fits_is_shown(
        pairs: list[tuple[str, str]], system: str | None, room: int) -> None:
    leading = [Message(role="system", content=system)] if system else []
    candidates = [[*leading, *history_of(pairs[dropped:]), ASKED] for dropped in range(len(pairs) + 1)]
    dropped = next((n for n, shown in enumerate(candidates) if counted(shown) <= room), len(pairs))

    context = fitting(history_of(pairs), ASKED, system=system, room=room, count=counted)

    assert (context.messages, context.dropped_turns) == (candidates[dropped], dropped)


@given(pairs=pairs)
def test_where_the_window_is_not_known_everything_is_shown(pairs: list[tuple[str, str]]) -> None:
    context = fitting(history_of(pairs), ASKED, room=None, count=counted)

    assert (context.messages, context.dropped_turns) == ([*history_of(pairs), ASKED], 0)
