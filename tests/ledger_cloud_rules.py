"""Rules of the ledger's state machine: what is sent to the cloud, what is heard from there, and what comes home."""

import dataclasses
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, multiple, rule

from app.job import Service
from app.ledger import Claim, CloudLedger, CloudSaying, Voice
from tests.model_cloud import OUT_THERE, ModelCloud

if TYPE_CHECKING:
    from tests.test_ledger_machine import LedgerMachine

TIMES = st.sampled_from((1, 1, 2))
FORGERIES = st.sampled_from(({}, {}, {}, {"owner": "nobody"}, {"attempt": 9}))  # of a claim


class Repeating(CloudLedger):
    """Runs each script `times` times, as redis-py does when replies are lost: the last answer must be as the first."""

    times = 1

    def _run(self, name: str, *args: Any) -> Any:
        first, *others = [super(Repeating, self)._run(name, *args) for _ in range(self.times)]
        assert all(other == first for other in others), f"{name} answered {first}, then {others}"
        return first


class CloudRules:
    """A part of `LedgerMachine`, which has the ledger, the model, and the other bundles' rules."""

    jobs: Bundle[str] = Bundle("jobs")
    claims: Bundle[Claim] = Bundle("claims")
    tickets: Bundle[Claim] = Bundle("tickets")
    cloud: Repeating
    model: ModelCloud

    def calling(self, times: int) -> Repeating:
        """Return the ledger, whose next answers get lost so often but one."""
        self.cloud.times = times
        return self.cloud

    @rule(target=tickets, service=st.sampled_from((Service.MODEL, Service.MODEL, Service.AUTH)),
          most=st.sampled_from((1, 2)), times=TIMES)
    def send(self: "LedgerMachine", service: Service, most: int, times: int) -> Any:
        sent, cap = self.calling(times).send(most=most, decision=b"{}", service=service, rules=self.model.rules)
        tickets = [claim.owner for claim in sent]
        assert self.model.send(service, tickets + ["none left"] * (most - len(sent))) == (sent, cap)
        return multiple(*sent)

    @rule(target=tickets, job_id=jobs, times=TIMES)
    def send_job(self: "LedgerMachine", job_id: str, times: int) -> Any:
        return self.call_send_job(job_id, times) or multiple()

    def call_send_job(self: "LedgerMachine", job_id: str, times: int) -> Claim | None:
        answer = self.calling(times).send_job(job_id, decision=b"{}", rules=self.model.rules)
        assert self.model.send_job(job_id, answer.owner if isinstance(answer, Claim) else "refused") == answer
        return answer if isinstance(answer, Claim) else None

    @rule(target=claims, sent=tickets, run=st.sampled_from(("run-1", "run-1", "run-2")),
          forged=st.sampled_from((False, False, False, True)), times=TIMES)
    def begin(self: "LedgerMachine", sent: Claim, run: str, forged: bool, times: int) -> Any:
        return self.call_begin(dataclasses.replace(sent, owner="forged") if forged else sent, run, times) or multiple()

    def call_begin(self: "LedgerMachine", sent: Claim | None, run: str, times: int) -> Claim | None:
        assert sent
        run = f"{sent.owner}.{run}"
        claim = self.calling(times).begin(sent.id, sent.owner, OUT_THERE, run=run)
        assert self.model.begin(sent.id, sent.owner, run) == claim
        return claim

    @rule(claim=claims, run=st.sampled_from((None, "another")))
    def begin_late_again(self: "LedgerMachine", claim: Claim, run: str | None) -> None:
        """By the run that had begun it, or by another of the same ticket."""
        ticket, _, own = claim.owner.partition(".")
        self.call_begin(dataclasses.replace(claim, owner=ticket), run or own, 1)

    @rule(claims=st.lists(claims, min_size=1, max_size=3), change=FORGERIES, times=TIMES)
    def renew(self: "LedgerMachine", claims: list[Claim], change: dict[str, Any], times: int) -> None:
        claims[0] = dataclasses.replace(claims[0], **change)
        assert self.calling(times).renew(claims) == self.model.renew(claims)

    @rule(claims=st.lists(claims, min_size=1, max_size=2), change=FORGERIES, after=st.sampled_from((-1, 0, 1, 2, 4)),
          text=st.sampled_from(("", "a", "\N{BALLOON} up")), times=TIMES)
    def say_out_there(self: "LedgerMachine", claims: list[Claim], change: dict[str, Any], after: int, text: str,
                      times: int) -> None:
        """Say what comes next, or later, or was said already."""
        claims = [*self.model.runs()[:1], *claims]
        claims[-1] = dataclasses.replace(claims[-1], **change)
        sayings = [CloudSaying(claim, max(self.said_up_to(claim.id) + after, 0), Voice.CONTENT, text) for claim in claims]
        assert self.calling(times).say(sayings) == self.model.say_out_there(sayings)

    @rule(because=st.sampled_from(("error", "drain")), wait_s=st.sampled_from((0.0, 5.0)), times=TIMES)
    def hand_back(self: "LedgerMachine", because: str, wait_s: float, times: int) -> None:
        """A run gives its job up."""
        for claim in self.model.runs()[:1]:
            self.release(claim, {}, because, wait_s, times)

    @rule(sent=st.lists(tickets, max_size=2), most=st.sampled_from((0, 1, 5)), times=TIMES)
    def recall(self: "LedgerMachine", sent: list[Claim], most: int, times: int) -> None:
        ids = [claim.id for claim in sent]
        assert self.calling(times).recall(job_ids=ids, most=most) == self.model.recall(ids, most)

    @rule(sent=st.lists(tickets, max_size=3), times=TIMES)
    def take_back(self: "LedgerMachine", sent: list[Claim], times: int) -> None:
        assert self.calling(times).take_back(sent, decision=b"{}") == self.model.take_back(sent)

    @rule(job_id=jobs, times=TIMES)
    def keep(self: "LedgerMachine", job_id: str, times: int) -> None:
        assert self.calling(times).keep(job_id, decision=b"{}") == self.model.keep(job_id)

    def come_home(self: "LedgerMachine") -> None:
        """A duty of recovery."""
        assert self.calling(1).come_home() == self.model.come_home()

    def said_up_to(self: "LedgerMachine", job_id: str) -> int:
        return max([piece.position for piece in self.said_by(job_id)], default=0)

    def check_spend(self: "LedgerMachine", records: dict[str, dict[bytes, bytes]], spend: dict[bytes, bytes]) -> None:
        """Compare what was reserved with the model: never more than the caps, and nothing for a job that is not there."""
        for job_id, job in self.model.jobs.items():
            reserved = records[job_id].get(b"reserved", b"0 0 0").split()[0]
            assert int(reserved) == (job.reserved if job.ticket else 0)
        buckets = {int(name[1:]): int(micros) for name, micros in spend.items() if name.startswith(b"m")}
        assert buckets.items() <= self.model.micros.items(), "a bucket is off"
        assert all(micros >= 0 for micros in buckets.values())
        assert self.model.micros_counted() <= 1e6 * self.model.rules.cloud_money_per_hour
        last = [ms for ms in self.model.sent_ms if ms > self.model.now_ms - 60_000]
        assert len(last) <= self.model.rules.cloud_jobs_per_minute
        now = self.cloud.spend(self.model.rules)
        assert (now.jobs_minute, round(1e6 * now.money_hour)) == (self.model.jobs_counted(), self.model.micros_counted())

    def check_cloud(self, records: dict[str, dict[bytes, bytes]], early: set[str], voids: list[dict[bytes, bytes]]) -> None:
        """Compare what Redis holds about the cloud, beside the set, with the model."""
        for job_id, job in self.model.jobs.items():
            assert records[job_id][b"route"] == (b"cloud" if job.away else b"local")
            assert records[job_id].get(b"ticket", b"").decode() == (job.ticket or "")
        assert early == {job_id for job_id, job in self.model.jobs.items() if job.early}
        assert [(fields[b"id"].decode(), fields[b"void"].decode(), fields[b"worker"].decode()) for fields in voids] \
            == self.model.voids
