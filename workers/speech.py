"""Speaks for the running attempts: what their engine tells goes to the ledger, and from there to those who follow.

An engine tells from its own thread, a token at a time, and must not wait. So what it tells is gathered, and one thread
sends what all attempts have said, a few dozen times a second in one call. An attempt is spoken for once it has lived for
that long, first of all with the word that it was started: a shorter job says nothing, and costs nothing. Its text is in
its result.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import groupby

import redis

from app import logs
from app.errors import StoreUnavailable
from app.ledger import Claim, Ledger, Piece, Saying, Voice
from workers.engine import Channel, Tell

#: How long text is gathered between two calls. A call for 16 attempts takes 0.4 ms of this process's time, most of it per
#: call, and 0.3 ms of Redis's; this way that is about a hundredth of each, and people see no difference below some 50 ms.
_GATHER_S = 0.03
_SETTLE_S = 0.003  # what comes after a pause goes at once, but for the other tokens of the same step
_PAUSE_S = 0.5  # between two tries to reach Redis

_NOT_SAID = (StoreUnavailable, ValueError)  # the second for text that is none, such as half of a surrogate pair


def _is_away(exc: Exception) -> bool:
    """Whether Redis gave no answer, and so not the answer that something cannot be said."""
    return isinstance(exc, StoreUnavailable) and not isinstance(exc.__cause__, redis.exceptions.ResponseError)


class Speaker(AbstractContextManager[Tell]):
    """Speaks for one attempt: holds what it has told and not said yet."""

    __slots__ = ("_position", "_speech", "_started", "_told", "began_s", "claim", "ended", "mute", "refused")

    def __init__(self, speech: "Speech", claim: Claim) -> None:
        self.claim = claim
        self.began_s = time.monotonic()
        self.ended = False  # its answer is about to be settled: nothing more is to be said
        self.refused = False
        self.mute = False  # it told what cannot be said, and what comes after would lack that
        self._speech = speech
        self._told: deque[tuple[Channel, str]] = deque()
        self._started = False
        self._position = 0

    def __enter__(self) -> Tell:
        self._speech.begin(self)
        return self.tell

    def __exit__(self, *_: object) -> None:
        self.ended = True
        self._speech.end(self)

    def tell(self, channel: Channel, text: str) -> None:
        """Take a piece, from any thread."""
        self._told.append((channel, text))
        self._speech.want()

    def take(self) -> list[Saying]:
        """Return what to say now, as few pieces as may be. Called by the thread that sends only."""
        told = [self._told.popleft() for _ in range(len(self._told))]
        pieces = [] if self._started else [Piece(self.claim.attempt, 0, Voice.STARTED, "")]
        self._started = True
        for channel, run in groupby(told, key=lambda each: each[0]):
            if text := "".join(text for _, text in run):
                self._position += len(text)
                pieces.append(Piece(self.claim.attempt, self._position, Voice(channel.value), text))
        return [Saying(self.claim, piece) for piece in pieces]


class Speech:
    """Sends what the attempts of this process say. `lose` is called with a claim that proves to be ours no more."""

    def __init__(self, ledger: Ledger, lose: Callable[[Claim], None]) -> None:
        self._ledger = ledger
        self._lose = lose
        self._speakers: dict[str, Speaker] = {}  # by owner: an earlier attempt at the same job may be on its way out
        self._unsent: list[tuple[Speaker, Saying]] = []
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def of(self, claim: Claim) -> Speaker:
        """Speak for an attempt. What it has told last may stay unsaid: the answer that it comes to has it too."""
        return Speaker(self, claim)

    def begin(self, speaker: Speaker) -> None:
        """An attempt begins to speak."""
        with self._lock:
            self._speakers[speaker.claim.owner] = speaker
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_for_ever, name="tandem-speech", daemon=True)
                self._thread.start()
        self.want()

    def end(self, speaker: Speaker) -> None:
        """An attempt has no more to say."""
        with self._lock:
            del self._speakers[speaker.claim.owner]

    def want(self) -> None:
        """There is something to say."""
        if not self._wanted.is_set():  # mostly it is; setting it again would take a lock
            self._wanted.set()

    def stop(self) -> None:
        """Say nothing more."""
        self._stopping.set()
        self._wanted.set()

    def _send_for_ever(self) -> None:
        sent_s = 0.0
        while not self._stopping.is_set():
            self._wanted.wait()
            self._stopping.wait(max(sent_s + _GATHER_S - time.monotonic(), _SETTLE_S))
            self._wanted.clear()
            try:
                self._send()
            except StoreUnavailable as exc:
                logs.event("speech_unreachable", why=str(exc))
                self._again()
            except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: without it all followers hear nothing
                logs.event("speech_failed", level=logging.ERROR, exc_info=True, why=str(exc))
                self._again()
            sent_s = time.monotonic()

    def _again(self) -> None:
        self._stopping.wait(_PAUSE_S)
        self._wanted.set()

    def _send(self) -> None:
        """Say everything in one call, what could not be said before first and just as it was: what was said after all is
        not said twice."""
        self._unsent = [(speaker, saying) for speaker, saying in self._unsent + self._gather() if not speaker.ended]
        if not self._unsent:
            return
        try:
            self._say(self._unsent)
        except _NOT_SAID as exc:
            if _is_away(exc):
                raise
            self._say_one_by_one()
        self._unsent = []

    def _say(self, unsent: list[tuple[Speaker, Saying]]) -> None:
        held = self._ledger.say([saying for _, saying in unsent])
        for (speaker, _), ours in zip(unsent, held, strict=True):
            if not ours and not speaker.ended and not speaker.refused:
                speaker.refused = True
                self._lose(speaker.claim)

    def _say_one_by_one(self) -> None:
        """Say what can be said, and let those be mute from whom it comes that not all can. Raises `StoreUnavailable` when
        Redis refuses every one of them: then it is not for what they say."""
        failed: dict[Speaker, Exception] = {}
        speakers = list(dict.fromkeys(speaker for speaker, _ in self._unsent))
        for speaker in speakers:
            try:
                self._say([each for each in self._unsent if each[0] is speaker])
            except _NOT_SAID as exc:
                if _is_away(exc):
                    raise
                failed[speaker] = exc
        refusals = [exc for exc in failed.values() if isinstance(exc, StoreUnavailable)]
        if len(refusals) == len(speakers):
            raise refusals[0]
        for speaker, why in failed.items():
            speaker.mute = True
            logs.event("speech_refused", level=logging.ERROR, job=speaker.claim.id, attempt=speaker.claim.attempt,
                       why=str(why))

    def _gather(self) -> list[tuple[Speaker, Saying]]:
        """Take what the attempts have told that are old enough; the young ones are come back to."""
        old_s = time.monotonic() - _GATHER_S
        with self._lock:
            speakers = [speaker for speaker in self._speakers.values() if not speaker.mute]
        if any(speaker.began_s > old_s for speaker in speakers):
            self._wanted.set()
        return [(speaker, saying) for speaker in speakers if speaker.began_s <= old_s for saying in speaker.take()]
