"""What a reader of a job has been told, and so what comes next.

Events have the id `<attempt>-<position>`, and the order of the ids is the order of the events:

    0-1          queued
    <a>-0        started, or restarted where the reader knows of an earlier attempt: what that said is void
    <a>-<n>      token: text up to the n-th character (code point) of what attempt a says, reasoning first, then content
    <a>-<n+1>    succeeded, failed, cancelled or expired, after the n characters said in all; 0-2 where none ever started

The ids grow, with one exception: a Redis that failed over may have lost what a reader had been told. Whoever comes with, or
has had, an event beyond what there is, starts over: he is told `restarted` with the attempt that there is, and then all
that it has said; where none is left, the next to begin is a `restarted`.

Because an id says how far the text had come, a reader can go on from any id, with any gateway, however the text was cut
into pieces before, and with the job's result alone where the pieces are no longer kept. Pure: no clock, no I/O.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from app.job import Job, Service, State
from app.ledger import Piece, Said, Voice

_MARK = re.compile(r"(\d{1,9})-(\d{1,15})", re.ASCII)
_MEMBERS = {Voice.REASONING: "reasoning_content", Voice.CONTENT: "text"}

#: Services whose jobs say something.
SPEAKING = (Service.MODEL, Service.CHAT)


class Mark(NamedTuple):
    """An event's id."""

    attempt: int
    position: int

    def __str__(self) -> str:
        return f"{self.attempt}-{self.position}"

    @classmethod
    def parse(cls, text: str) -> "Mark":
        """Read an id. Raises `ValueError`."""
        found = _MARK.fullmatch(text)
        if not found:
            raise ValueError(f"'{text[:60]}' is not the id of an event, which looks like 1-42")
        return cls(int(found[1]), int(found[2]))


QUEUED = Mark(0, 1)

#: The end of a job that none was seen to start of. It stays the end: the part of a chat may start just after that.
NEVER_STARTED = Mark(0, 2)


class Event(NamedTuple):
    """An event of a job. `data` is JSON-able; of the last event it is the job itself."""

    name: str
    mark: Mark
    data: dict[str, Any] | Job


class Transcript:
    """Turns what is known of a job into the events that its reader has not had. `mark` is the last one he had."""

    def __init__(self, mark: Mark | None = None) -> None:
        self.mark = mark or Mark(0, 0)
        self.ended = False
        self._void = False  # he knows of an attempt that is lost

    def queued(self, job: Job) -> list[Event]:
        """The job was accepted, as every job was that there is."""
        if self.mark >= QUEUED:
            return []
        self.mark = QUEUED
        return [Event("queued", QUEUED, {"position": job.position, "eta_s": job.eta_s})]

    def begun(self, attempt: int) -> list[Event]:
        """An attempt was begun."""
        if attempt <= self.mark.attempt:
            return []
        name = "restarted" if self.mark.attempt or self._void else "started"
        self.mark, self._void = Mark(attempt, 0), False
        return [Event(name, self.mark, {"attempt": attempt})]

    def is_beyond(self, job: Job, said: Said) -> bool:
        """Whether the reader has had more than there is."""
        if self.mark.attempt != said.attempt:
            return self.mark.attempt > said.attempt
        end = last_mark(job, said) if job.state.terminal else Mark(0, 0)
        return self.mark.position > max(said.total if said.attempt else QUEUED.position, end.position)

    def start_over(self, attempt: int) -> list[Event]:
        """What the reader has had of the job's attempts is void; `attempt` is the one that there is, 0 for none."""
        self._void = self._void or self.mark.attempt > 0
        self.mark = QUEUED
        return self.begun(attempt)

    def heard(self, piece: Piece) -> list[Event]:
        """A piece was said. Of one that goes on where nothing was heard yet, nothing is told: see `misses`."""
        events = self.begun(piece.attempt)
        if not self.misses(piece):
            events += self._tell(piece.attempt, piece.position, piece.voice, piece.text)
        return events

    def misses(self, piece: Piece) -> bool:
        """Whether something was said before this piece that the reader has not had."""
        so_far = self.mark.position if piece.attempt == self.mark.attempt else 0
        return piece.attempt >= self.mark.attempt and piece.position - len(piece.text) > so_far

    def had_all(self, job: Job, said: Said) -> bool:
        """Whether the job has ended and the reader has had its last event."""
        self.ended = job.state.terminal and (self.mark == NEVER_STARTED or self.mark >= last_mark(job, said))
        return self.ended

    def end(self, job: Job, said: Said) -> list[Event]:
        """The job has ended. What the reader lacks of a success comes from the result."""
        events = [*self.queued(job), *self.begun(said.attempt)]
        reasoning, content = _result(job)
        events += self._tell(said.attempt, len(reasoning), Voice.REASONING, reasoning)
        events += self._tell(said.attempt, len(reasoning) + len(content), Voice.CONTENT, content)
        self.mark, self.ended = last_mark(job, said), True
        return [*events, Event(job.state.value, self.mark, job)]

    def _tell(self, attempt: int, position: int, voice: Voice, text: str) -> list[Event]:
        """Tell as much of a text that ends at this position as the reader has not had."""
        fresh = min(position - self.mark.position, len(text)) if attempt == self.mark.attempt else 0
        if fresh <= 0:
            return []
        self.mark = Mark(attempt, position)
        return [Event("token", self.mark, {_MEMBERS[voice]: text[len(text) - fresh:], "attempt": attempt})]


def merged(pieces: Iterable[Piece]) -> list[Piece]:
    """Return the same text in as few pieces as may be, and so in few events."""
    runs: list[list[Piece]] = []
    for piece in pieces:
        last = runs[-1][-1] if runs else None
        if (last and last.voice is piece.voice is not Voice.STARTED and last.attempt == piece.attempt
                and last.position == piece.position - len(piece.text)):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    return [Piece(run[-1].attempt, run[-1].position, run[-1].voice, "".join(piece.text for piece in run)) for run in runs]


def last_mark(job: Job, said: Said) -> Mark:
    """Return the id of an ended job's last event."""
    if not said.attempt:
        return NEVER_STARTED
    total = len("".join(_result(job))) if job.state is State.SUCCEEDED else said.total
    return Mark(said.attempt, total + 1)


def _result(job: Job) -> tuple[str, str]:
    """Return the reasoning and the content that a job answered, empty where there are none."""
    if job.state is not State.SUCCEEDED or job.service not in SPEAKING:
        return "", ""
    result = msgspec.json.decode(job.result or b"{}")
    return result.get("reasoning_content") or "", result.get("text") or ""
