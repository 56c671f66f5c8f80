"""The model of what the ledger does with the cloud: the verbs and the answers of `app.ledger.CloudLedger`."""

from collections.abc import Sequence

from app.job import Service, State
from app.ledger import Claim, CloudSaying, Piece, Place, Voice
from tests.model_ledger import ModelJob, ModelLedger

OUT_THERE = Place(worker="cloud@far", server="cloud", processor="")


class ModelCloud(ModelLedger):
    """A ledger in plain Python with a cloud."""

    def send(self, service: Service, tickets: Sequence[str]) -> list[Claim]:
        """Send as many as there are tickets, if so many wait."""
        willing = [job for job_id in reversed(self.waiting(service))
                   if not self._late(job := self.jobs[job_id]) and not job.stays]
        return [self._send(job, ticket) for job, ticket in zip(willing, tickets, strict=False)]

    def send_job(self, job_id: str, ticket: str) -> Claim | State | None:
        job = self.jobs.get(job_id)
        if job is None or not job.waiting:
            return job and job.state
        if self._late(job):
            self._end_late(job)
            return job.state
        return self._send(job, ticket)

    def _send(self, job: ModelJob, ticket: str) -> Claim:
        if not job.ran:
            self.give_back(job)
        job.ticket, job.away, job.home_ms = ticket, True, self.now_ms + round(self.settings.cloud_wait_s * 1000)
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
        named = [job_id for job_id in job_ids if self._come_home(job_id)]
        last = [job_id for job_id in list(reversed(self.sent()))[:most] if self._come_home(job_id)]
        return named + last

    def come_home(self) -> list[str]:
        return [job_id for job_id in self.sent() if self.jobs[job_id].home_ms <= self.now_ms and self._come_home(job_id)]

    def keep(self, job_id: str) -> bool:
        job = self.jobs.get(job_id)
        if job is None or job.state is not State.QUEUED:
            return False
        self._come_home(job_id)
        job.stays = True
        return True

    def _come_home(self, job_id: str) -> bool:
        job = self.jobs.get(job_id)
        if job is None or not job.sent:
            return False
        self._leave_cloud(job, ends=False)
        if not job.ran:
            self.charge(job)
        return True

    def sent(self) -> list[str]:
        """Return the ids sent and not begun, those that come home first, first."""
        return [job.new.id for job in sorted(self.jobs.values(), key=lambda job: (job.home_ms, job.new.id)) if job.sent]

    def _cloud_lease_end(self) -> int:
        return self.now_ms + round(self.settings.cloud_lease_s * 1000)
