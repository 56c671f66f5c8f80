"""Speaks for one run: what its engine tells becomes words for home.

The end carries the whole answer, so text may stay unsaid: what is told last, what cannot be written as UTF-8, and what
piles up while MNS is away. What follows a gap would never be shown at home, so after one the run is mute until its end.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby

from app import logs
from routing.cloud.words import Alive, Began, Said, Word, short
from workers.cloud.packing import split
from workers.engine import Channel

_MOST_UNSAID = 262_144  # characters kept of one run, some 20 MB with what Python adds to each token


class Speaker:
    """Holds what a run has told and not said. `want` is called when there is something to say."""

    __slots__ = ("_began", "_end", "_mute", "_names", "_position", "_taken", "_told", "_told_length", "_want", "delivered",
                 "dropped", "lost")

    def __init__(self, job: str, ticket: str, run: str, want: Callable[[], None]) -> None:
        self._names = {"job": job, "ticket": ticket, "run": run}
        self._want = want
        self._told: deque[tuple[Channel, str]] = deque()
        self._told_length = 0  # characters that the engine told; only its thread counts them
        self._taken = 0  # of these, taken to be said; only the courier's thread counts them
        self._position = 0  # characters said
        self._began = False
        self._mute = False
        self._end: Sequence[Word] | None = None
        self.delivered = threading.Event()  # MNS has taken the end, or never will
        self.lost = False  # it never will
        self.dropped = False  # nobody wants to hear of the run any more

    def tell(self, channel: Channel, text: str) -> None:
        """Take a piece of the answer; for the engine's thread."""
        if self._mute or not text:
            return
        self._told.append((channel, text))
        self._told_length += len(text)
        if (unsaid := self._told_length - self._taken) > _MOST_UNSAID:
            self.hush(f"{unsaid} characters wait to be sent")
        self._want()

    def hush(self, why: str) -> None:
        """Say no more until the end."""
        if not self._mute:
            self._mute = True
            logs.event("speech_dropped", level=logging.WARNING, job=self._names["job"], run=short(self._names["run"]),
                       why=why)

    def end(self, words: Sequence[Word]) -> None:
        """The run is over; these say how."""
        self._end = words
        self._want()

    def take(self, *, beat: bool) -> tuple[list[Word], bool]:
        """Return what to say now, and whether that ends with the run's end; with `beat`, that the run lives, too. For the
        courier's thread."""
        words: list[Word] = [] if self._began else [Began(**self._names)]
        self._began = True
        if (end := self._end) is not None:
            return [*words, *end], True
        words += self._pieces()
        return ([*words, Alive(**self._names)] if beat else words), False

    def _pieces(self) -> list[Word]:
        told = [self._told.popleft() for _ in range(len(self._told))]
        self._taken += sum(len(text) for _, text in told)
        words: list[Word] = []
        if self._mute:
            return words
        for channel, group in groupby(told, key=lambda each: each[0]):
            for text in split("".join(text for _, text in group)):
                try:
                    text.encode()
                except UnicodeEncodeError as exc:
                    self.hush(f"text that cannot be written as UTF-8: {exc.reason}")
                    return words
                words.append(Said(**self._names, start=self._position, voice=channel.value, text=text))
                self._position += len(text)
        return words
