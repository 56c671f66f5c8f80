"""Turns one request's tokens into text as they come.

A character may take several tokens, a stop string may lie across them, and a model's thinking ends with a tag: so text is
told only once nothing that follows can change it.
"""

from collections.abc import Callable, Sequence

from workers.engine import Channel, Tell
from workers.engine.reasoning import ReasoningSplitter

_BROKEN = "\N{REPLACEMENT CHARACTER}"  # what bytes decode to that are not yet a whole character
_LONGEST_WINDOW = 8  # tokens
_LONGEST_CHARACTER = 16  # tokens; what is still broken after so many is broken for good

Decode = Callable[[Sequence[int]], str]


class Text:
    """The text of one answer."""

    def __init__(self, decode: Decode, stops: Sequence[str], tell: Tell, splitter: ReasoningSplitter | None) -> None:
        self._decode = decode
        self._stops = stops
        self._tell = tell
        self._splitter = splitter
        self._tokens: list[int] = []
        self._window = 0  # the first of the tokens that the newest are decoded with, as some read otherwise at a beginning
        self._read = 0  # the first of those whose text is not out
        self._before = ""  # the text from the one to the other
        self._held = ""  # text that may be the beginning of a stop string
        self.said = {Channel.REASONING: "", Channel.CONTENT: ""}
        self.stopped = False

    def add(self, token: int) -> None:
        """Take a token. Sets `stopped` when a stop string is complete; it and what follows it are not told."""
        self._tokens.append(token)
        self._emit(self._fresh())

    def finish(self) -> None:
        """Tell what was held back."""
        if not self.stopped:
            self._emit(self._fresh(whole=True))
            self._out(self._held)
        if self._splitter is not None:
            for channel, piece in self._splitter.finish():
                self._say(channel, piece)

    def _fresh(self, *, whole: bool = False) -> str:
        """Return the text of the tokens that are not out yet, "" while it ends in the middle of a character."""
        after, out = self._decode(self._tokens[self._window:]), len(self._before)
        incomplete = after.endswith(_BROKEN) or len(after) <= out
        if incomplete and not whole and len(self._tokens) - self._read < _LONGEST_CHARACTER:
            return ""
        before, self._read = self._read, len(self._tokens)
        if self._read - self._window > _LONGEST_WINDOW:
            self._window = before
        self._before = self._decode(self._tokens[before:]) if self._window == before else after
        return after[out:]

    def _emit(self, piece: str) -> None:
        if not piece or self.stopped:
            return
        text = self._held + piece
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            self._held = ""
            _, at = min(found)  # the first to be complete, so that nothing hangs on how the text is cut into tokens
            self._out(text[:at])
            return
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep:]
        self._out(text[:len(text) - keep])

    def _out(self, text: str) -> None:
        if self._splitter is None:
            self._say(Channel.CONTENT, text)
        elif text:
            for channel, piece in self._splitter.feed(text):
                self._say(channel, piece)

    def _say(self, channel: Channel, piece: str) -> None:
        if piece:
            self.said[channel] += piece
            self._tell(channel, piece)


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` are a beginning of `stop`, less than the whole."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
