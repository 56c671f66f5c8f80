"""The ledger: the one truth about jobs.

Every transition is one Lua script (`lua/`), conditional on the job's state, attempt and owner. That triple is the fencing
token: `attempt` only grows, and `owner` is a fresh random value for each claim. A worker that lost its lease is answered
"stale", and its result is never recorded. Every method may be repeated after a lost reply.

Promises: an accepted job is in exactly one of the sets that its state names until it ends, and ends once.
Leaves to others: when to look for lost work (routing.recovery), and what a job does (workers).
"""

import os
from collections.abc import Sequence
from typing import Any

import redis

from app.job import Job, NewJob, Service, State
from app.ledger import replies
from app.ledger.records import (
    NOTHING,
    Census,
    Claim,
    Ending,
    Page,
    Piece,
    Place,
    Said,
    Saying,
    Settled,
    Shortage,
    Submission,
    Submitted,
)
from app.ledger.scripts import Argument, Evaluator, Scripts
from app.settings import Settings

#: A wake-up that is neither in its queue nor claimed for this long is taken for lost. A worker claims within
#: milliseconds of popping; two seconds leave room for a stalled one, and cost a lost job at most that.
WAKEUP_LOST_MS = 2000

#: Pieces read in one call: a long answer is tens of thousands, and Redis does nothing else while it collects them.
_PAGE = 500

_MOST_LOOKED = 2000  # jobs that a page looks at for those of one state

_BATCH = 100  # ids a recovery script works on in one call, so that none blocks Redis for more than a few ms


