"""Carries what the runs of this process say home, one thread for all of them.

It gathers for `cloud_say_s`, and sends all of it as one report, or as many as it takes; each `cloud_beat_s` it says of each
run, and of the worker, that it lives. What MNS does not take is kept, in order, and sent again: until then nothing more is
gathered, so what piles up is the speakers' affair, and bounded there. A word may so be sent twice; home takes it once.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from app import logs
from app.job import new_job_id
from app.settings import Settings
from routing.cloud import words
from routing.cloud.broker import REPORT_TASK, results_queue
from routing.cloud.post import NotPosted, PerhapsPosted, TooLargeToPost
from routing.mns.patience import Backoff
from workers.cloud.packing import pack, weight
from workers.cloud.speaker import Speaker

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0  # between two tries to reach MNS: short against `cloud_lease_s`


class Posting(Protocol):
    """What sends a message, as `routing.cloud.post.Post` does."""

    def send(self, queue: str, task: str, arguments: dict[str, object], *, message_id: str) -> None:
        """Send a task message. Raises `NotPosted` or `PerhapsPosted`."""

    def close(self) -> None:
        """Send no more."""


@dataclass(frozen=True, slots=True)
class _Item:
    """A word to send. `last` is the end of its run."""

    word: words.Word
    speaker: Speaker
    last: bool


class Courier:
    """The thread. `describe` returns what the worker says of itself, with each report."""

    def __init__(self, settings: Settings, post: Posting, describe: Callable[[], words.Worker]) -> None:
        self._settings = settings
        self._post = post
        self._describe = describe
        self._speakers: dict[Speaker, None] = {}  # in the order in which they began
        self._outbox: deque[list[_Item]] = deque()  # a report each; an empty one says that the worker lives
        self._away_since_s: float | None = None
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._sent_s = self._beat_s = float("-inf")
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._carry_for_ever, name="tandem-courier", daemon=True)

    def start(self) -> None:
        """Begin, with a word of the worker itself."""
        self._thread.start()

    def stop(self, within_s: float) -> None:
        """Send what there is, once, and end; wait for that for so long."""
        self._stopping.set()
        self._wanted.set()
        self._thread.join(within_s)

    def begin(self, job: str, ticket: str, run: str) -> Speaker:
        """A run begins: return what speaks for it."""
        speaker = Speaker(job, ticket, run, self.want)
        with self._lock:
            self._speakers[speaker] = None
        self.want()
        return speaker

    def drop(self, speaker: Speaker) -> None:
        """Nobody wants to hear of its run any more: send nothing of it that has not been sent."""
        speaker.dropped = True
        with self._lock:
            self._speakers.pop(speaker, None)

    def want(self) -> None:
        """There is something to say."""
        if not self._wanted.is_set():  # mostly it is; setting it again would take a lock
            self._wanted.set()

    def _carry_for_ever(self) -> None:
        while not self._stopping.is_set():
            self._wanted.wait(max(self._beat_s + self._settings.cloud_beat_s - time.monotonic(), 0.0))
            self._stopping.wait(max(self._sent_s + self._settings.cloud_say_s - time.monotonic(), 0.0))
            self._wanted.clear()
            try:
                self._carry()
            except (NotPosted, PerhapsPosted) as exc:
                self._away(exc)
            except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: without it home hears of no run any more
                logs.event("courier_failed", level=logging.ERROR, exc_info=True, why=str(exc))
                self._wait()
        self._post.close()

    def _carry(self) -> None:
        """Send what is left, and what there is to say since. Raises `NotPosted` or `PerhapsPosted`."""
        self._empty()
        self._gather()
        self._empty()
        self._sent_s = time.monotonic()

    def _empty(self) -> None:
        while self._outbox:
            items = [item for item in self._outbox[0] if not item.speaker.dropped]
            if items or not self._outbox[0]:
                try:
                    self._send(items)
                except TooLargeToPost as exc:
                    self._break_up(items, exc)
                    continue
            self._outbox.popleft()
            for item in items:
                if item.last:
                    item.speaker.delivered.set()

    def _gather(self) -> None:
        beat = time.monotonic() >= self._beat_s + self._settings.cloud_beat_s or self._stopping.is_set()
        if beat:
            self._beat_s = time.monotonic()
        items: list[_Item] = []
        with self._lock:
            for speaker in list(self._speakers):
                said, ended = speaker.take(beat=beat)
                items += [_Item(word, speaker, ended and word is said[-1]) for word in said]
                if ended:
                    del self._speakers[speaker]
        self._outbox += pack(items, lambda item: weight(item.word)) or ([[]] if beat else [])

    def _send(self, items: Sequence[_Item]) -> None:
        report = words.Report(worker=self._describe(), words=[item.word for item in items])
        self._post.send(results_queue(self._settings), REPORT_TASK, words.body("report", report), message_id=new_job_id())
        if self._away_since_s is not None:
            logs.event("mns_reachable", after_s=round(time.monotonic() - self._away_since_s, 1))
        self._away_since_s = None
        self._backoff.reset()

    def _break_up(self, items: list[_Item], exc: TooLargeToPost) -> None:
        """Replace a report that is too large, which packing should not let happen, by one for each word; give up a word."""
        self._outbox.popleft()
        if len(items) > 1:
            self._outbox.extendleft([item] for item in reversed(items))
            return
        for item in items:
            logs.event("word_undeliverable", level=logging.ERROR, job=item.word.job, run=words.short(item.word.run),
                       why=str(exc))
            if isinstance(item.word, words.Ended | words.GaveBack):
                item.speaker.lost = True
                item.speaker.delivered.set()
            item.speaker.hush("a word before was too large")

    def _away(self, exc: Exception) -> None:
        if self._away_since_s is None:
            self._away_since_s = time.monotonic()
            logs.event("mns_unreachable", level=logging.WARNING, why=str(exc))
        self._wait()

    def _wait(self) -> None:
        self._stopping.wait(self._backoff.pause_s())
        self._wanted.set()
