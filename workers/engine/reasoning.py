"""Tells what a model thinks from what it answers, where both come as one text: `<think>...</think>answer`.

Pure, and incremental: the text may be cut into pieces anywhere. What might be the beginning of a tag is held back until
the next piece tells, so that nothing said has ever to be taken back.
"""

from enum import Enum, auto

from workers.engine import Channel

_OPEN, _CLOSE = "<think>", "</think>"

#: A piece of text and what it belongs to. Never empty.
Said = tuple[Channel, str]


class _Part(Enum):
    """Where in the answer we are: they follow each other in this order, and the two in the middle may be left out."""

    START = auto()  # nothing but whitespace, or a beginning of <think>
    REASONING = auto()
    GAP = auto()  # the newlines after </think>
    CONTENT = auto()


class ReasoningSplitter:
    """Splits one answer.

    `<think>` counts at the very start of the answer only, after whitespace at most; a `</think>` without it is text. With
    `thinking` the answer begins inside the block, as where a chat template ends with `<think>` (DeepSeek-R1's does); a
    `<think>` that the model says all the same is taken for the same one. The tags are left out, as are the whitespace
    before `<think>` and the newlines right after `</think>`; every other character is said once. Reasoning that never ends
    is reasoning.
    """

    def __init__(self, *, thinking: bool) -> None:
        self._thinking = thinking
        self._part = _Part.START
        self._held = ""

    def feed(self, piece: str) -> list[Said]:
        """Take the next piece of the text; return what is certain now, in order."""
        self._held += piece
        said: list[Said] = []
        if self._part is _Part.START:
            self._begin()
        if self._part is _Part.REASONING and (thought := self._think()):
            said.append((Channel.REASONING, thought))
        if self._part is _Part.GAP:
            self._held = self._held.lstrip("\n")
            if self._held:
                self._part = _Part.CONTENT
        if self._part is _Part.CONTENT and self._held:
            said.append((Channel.CONTENT, self._held))
            self._held = ""
        return said

    def finish(self) -> list[Said]:
        """The text has ended: return what was held back. What looked like a tag was none."""
        thinks = self._part is _Part.REASONING or (self._part is _Part.START and self._thinking)
        rest, self._held = self._held, ""
        return [(Channel.REASONING if thinks else Channel.CONTENT, rest)] if rest else []

    def _begin(self) -> None:
        """Leave the start as soon as it is certain what follows it."""
        bare = self._held.lstrip()
        if bare.startswith(_OPEN):
            self._part, self._held = _Part.REASONING, bare[len(_OPEN):]
        elif not _OPEN.startswith(bare):
            self._part = _Part.REASONING if self._thinking else _Part.CONTENT

    def _think(self) -> str:
        """Return the reasoning that is certain, and leave it where it ends."""
        thought, close, rest = self._held.partition(_CLOSE)
        if close:
            self._part, self._held = _Part.GAP, rest
            return thought
        kept = next(size for size in range(len(_CLOSE) - 1, -1, -1) if thought.endswith(_CLOSE[:size]))
        self._held = thought[len(thought) - kept:]
        return thought[:len(thought) - kept]
