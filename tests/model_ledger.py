"""A ledger in plain Python: what `app.ledger` must do, said a second time without Redis, wake-ups or locks.

The state machine test drives both and compares every answer. Also the jobs and the place the ledger's tests use.
Leaves out what the scripts take from the wall clock: the life of idempotency keys, tombstones and leads.
"""

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import redis

from app.job import Lane, NewJob, Service, State, new_job_id
from app.ledger import Claim, Ledger, Piece, Place, Saying, Settled, Submitted, Voice, new_owner
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


def everything(client: redis.Redis) -> dict[bytes, Any]:
    """Return every key with its value, serialized but for hashes, whose fields Redis may rearrange when it is asked."""
    return {key: client.hgetall(key) if client.type(key) == b"hash" else client.dump(key) for key in client.scan_iter()}


@dataclass(slots=True, kw_only=True)
class ModelJob:
    """All that the model remembers about a job."""

    new: NewJob
    created_ms: int
    tag: int = 0  # its place in the fair order
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
    noted: int | None = None  # how much had been said when it ended
    held: bool = False  # for its turn in a line, or for an answer
    follows: str | None = None  # whose answer it waits for
    ran: bool = False  # itself
    away: bool = False  # its route is the cloud
    ticket: str | None = None  # while it is there
    worker: str = ""  # that runs it
    home_ms: int = 0  # when it comes home, while it is sent and not begun
    stays: bool = False  # is not sent with others
    reserved: int = 0  # micros of money, while it is in the cloud
    sent_ms: int = 0
    early: dict[int, tuple[int, Voice, str]] = field(default_factory=dict)  # said out there too early: start -> end, text

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
        return self.state is State.QUEUED and self.ready_ms is None and not self.held and not self.ticket

    @property
    def sent(self) -> bool:
        """To the cloud, and not begun there."""
        return self.state is State.QUEUED and self.ticket is not None

    def owned_by(self, claim: Claim) -> bool:
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
    lines: dict[str, list[str]] = field(default_factory=dict)  # the live jobs of each, first to last
    flights: dict[str, str] = field(default_factory=dict)  # fingerprint -> the live job that answers it
    inflight: Counter[str] = field(default_factory=Counter)  # tenant -> own live jobs
    most_inflight: dict[str, int] = field(default_factory=dict)
    told: Counter[str] = field(default_factory=Counter)  # tenant -> events of own jobs
    voids: list[tuple[str, str, str]] = field(default_factory=list)  # job, ticket or run in the cloud, worker

    def submit(self, new: NewJob) -> tuple[Submitted, str]:
        before = self._accepted_before(new)
        if before:
            return before
        if new.metered and self.inflight[new.tenant] >= self.most_inflight.get(new.tenant, sys.maxsize):
            self.counts["limited"] += 1
            return Submitted.LIMITED, new.id
        if new.idempotency_key:
            self.keys[new.tenant, new.idempotency_key] = (new.id, new.digest)
        job = self.jobs[new.id] = ModelJob(new=new, created_ms=self.now_ms)
        self.counts["accepted"] += 1
        self.inflight[new.tenant] += new.metered
        self._tell(job)
        job.held = self._joins_line(job) or self._follows(job)
        if not job.held:
            self._line_up(job)
        return Submitted.ACCEPTED, new.id

    def _accepted_before(self, new: NewJob) -> tuple[Submitted, str] | None:
        job = self.jobs.get(new.id)
        if job and job.new.tenant != new.tenant:
            return Submitted.TAKEN, new.id
        if job:
            digest = "" if job.new.idempotency_key else job.new.digest
            same = bool(new.idempotency_key) or digest == new.digest
            return (Submitted.KNOWN if same else Submitted.MISMATCH), new.id
        if new.idempotency_key:
            held = self.keys.get((new.tenant, new.idempotency_key))
            return held and ((Submitted.REPLAYED if held[1] == new.digest else Submitted.MISMATCH), held[0])
        if new.digest and new.id in self.purged:
            return (Submitted.GONE if self.purged[new.id] == new.tenant else Submitted.TAKEN), new.id
        return None

    def _joins_line(self, job: ModelJob) -> bool:
        """Return whether it must wait for its turn."""
        if not job.new.line:
            return False
        line = self.lines.setdefault(job.new.line, [])
        line.append(job.new.id)
        return len(line) > 1

    def _follows(self, job: ModelJob) -> bool:
        """Return whether it waits for another's answer; one that waits itself moves up to where this one would be."""
        if job.new.line or not job.new.fingerprint:
            return False
        leader = self.jobs[self.flights.setdefault(job.new.fingerprint, job.new.id)]
        if leader is job:
            return False
        job.follows = leader.new.id
        self.counts["coalesced"] += 1
        self._move_up(leader, job)
        return True

    def _move_up(self, leader: ModelJob, follower: ModelJob) -> None:
        tag = self._next_tag(follower)
        if leader.waiting and tag < leader.tag:
            leader.tag = self.flows[follower.flow] = tag

    def _next_tag(self, job: ModelJob) -> int:
        return max(self.flows[job.flow], self.virtual_times[job.new.service]) + LANE_COST[job.new.lane]

    def _line_up(self, job: ModelJob) -> None:
        job.held = False
        job.tag = self.flows[job.flow] = self._next_tag(job)

    def give_back(self, job: ModelJob) -> None:
        """It leaves without having run: its flow need not wait for it."""
        self.flows[job.flow] -= LANE_COST[job.new.lane]

    def charge(self, job: ModelJob) -> None:
        """It is back after all."""
        self.flows[job.flow] = self._next_tag(job)

    def _tell(self, job: ModelJob) -> None:
        self.told[job.new.tenant] += job.new.metered

    def claim(self, job_id: str, owner: str) -> Claim | State | None:
        job = self.jobs.get(job_id)
        if job is None:
            return None
        if job.waiting:
            if self._late(job):
                self._end_late(job)
                return job.state
            job.state, job.owner, job.attempt, job.said = State.RUNNING, owner, job.attempt + 1, []
            job.lease_ms, job.ran, job.worker = self._lease_end(), True, PLACE.worker
            self._tell(job)
            self.virtual_times[job.new.service] = max(self.virtual_times[job.new.service], job.tag)
        elif job.state is not State.RUNNING or job.owner != owner:
            self.counts["claims_refused"] += job.state is State.RUNNING
            return job.state
        return self._claimed(job, owner)

    def _claimed(self, job: ModelJob, owner: str) -> Claim:
        return Claim(id=job.new.id, owner=owner, attempt=job.attempt, errors=job.errors, task=job.new.task,
                     tenant=job.new.tenant, input=job.new.input, created_ms=job.created_ms,
                     deadline_ms=job.deadline_ms, trace=job.new.trace, lane=job.new.lane,
                     fingerprint=None if job.new.line else job.new.fingerprint)

    def take(self, service: Service, owner: str) -> Claim | None:
        if owner not in self.takes:
            while waiting := self.waiting(service):
                if isinstance(self.claim(waiting[0], owner), Claim):
                    self.takes[owner] = waiting[0]
                    break
        taken = self.jobs.get(self.takes.get(owner, ""))
        if taken is None or (taken.state, taken.owner) != (State.RUNNING, owner):
            return None
        again = self.claim(taken.new.id, owner)
        assert isinstance(again, Claim)
        return again

    def beat(self, claims: list[Claim]) -> list[bool]:
        held = [claim.id in self.jobs and self.jobs[claim.id].owned_by(claim) for claim in claims]
        for claim, ours in zip(claims, held, strict=True):
            if ours:
                self.jobs[claim.id].lease_ms = self._lease_end()
        return held

    def say(self, sayings: list[Saying]) -> list[bool]:
        held = [saying.claim.id in self.jobs and self.jobs[saying.claim.id].owned_by(saying.claim) for saying in sayings]
        for saying, ours in zip(sayings, held, strict=True):
            said = self.jobs[saying.claim.id].said if ours else []
            if ours and not (said and said[-1].position >= saying.piece.position):
                said.append(saying.piece)
        return held

    def settle(self, claim: Claim, state: State, tokens: int | None = None) -> Settled:
        job = self.jobs.get(claim.id)
        if job and job.settled == (claim.owner, claim.attempt) and job.state is state:
            return Settled.AGAIN
        if job is None or not job.owned_by(claim):
            return self._stale(job)
        if job.ticket:
            self.counts["cloud_succeeded" if state is State.SUCCEEDED else "cloud_failed"] += 1
            if tokens is not None:
                self.used(job, tokens)
        job.settled, job.ticket, job.reserved = (claim.owner, claim.attempt), None, 0
        self._end(job, state)
        return Settled.RECORDED

    def release(self, claim: Claim, *, because: str, wait_s: float) -> Settled:
        job = self.jobs.get(claim.id)
        if job and job.released == (claim.owner, claim.attempt):
            return Settled.AGAIN
        if job is None or not job.owned_by(claim):
            return self._stale(None)
        self._leave_cloud(job, "returned")
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
        for job in sorted(self.in_state(State.RUNNING), key=lambda job: (job.lease_ms, job.new.id)):
            if job.lease_ms > self.now_ms:
                continue
            self._leave_cloud(job, "" if job.lost + 1 >= self.settings.max_lost else "lapsed")
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
        for job in sorted(late, key=lambda job: (job.deadline_ms, job.new.id)):
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
        if job.state is State.QUEUED and not job.ran and not job.held and not job.sent:
            self.give_back(job)
        self._leave_cloud(job)
        job.state, job.owner, job.ready_ms, job.finished_ms, job.held = state, None, None, self.now_ms, False
        job.early = {}
        job.noted = job.said[-1].position if job.said else None
        self.counts[state.value] += 1
        self.inflight[job.new.tenant] -= job.new.metered
        self._tell(job)
        if job.new.line:
            self._leave_line(job)
        if job.follows:
            leader = self.jobs[job.follows]
            job.attempt, job.noted, job.follows = leader.attempt, leader.said[-1].position if leader.said else 0, None
        elif job.new.fingerprint and self.flights.get(job.new.fingerprint) == job.new.id:
            self._land_flight(job, job.new.fingerprint)

    def _leave_cloud(self, job: ModelJob, move: str = "") -> None:
        """Its ticket, or its run, is void; it comes home by this move, or ends out there."""
        if not job.ticket:
            return
        if job.sent:
            self.used(job, None)
        self.voids.append((job.new.id, job.owner or job.ticket, job.worker if job.owner else ""))
        job.ticket, job.early, job.away, job.reserved = None, {}, not move, 0
        if move:
            self.counts[move] += 1
            self.counts["came_home"] += 1

    def used(self, job: ModelJob, tokens: int | None) -> None:
        """A job that was sent has used so many tokens, or was not begun."""
        raise NotImplementedError

    def _leave_line(self, job: ModelJob) -> None:
        line = self.lines[job.new.line or ""]
        line.remove(job.new.id)
        if line and self.jobs[line[0]].held:
            self._line_up(self.jobs[line[0]])

    def _land_flight(self, leader: ModelJob, fingerprint: str) -> None:
        followers = sorted((job for job in self.jobs.values() if job.follows == leader.new.id),
                           key=lambda job: (job.created_ms, job.new.id))
        if not followers or leader.state in (State.SUCCEEDED, State.FAILED):
            del self.flights[fingerprint]
            for job in followers:
                self._end(job, leader.state)
                job.away = leader.away
            return
        heir, *others = followers
        self.flights[fingerprint], heir.attempt, heir.follows = heir.new.id, leader.attempt, None
        for job in others:
            job.follows = heir.new.id
        self._line_up(heir)
        for job in others:
            self._move_up(heir, job)

    def _stale(self, job: ModelJob | None) -> Settled:
        self.counts["stale"] += 1
        if job:
            job.stale += 1
        return Settled.STALE
