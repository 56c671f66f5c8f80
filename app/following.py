"""Follows one job: what it says and how it ends, from any event on.

A chat job is followed by what its model part says, and ends as the chat job does. A job that waits for the answer of
another that asks the same is followed by what that one says.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec

from app.announcements import Announcements
from app.errors import JobGone, JobUnknown, StoreUnavailable
from app.job import Job, Service, State, model_part
from app.ledger import Ledger, Piece, Said
from app.streams import Listener, Streams
from app.transcript import SPEAKING, Event, Mark, Transcript, merged

QUIET_S = 15.0  # after so long without an event the reader is told that we are there, and we look in the ledger
_AGAIN_S = 1.0  # between two looks where the ledger could not be read, or lacks what was said

_NOWHERE = Mark(0, 0)  # before all that is said


class Following:
    """One reader's way through a job of his. `mark` is the last event that he had."""

    def __init__(self, job_id: str, tenant: str, *, ledger: Ledger, mark: Mark | None = None) -> None:
        self._job_id = job_id
        self._tenant = tenant
        self._ledger = ledger
        self._transcript = Transcript(mark)
        self._speaker = job_id  # the job that says what is said
        self._job: Job | None = None  # as it was read, less its input: that is large, and not told
        self._looked_s = 0.0  # monotonic
        self._lacking = False  # a piece was heard before which one is missing

    @property
    def over(self) -> bool:
        """Whether the reader has had the last event."""
        return self._transcript.ended

    def begin(self) -> list[Event]:
        """Return the events that there are already. Raises `JobUnknown`, `JobGone` and `StoreUnavailable`."""
        events, job, said = self._look()
        return events if self._transcript.had_all(job, said) else events + self._told(job, said)

    def events(self, streams: Streams, announcements: Announcements) -> Iterator[Sequence[Event]]:
        """Yield events as they come, and nothing now and then; until the last one, or until this process is to stop. While
        Redis is away, nothing comes."""
        told_s = time.monotonic()
        while not (self.over or streams.closing):
            for events in self._heard(streams, announcements):
                if events or time.monotonic() - told_s >= QUIET_S:
                    told_s = time.monotonic()
                    yield events

    def _heard(self, streams: Streams, announcements: Announcements) -> Iterator[Sequence[Event]]:
        """Yield what follows from listening to the job that speaks, until that is another one, or it is over; nothing where
        there is nothing, so that the time is looked at. Its end may be the beginning of another's speaking."""
        speaker = self._speaker
        with (suppress(JobUnknown, JobGone), streams.listener(speaker) as listener,
              announcements.telling(self._job_id, listener), announcements.telling(speaker, listener)):
            quiet_s = time.monotonic()
            while speaker == self._speaker:
                events = self._next(listener)
                yield events
                quiet_s = time.monotonic() if events else quiet_s
                if self._transcript.ended or streams.closing:
                    return
                left_s = max(quiet_s + QUIET_S - time.monotonic(), 0.0)
                if not listener.something.wait(min(left_s, _AGAIN_S) if listener.look or self._lacking else left_s):
                    listener.look = True
                    quiet_s = time.monotonic()
            return
        self._transcript.ended = True  # the job is gone

    def _next(self, listener: Listener) -> list[Event]:
        """Return the events that follow from what the listener was told, or from a look where it was told to look."""
        pieces = listener.take()
        looking, listener.look = listener.look, False
        events = [] if looking else self._hear(pieces)
        if looking or (self._lacking and time.monotonic() - self._looked_s >= _AGAIN_S):
            try:
                anew, job, said = self._look()
                events += anew + self._told(job, said)
            except StoreUnavailable:
                listener.look = True
        return events

    def _hear(self, pieces: Sequence[Piece]) -> list[Event]:
        """Return the events of these pieces, up to the first before which one is missing."""
        events: list[Event] = []
        for piece in merged(pieces):
            if self._transcript.misses(piece):
                self._lacking = True
                return events
            events += self._transcript.heard(piece)
        return events

    def _look(self) -> tuple[list[Event], Job, Said]:
        """Look in the ledger; return the word to start over, if what the reader has had is lost, and what there is."""
        job, said = self._read(self._transcript.mark)
        events: list[Event] = []
        if self._transcript.is_beyond(job, said):
            job, said = self._read(_NOWHERE)  # first: if it fails, he has not been told to start over
            events = self._transcript.start_over(said.attempt)
        self._lacking = False
        return events, job, said

    def _read(self, place: Mark) -> tuple[Job, Said]:
        """Read the job, and then what it has said after this place: if the job had ended, that is all."""
        job = self._read_job()
        self._looked_s = time.monotonic()
        if job.service not in SPEAKING:
            return job, Said(job.attempt, 0, [])
        if job.service is Service.CHAT:
            part = model_part(job.id)
            if job.state.terminal and job.state is not State.SUCCEEDED:
                # of no use any more; and what it says must not grow, for the last event's id depends on it
                with suppress(JobUnknown, JobGone):
                    self._ledger.cancel(part)
            said = self._ledger.said(part, *place)
            self._speaker = said.speaker or part
        else:
            said = self._ledger.said(job.id, *place)
            self._speaker = said.speaker or job.id
        if job.state is State.SUCCEEDED and not said.attempt:  # of a chat whose part has been purged a moment before it
            return job, Said(max(self._transcript.mark.attempt, 1), 0, [])
        return job, said

    def _read_job(self) -> Job:
        """Return the job: read whole at first and when it has ended, in between no more of it than changes."""
        glance = self._ledger.glance(self._job_id) if self._job else None
        if self._job and glance and not glance[0].terminal:
            return msgspec.structs.replace(self._job, state=glance[0], attempt=glance[1])
        job = self._ledger.read(self._job_id, self._tenant)
        self._job = msgspec.structs.replace(job, input=b"{}")
        return job

    def _told(self, job: Job, said: Said) -> list[Event]:
        """Return the events that follow from what was read."""
        events = [*self._transcript.queued(job), *self._transcript.begun(said.attempt)]
        for piece in merged(said.pieces):
            events += self._transcript.heard(piece)
        return events + self._transcript.end(job, said) if job.state.terminal else events
