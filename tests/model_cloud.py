"""The model of what the ledger does with the cloud: the verbs and the answers of `app.ledger.CloudLedger`."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.job import Service, State
from app.ledger import Cap, Claim, CloudSaying, Piece, Place, Voice
from app.routing_rules import Rules
from tests.model_ledger import ModelJob, ModelLedger

OUT_THERE = Place(worker="cloud@far", server="cloud", processor="")


@dataclass(slots=True, kw_only=True)
class ModelCloud(ModelLedger):
    """A ledger in plain Python with a cloud."""

    rules: Rules
    sent_ms: list[int] = field(default_factory=list)  # when jobs were sent
    micros: Counter[int] = field(default_factory=Counter)  # minute -> money

    def send(self, service: Service, tickets: Sequence[str]) -> tuple[list[Claim], Cap | None]:
        """Send as many as there are tickets, if so many wait, and no cap forbids it."""
        willing = [job for job_id in reversed(self.waiting(service))
                   if not self._late(job := self.jobs[job_id]) and not job.stays]
        sent: list[Claim] = []
        for job, ticket in zip(willing, tickets, strict=False):
            if cap := self.lacking(job):
                return sent, cap
            sent.append(self._send(job, ticket))
        return sent, None

    def lacking(self, job: ModelJob) -> Cap | None:
        """Return the cap that forbids to send the job."""
        if self.jobs_counted() >= self.rules.cloud_jobs_per_minute:
            return Cap.JOBS
        left = round(1e6 * self.rules.cloud_money_per_hour) - self.micros_counted()
        return Cap.MONEY if self.cost(self.tokens_of(job)) > left else None

    def jobs_counted(self) -> int:
        return sum(ms // 1000 >= self.now_ms // 1000 - 60 for ms in self.sent_ms)

    def micros_counted(self) -> int:
        return sum(micros for minute, micros in self.micros.items() if minute >= self.now_ms // 60_000 - 60)

    def cost(self, tokens: int) -> int:
        job, thousand = round(1e6 * self.rules.cloud_price_per_job), round(1e6 * self.rules.cloud_price_per_1000_tokens)
        return math.ceil(job + thousand * tokens / 1000)

    @staticmethod
    def tokens_of(job: ModelJob) -> int:
        return math.ceil(len(job.new.input) / 3) + int(json.loads(job.new.input).get("max_tokens", 256))

    def used(self, job: ModelJob, tokens: int | None) -> None:
        self.micros[job.sent_ms // 60_000] += (0 if tokens is None else self.cost(tokens)) - job.reserved

    def send_job(self, job_id: str, ticket: str) -> Claim | Cap | State | None:
        job = self.jobs.get(job_id)
        if job is None or not job.waiting:
            return job and job.state
        if self._late(job):
            self._end_late(job)
            return job.state
        return self.lacking(job) or self._send(job, ticket)

    def _send(self, job: ModelJob, ticket: str) -> Claim:
        if not job.ran:
            self.give_back(job)
        job.ticket, job.away, job.home_ms = ticket, True, self.now_ms + round(self.settings.cloud_wait_s * 1000)
        job.reserved, job.sent_ms = self.cost(self.tokens_of(job)), self.now_ms
        self.micros[self.now_ms // 60_000] += job.reserved
        self.sent_ms.append(self.now_ms)
        self.counts["sent"] += 1
        return self._claimed(job, ticket)

    def begin(self, job_id: str, ticket: str, run: str) -> Claim | None:
        job = self.jobs.get(job_id)
        if job is None or job.ticket != ticket or job.owner not in (None, run):
            return None
        if job.sent and self._late(job):
            self._end_late(job)
            return None
        if job.sent:
            job.state, job.owner, job.attempt, job.worker = State.RUNNING, run, job.attempt + 1, OUT_THERE.worker
            job.said, job.early, job.ran = [Piece(job.attempt, 0, Voice.STARTED, "")], {}, True
            job.lease_ms = self._cloud_lease_end()
            self.counts["begun"] += 1
            self._tell(job)
        return self._claimed(job, run)

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        held = [claim.id in self.jobs and self.jobs[claim.id].owned_by(claim) for claim in claims]
        for claim, ours in zip(claims, held, strict=True):
            if ours:
                self.jobs[claim.id].lease_ms = self._cloud_lease_end()
        return held

    def say_out_there(self, sayings: Sequence[CloudSaying]) -> list[bool]:
        held = [saying.claim in self.runs() for saying in sayings]
        for saying, ours in zip(sayings, held, strict=True):
            if ours:
                self._hear(self.jobs[saying.claim.id], saying)
        return held

    def runs(self) -> list[Claim]:
        """Return the claims of the runs that own a job now."""
        return [self._claimed(job, job.owner) for job in self.jobs.values() if job.ticket and job.owner]

    def _hear(self, job: ModelJob, saying: CloudSaying) -> None:
        start, end = saying.start, saying.start + len(saying.text)
        if start > self._total(job):
            if start not in job.early or job.early[start][0] < end:
                job.early[start] = (end, saying.voice, saying.text)
            return
        self._add(job, end, saying.voice, saying.text)
        while job.early and min(job.early) <= self._total(job):
            self._add(job, *job.early.pop(min(job.early)))

    def _add(self, job: ModelJob, end: int, voice: Voice, text: str) -> None:
        if end > self._total(job):
            job.said.append(Piece(job.attempt, end, voice, text))

    @staticmethod
    def _total(job: ModelJob) -> int:
        return job.said[-1].position if job.said else 0

    def recall(self, job_ids: Sequence[str], most: int) -> list[str]:
        named = [job_id for job_id in job_ids if self._come_home(job_id, "recalled")]
        last = [job_id for job_id in list(reversed(self.sent()))[:most] if self._come_home(job_id, "recalled")]
        return named + last

    def take_back(self, claims: Sequence[Claim]) -> list[str]:
        return [claim.id for claim in claims if (job := self.jobs.get(claim.id)) and job.ticket == claim.owner
                and self._come_home(claim.id, "recalled")]

    def come_home(self) -> list[str]:
        return [job_id for job_id in self.sent() if self.jobs[job_id].home_ms <= self.now_ms
                and self._come_home(job_id, "lapsed")]

    def keep(self, job_id: str) -> bool:
        job = self.jobs.get(job_id)
        if job is None or job.state is not State.QUEUED:
            return False
        self._come_home(job_id, "kept")
        job.stays = True
        return True

    def _come_home(self, job_id: str, move: str) -> bool:
        job = self.jobs.get(job_id)
        if job is None or not job.sent:
            return False
        self._leave_cloud(job, move)
        if not job.ran:
            self.charge(job)
        return True

    def sent(self) -> list[str]:
        """Return the ids sent and not begun, those that come home first, first."""
        return [job.new.id for job in sorted(self.jobs.values(), key=lambda job: (job.home_ms, job.new.id)) if job.sent]

    def _cloud_lease_end(self) -> int:
        return self.now_ms + round(self.settings.cloud_lease_s * 1000)