class Ledger:
    """All transitions of jobs. Safe to share between threads.

    `evaluator` may replace the client for running scripts. `now_ms` replaces Redis's clock; tests pass it to travel in
    time.
    """

    def __init__(self, client: redis.Redis, settings: Settings, *, evaluator: Evaluator | None = None,
                 now_ms: int | None = None) -> None:
        self._scripts = Scripts(client, evaluator)
        self._settings = settings
        self._default_limits = (settings.requests_per_minute, settings.tokens_per_minute, settings.jobs_in_flight)
        self.now_ms = now_ms

    def _run(self, name: str, *args: Argument) -> Any:
        return self._scripts.run(name, self._timed(args))

    def _timed(self, args: tuple[Argument, ...]) -> tuple[Argument, ...]:
        return ("" if self.now_ms is None else self.now_ms, *args)

    def submit(self, job: NewJob, *, answer: Ending | None = None, decision: bytes = b"") -> Submission:
        """Accept a job, with its wake-up, in one step; with an `answer` that is known already, as one that has succeeded,
        and `decision` says where it came from."""
        deadline = "" if job.deadline_s is None else round(job.deadline_s * 1000)
        known = answer or NOTHING
        outcome, job_id, *more = self._run(
            "submit", job.id, job.service.value, job.task, job.tenant, job.input, job.lane.value, deadline,
            job.idempotency_key or "", job.digest, round(self._settings.idempotency_s * 1000), job.parent or "",
            job.trace or "", job.line or "", job.fingerprint or "", job.webhook_url or "",
            "1" if job.metered else "", 0 if answer else job.tokens, *self._default_limits, known.result, known.usage,
            decision)
        submitted = Submitted(outcome.decode())
        if submitted is Submitted.LIMITED:
            name, wait_ms, figures = more
            return Submission(outcome=submitted, job_id=job.id, job=None, limits=replies.limits(figures),
                              shortage=Shortage(name.decode(), int(wait_ms)))
        if submitted is not Submitted.ACCEPTED:
            return Submission(outcome=submitted, job_id=job_id.decode(), job=None)
        return Submission(outcome=submitted, job_id=job.id, limits=replies.limits(more[4]),
                          job=replies.accepted(job, more) if answer is None else None)

    def is_used(self, tenant: str, idempotency_key: str) -> bool:
        """Whether a job was accepted with this idempotency key."""
        return bool(self._run("is_used", tenant, idempotency_key))

    def claim(self, job_id: str, place: Place, *, owner: str, decision: bytes = b"") -> Claim | State | None:
        """Take a queued job for `owner`; return the claim, or the state that forbids it, or None for an unknown id.

        A refusal with "queued" means that the job's delay is not over, or that it is not to run here.
        """
        reply = self._run("claim", job_id, *self._place(owner, place, decision))
        if reply[0] == b"refused":
            return None if reply[1] == b"unknown" else State(reply[1].decode())
        return replies.claim(owner, reply)

    def take(self, service: Service, place: Place, *, owner: str, decision: bytes = b"") -> Claim | None:
        """Take the first waiting job of a service for `owner`, wake-up or not; None where none waits.

        For a worker that has just finished a job, and need not go back to its Celery queue for the next.
        """
        reply = self._run("take", service.value, *self._place(owner, place, decision))
        return None if reply[0] == b"none" else replies.claim(owner, reply)

    def _place(self, owner: str, place: Place, decision: bytes) -> tuple[Argument, ...]:
        return (owner, round(self._settings.lease_s * 1000), place.worker, place.server, place.processor, decision)

    def beat(self, claims: Sequence[Claim]) -> list[bool]:
        """Renew the leases; return for each whether the job is still this owner's. Stop working on the others."""
        if not claims:
            return []
        args: list[Argument] = [round(self._settings.lease_s * 1000)]
        for claim in claims:
            args += [claim.id, claim.owner, claim.attempt]
        return [held == 1 for held in self._run("beat", *args)]

    def say(self, sayings: Sequence[Saying]) -> list[bool]:
        """Tell those who listen what running attempts say; return for each whether the job is still this owner's. Stop
        working on the others. The pieces of an attempt are told in order."""
        if not sayings:
            return []
        args: list[Argument] = []
        for claim, piece in ((saying.claim, saying.piece) for saying in sayings):
            args += [claim.id, claim.owner, claim.attempt, piece.position, piece.voice.value, piece.text]
        return [held == 1 for held in self._run("say", *args)]

    def said(self, job_id: str, attempt: int = 0, position: int = 0) -> Said:
        """Return what a job has said after this place. An unknown job has said nothing. A piece in a voice that we don't
        know is left out: a worker of a newer Tandem said it."""
        pieces: list[Piece] = []
        while True:
            last, total, speaker, entries = self._run("said", job_id, attempt, position, _PAGE)
            pieces += [replies.piece(place, fields) for place, fields in entries
                       if replies.known_voice(fields[0], job_id, place)]
            if len(entries) < _PAGE:
                return Said(int(last), int(total), pieces, speaker.decode())
            attempt, position = replies.place(entries[-1][0])

    def first_words(self, job_ids: Sequence[str]) -> list[float | None]:
        """Return for each of these jobs how many seconds after its acceptance its last attempt said its first word; None
        where it has said nothing."""
        found = self._run("first_words", *job_ids) if job_ids else []
        return [None if ms < 0 else ms / 1000 for ms in found]

    def settle(self, claim: Claim, state: State, ending: Ending = NOTHING) -> Settled:
        """Record how an attempt ended: succeeded with a result, or failed with an error."""
        return Settled(self._run("settle", *replies.ending(claim, state, ending)).decode())

    def settle_and_take(self, claim: Claim, state: State, ending: Ending, *, place: Place, owner: str,
                        decision: bytes = b"") -> tuple[Settled, Claim | None]:
        """Settle, and in the same round trip take the first waiting job of the same service for `owner`."""
        settled, taken = self._scripts.run_together([
            ("settle", self._timed(replies.ending(claim, state, ending))),
            ("take", self._timed((claim.service.value, *self._place(owner, place, decision))))])
        return Settled(settled.decode()), None if taken[0] == b"none" else replies.claim(owner, taken)

    def release(self, claim: Claim, *, because: str, wait_s: float = 0.0) -> Settled:
        """Hand a running job back for another attempt, in `wait_s` seconds. `because` is "error" or "drain"; only errors
        count against the job."""
        return Settled(self._run("release", claim.id, claim.owner, claim.attempt, because,
                                 round(wait_s * 1000)).decode())

    def cancel(self, job_id: str, tenant: str = "", *, freed_key: str = "") -> State:
        """Cancel a live job at once; return the state it is in now. With it, the idempotency key `freed_key` is forgotten,
        if it names the job. Raises `JobUnknown` or `JobGone`."""
        reply = self._run("cancel", job_id, tenant, freed_key)
        replies.refuse_missing(reply[0], job_id)
        return State(reply[1].decode())

    def read(self, job_id: str, tenant: str = "") -> Job:
        """Return the job. Raises `JobUnknown` (also for another tenant's job) or `JobGone`."""
        reply = self._run("read", job_id, tenant)
        replies.refuse_missing(reply[0], job_id)
        return replies.job(job_id, reply)

    def read_all(self, job_ids: Sequence[str], tenant: str = "") -> list[Job | None]:
        """Return these jobs, None for each that is unknown, another tenant's, or past retention."""
        found = self._scripts.run_together([("read", self._timed((job_id, tenant))) for job_id in job_ids])
        return [replies.job(job_id, reply) if reply[0] == b"found" else None
                for job_id, reply in zip(job_ids, found, strict=True)]

    def page(self, tenant: str, *, state: State | None = None, before: str = "", limit: int = 20) -> Page:
        """Return some of a tenant's own jobs, newest first, without input, result and error: those `before` the cursor of
        an earlier page. It may be fewer than `limit`, also where more follow. Raises `InvalidInput` for a cursor that is
        none."""
        at_ms, last = replies.cursor(before)
        more, at, last_id, found = self._run("page", tenant, state.value if state else "", at_ms, last, limit, _MOST_LOOKED)
        jobs = [Job.from_record(job_id.decode(), replies.record(fields)) for job_id, fields in found]
        return Page(jobs, f"{at.decode()}:{last_id.decode()}" if more else None)

    def glance(self, job_id: str) -> tuple[State, int] | None:
        """Return a job's state and attempt, None where there is no such job; `read` says why."""
        state, attempt = self._run("glance", job_id)
        return (State(state.decode()), int(attempt)) if state else None

    def reap(self) -> tuple[list[str], list[str]]:
        """Queue again the jobs whose lease ran out; return the ids queued again and those failed for good."""
        again, failed = self._run("reap", self._settings.max_lost, _BATCH)
        return replies.texts(again), replies.texts(failed)

    def expire(self) -> list[str]:
        """End the jobs whose deadline has passed; return their ids."""
        return replies.texts(self._run("expire", _BATCH))

    def rewake(self, service: Service) -> int:
        """Fill the service's Celery queue up to its window; return how many lost wake-ups were pushed again."""
        _, again = self._run("rewake", service.value, WAKEUP_LOST_MS)
        return int(again)

    def purge(self) -> int:
        """Forget jobs past retention; return how many."""
        return int(self._run("purge", round(self._settings.retention_s * 1000),
                             round(self._settings.tombstone_s * 1000), _BATCH))

    def lead(self, duty: str, who: str, lease_s: float) -> int:
        """Take or keep the lead of a duty; return the leader's epoch, or 0 if another leads."""
        return int(self._run("lead", duty, who, round(lease_s * 1000)))

    def resign(self, duty: str, who: str) -> None:
        """Give up the lead of a duty, where `who` has it: another may take it at once."""
        self._run("resign", duty, who)

    def register(self, worker: str, fields: dict[str, Argument], life_s: float) -> int:
        """Say that a worker lives; return the pid that has been asked to restart, or 0."""
        pairs = [part for pair in fields.items() for part in pair]
        return int(self._run("register", worker, round(life_s * 1000), *pairs) or 0)

    def census(self) -> Census:
        """Count everything in one step."""
        services = list(Service)
        counts, delayed, running, finished, held, cloud, *sizes = self._run(
            "census", *(service.value for service in services))
        return Census(
            counts={name.decode(): int(value) for name, value in zip(counts[::2], counts[1::2], strict=True)},
            waiting=dict(zip(services, sizes[::2], strict=True)), woken=dict(zip(services, sizes[1::2], strict=True)),
            delayed=delayed, running=running, finished=finished, held=held, cloud=cloud)


def new_owner() -> str:
    """Return a fresh owner for a claim: 64 random bits as hex."""
    return os.urandom(8).hex()
