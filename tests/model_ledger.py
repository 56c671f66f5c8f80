"""A ledger in plain Python: what `app.ledger` must do, said a second time without Redis, wake-ups or locks.

The state machine test drives both and compares every answer. Also the jobs and the place the ledger's tests use.
Leaves out what the scripts take from the wall clock: the life of idempotency keys, tombstones and leads.
"""

from collections import Counter
from dataclasses import dataclass, field

import redis

from app.job import Lane, NewJob, Service, State, new_job_id
from app.ledger import Claim, Ledger, Piece, Place, Saying, Settled, Submitted, new_owner
from app.settings import Settings

#: How far a job of a lane moves its flow on.
LANE_COST = {Lane.INTERACTIVE: 1_000_000, Lane.STANDARD: 10_000_000, Lane.BATCH: 100_000_000}

PLACE = Place(worker="model@server-1", server="server-1", processor="P2")


def a_job(service: Service = Service.MODEL, **changes: object) -> NewJob:
    """Return a job to submit, with what the test cares about set."""
    fields: dict[str, object] = {"id": new_job_id(), "service": service, "task": f"{service}.run", "tenant": "ann",
                                 "input": b'{"prompt": "hello"}', "digest": "d1"}
    return NewJob(**(fields | changes))  # type: ignore[arg-type]


def a_running_job(ledger: Ledger, service: Service = Service.MODEL, **changes: object) -> Claim:
    """Submit a job and claim it."""
    claim = ledger.claim(ledger.submit(a_job(service, **changes)).job_id, PLACE, owner=new_owner())
    assert isinstance(claim, Claim)
    return claim


def everything(client: redis.Redis) -> dict[bytes, bytes | None]:
    """Return every key with its serialized value."""
    return {key: client.dump(key) for key in client.scan_iter()}


@dataclass(slots=True, kw_only=True)
class ModelJob:
    """All that the model remembers about a job."""

    new: NewJob
    created_ms: int
    tag: int  # its place in the fair order
    state: State = State.QUEUED
    attempt: int = 0
    errors: int = 0
    lost: int = 0
    stale: int = 0
    owner: str | None = None  # of the running attempt
    lease_ms: int = 0  # its end, while running
    ready_ms: int | None = None  # the end of the delay, while queued with one
    released: tuple[str, int] | None = None  # owner and attempt that handed it back last
    settled: tuple[str, int] | None = None  # owner and attempt whose result is recorded
    finished_ms: int = 0
    said: list[Piece] = field(default_factory=list)  # by the last attempt

    @property
    def order(self) -> tuple[int, str]:
        return self.tag, self.new.id

    @property
    def flow(self) -> tuple[Service, str, Lane]:
        return self.new.service, self.new.tenant, self.new.lane

    @property
    def deadline_ms(self) -> int | None:
        return None if self.new.deadline_s is None else self.created_ms + round(self.new.deadline_s * 1000)

    @property
    def waiting(self) -> bool:
        return self.state is State.QUEUED and self.ready_ms is None

    def held_by(self, claim: Claim) -> bool:
        return self.state is State.RUNNING and (self.owner, self.attempt) == (claim.owner, claim.attempt)


@dataclass(slots=True, kw_only=True)
class ModelLedger:
    """The same verbs and the same answers as `app.ledger.Ledger`."""

    settings: Settings
    now_ms: int
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    purged: dict[str, str] = field(default_factory=dict)  # id -> tenant
    keys: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)  # tenant, key -> id, digest
    counts: Counter[str] = field(default_factory=Counter)
    takes: dict[str, str] = field(default_factory=dict)  # owner -> id
    virtual_times: Counter[Service] = field(default_factory=Counter)
    flows: Counter[tuple[Service, str, Lane]] = field(default_factory=Counter)  # the tag of the last job of each

    def submit(self, new: NewJob) -> tuple[Submitted, str]:
        if new.id in self.jobs:
            return Submitted.KNOWN, new.id
        if new.idempotency_key:
            held = self.keys.setdefault((new.tenant, new.idempotency_key), (new.id, new.digest))
            if held[0] != new.id:
                return (Submitted.REPLAYED if held[1] == new.digest else Submitted.MISMATCH), held[0]
        flow = (new.service, new.tenant, new.lane)
        self.flows[flow] = max(self.flows[flow], self.virtual_times[new.service]) + LANE_COST[new.lane]
        self.jobs[new.id] = ModelJob(new=new, created_ms=self.now_ms, tag=self.flows[flow])
        self.counts["accepted"] += 1
        return Submitted.ACCEPTED, new.id

    def claim(self, job_id: str, owner: str) -> Claim | State | None:
        job = self.jobs.get(job_id)
        if job is None:
            return None
        if job.waiting:
            if self._late(job):
                self._end_late(job)
                return job.state
            job.state, job.owner, job.attempt, job.said = State.RUNNING, owner, job.attempt + 1, []
            job.lease_ms = self._lease_end()
            self.virtual_times[job.new.service] = max(self.virtual_times[job.new.service], job.tag)
        elif job.state is not State.RUNNING or job.owner != owner:
            self.counts["claims_refused"] += job.state is State.RUNNING
            return job.state
        return Claim(id=job_id, owner=owner, attempt=job.attempt, errors=job.errors, task=job.new.task,
                     tenant=job.new.tenant, input=job.new.input, created_ms=job.created_ms,
                     deadline_ms=job.deadline_ms, trace=job.new.trace, lane=job.new.lane)

    def take(self, service: Service, owner: str) -> Claim | None:
        if owner not in self.takes:
            for job_id in self.waiting(service):
                if isinstance(self.claim(job_id, owner), Claim):
                    self.takes[owner] = job_id
                    break
        taken = self.jobs.get(self.takes.get(owner, ""))
        if taken is None or (taken.state, taken.owner) != (State.RUNNING, owner):
            return None
        again = self.claim(taken.new.id, owner)
        assert isinstance(again, Claim)
        return again

    def beat(self, claims: list[Claim]) -> list[bool]:
        held = [claim.id in self.jobs and self.jobs[claim.id].held_by(claim) for claim in claims]
        for claim, ours in zip(claims, held, strict=True):
            if ours:
                self.jobs[claim.id].lease_ms = self._lease_end()
        return held

    def say(self, sayings: list[Saying]) -> list[bool]:
        held = [saying.claim.id in self.jobs and self.jobs[saying.claim.id].held_by(saying.claim) for saying in sayings]
        for saying, ours in zip(sayings, held, strict=True):
            said = self.jobs[saying.claim.id].said if ours else []
            if ours and not (said and said[-1].position >= saying.piece.position):
                said.append(saying.piece)
        return held

    def settle(self, claim: Claim, state: State) -> Settled:
        job = self.jobs.get(claim.id)
        if job and job.settled == (claim.owner, claim.attempt) and job.state is state:
            return Settled.AGAIN
        if job is None or not job.held_by(claim):
            return self._stale(job)
        job.settled = (claim.owner, claim.attempt)
        self._end(job, state)
        return Settled.RECORDED

    def release(self, claim: Claim, *, because: str, wait_s: float) -> Settled:
        job = self.jobs.get(claim.id)
        if job and job.released == (claim.owner, claim.attempt):
            return Settled.AGAIN
        if job is None or not job.held_by(claim):
            return self._stale(None)
        job.state, job.owner, job.released = State.QUEUED, None, (claim.owner, claim.attempt)
        job.errors += because == "error"
        if wait_s:
            job.ready_ms = self.now_ms + round(wait_s * 1000)
        self.counts["released"] += 1
        return Settled.RELEASED

    def cancel(self, job_id: str, tenant: str) -> State | str:
        """Also answers "gone" or "unknown", where the ledger raises."""
        missing = self._missing(job_id, tenant)
        if missing:
            return missing
        job = self.jobs[job_id]
        if not job.state.terminal:
            self._end(job, State.CANCELLED)
        return job.state

    def read(self, job_id: str, tenant: str) -> State | str:
        """Also answers "gone" or "unknown", where the ledger raises."""
        return self._missing(job_id, tenant) or self.jobs[job_id].state

    def reap(self) -> tuple[set[str], set[str]]:
        again, failed = set(), set()
        for job in self.in_state(State.RUNNING):
            if job.lease_ms > self.now_ms:
                continue
            job.lost, job.owner = job.lost + 1, None
            self.counts["lost_attempts"] += 1
            if job.lost >= self.settings.max_lost:
                self._end(job, State.FAILED)
                failed.add(job.new.id)
            else:
                job.state = State.QUEUED
                again.add(job.new.id)
        return again, failed

    def expire(self) -> set[str]:
        late = [job for job in self.jobs.values() if not job.state.terminal and self._late(job)]
        for job in late:
            self._end_late(job)
        return {job.new.id for job in late}

    def ripen(self) -> None:
        """Let in the jobs whose delay is over; part of rewake."""
        for job in self.in_state(State.QUEUED):
            if job.ready_ms is not None and job.ready_ms <= self.now_ms:
                job.ready_ms = None

    def purge(self) -> int:
        old = [job for job in self.jobs.values() if job.state.terminal
               and job.finished_ms <= self.now_ms - round(self.settings.retention_s * 1000)]
        for job in old:
            self.purged[job.new.id] = self.jobs.pop(job.new.id).new.tenant
        self.counts["purged"] += len(old)
        return len(old)

    def in_state(self, state: State) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.state is state]

    def waiting(self, service: Service) -> list[str]:
        """Return the ids that may run now, first to last."""
        ready = [job for job in self.jobs.values() if job.waiting and job.new.service is service]
        return [job.new.id for job in sorted(ready, key=lambda job: job.order)]

    def _missing(self, job_id: str, tenant: str) -> str | None:
        if job_id in self.jobs:
            return None if tenant in ("", self.jobs[job_id].new.tenant) else "unknown"
        return "gone" if job_id in self.purged and tenant in ("", self.purged[job_id]) else "unknown"

    def _lease_end(self) -> int:
        return self.now_ms + round(self.settings.lease_s * 1000)

    def _late(self, job: ModelJob) -> bool:
        return job.deadline_ms is not None and job.deadline_ms <= self.now_ms

    def _end_late(self, job: ModelJob) -> None:
        self._end(job, State.CANCELLED if job.attempt else State.EXPIRED)

    def _end(self, job: ModelJob, state: State) -> None:
        if job.state is State.QUEUED and not job.attempt:  # it never ran: its flow need not wait for it
            self.flows[job.flow] -= LANE_COST[job.new.lane]
        job.state, job.owner, job.ready_ms, job.finished_ms = state, None, None, self.now_ms
        self.counts[state.value] += 1

    def _stale(self, job: ModelJob | None) -> Settled:
        self.counts["stale"] += 1
        if job:
            job.stale += 1
        return Settled.STALE
