"""Whatever the order of calls, repeats, losses and delays, the ledger answers like its model and its books balance.

Hypothesis drives the real scripts on a real Redis and `ModelLedger` side by side. A rule that calls twice stands for a
reply that was lost: the second answer has to be the model's too.
"""

import dataclasses
import json
import os
from typing import Any

import hypothesis
import msgspec
import redis
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule, run_state_machine_as_test

from app.errors import JobGone, JobUnknown
from app.job import Lane, NewJob, Service, State
from app.ledger import Claim, Ending, Ledger, Piece, Saying, Voice
from app.ledger.ledger import WAKEUP_LOST_MS
from app.routing_rules import Rules
from app.settings import Settings
from tests.ledger_cloud_rules import CloudRules, Repeating
from tests.model_cloud import ModelCloud
from tests.model_ledger import PLACE, a_job

START_MS = 1_800_000_000_000
WINDOW = 2  # small, so that the backlog is in play with three jobs
SERVICES = (Service.AUTH, Service.MODEL)  # auth is the one whose input is erased
TENANTS = ("ann", "bob")
DEADLINES = st.sampled_from((None, 0.5, 30.0))
TIMES = st.sampled_from((1, 2))
BOBS_MOST = 3  # of his own jobs in flight
TIES = st.sampled_from(({}, {}, {"line": "l"}, {"fingerprint": "f"}, {"fingerprint": "g"}))  # to other jobs
FORGERIES = st.sampled_from(({}, {}, {}, {"owner": "nobody"}, {"attempt": 9}))  # of a claim
#: Of the cloud: both caps are met, with jobs of 3,630 and 11,120 micros.
RULES = Rules(cloud_jobs_per_minute=7, cloud_money_per_hour=0.03, cloud_price_per_job=0.001,
              cloud_price_per_1000_tokens=0.01)
INPUTS = st.sampled_from((b'{"prompt": "hello"}', b'{"prompt": "hello"}', b'{"max_tokens":1000, "prompt": "hello"}'))
USAGES = st.sampled_from((b"", b'{"prompt_tokens":3,"completion_tokens":4}'))
JUMPS_MS = (0, 1, 500, WAKEUP_LOST_MS, 5_000, 10_000, 20_000)  # about the leases, delays, deadlines and retention


class LedgerMachine(CloudRules, RuleBasedStateMachine):
    """Every verb of the ledger, in any order, with every fault a worker or the network can add."""

    jobs: Bundle[str] = Bundle("jobs")
    claims: Bundle[Claim] = Bundle("claims")

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        super().__init__()
        client.flushall()
        client.hset("windows", mapping=dict.fromkeys(SERVICES, WINDOW))
        client.hset("limits:bob", "jobs_in_flight", BOBS_MOST)
        self.client = client
        self.settings = settings
        self.serial = 0
        self.ended: dict[str, dict[bytes, bytes]] = {}  # records as they were when their jobs ended
        self.pushed = 0  # settles recorded, each with one element appended
        self.popped: set[str] = set()  # tags of wake-ups that left their queue for a worker, or for nowhere
        self.strays: set[str] = set()  # tags of those whose job was claimed by another way
        self.ledger = Ledger(client, settings, now_ms=START_MS)
        self.cloud = Repeating(client, settings, now_ms=START_MS)
        self.model = ModelCloud(settings=settings, now_ms=START_MS, most_inflight={"bob": BOBS_MOST}, rules=RULES)

    @initialize(target=jobs, deadline_s=DEADLINES)
    def some_wait(self, deadline_s: float | None) -> Any:
        return multiple(*(self.call_submit(a_job(service, id=self.next_id(), deadline_s=deadline_s), 1)
                          for service in SERVICES for _ in range(WINDOW + 1)))

    @initialize(target=claims, deadline_s=DEADLINES)
    def some_run(self, deadline_s: float | None) -> Any:
        ids = [self.call_submit(a_job(service, id=self.next_id(), deadline_s=deadline_s), 1) for service in SERVICES]
        return multiple(*(self.call_claim(job_id, 1) for job_id in ids))

    @initialize(target=claims)
    def some_run_in_the_cloud(self) -> Any:
        return self.call_begin(self.call_send_job(self.call_submit(a_job(id=self.next_id()), 1), 1), "run", 1)

    @initialize(target=CloudRules.tickets)
    def some_are_sent(self) -> Any:
        return multiple(*(self.call_send_job(self.call_submit(a_job(id=self.next_id()), 1), 1) for _ in range(2)))

    # -- what callers do

    @rule(target=jobs, service=st.sampled_from(SERVICES), tenant=st.sampled_from(TENANTS), lane=st.sampled_from(Lane),
          deadline_s=DEADLINES, key=st.sampled_from((None, None, "k1", "k2")),
          digest=st.sampled_from(("d1", "d2")), input=INPUTS, metered=st.booleans(), ties=TIES, times=TIMES)
    def submit(self, service: Service, times: int, key: str | None, ties: dict[str, str], **fields: Any) -> Any:
        ties = {name: f"{service}-{value}" for name, value in ties.items()}
        new = a_job(service, id=self.next_id(), idempotency_key=key, **ties, **fields)
        self.call_submit(new, times)
        return new.id if new.id in self.model.jobs else multiple()

    @rule(job_id=jobs, changes=st.sampled_from(({}, {"digest": "d3"}, {"tenant": "eve"}, {"idempotency_key": None})))
    def submit_with_an_id_that_was_there(self, job_id: str, changes: dict[str, Any]) -> None:
        if job_id in self.model.jobs:
            self.call_submit(msgspec.structs.replace(self.model.jobs[job_id].new, **changes), 1)
        else:
            self.call_submit(a_job(Service.MODEL, id=job_id, tenant="eve"), 1)

    @rule(target=jobs, tenant=st.sampled_from(TENANTS), lane=st.sampled_from(Lane), deadline_s=DEADLINES,
          ties=st.sampled_from(({"line": "model-l"}, {"fingerprint": "model-f"})), metered=st.booleans())
    def some_wait_for_each_other(self, ties: dict[str, str], **fields: Any) -> Any:
        news = [a_job(Service.MODEL, id=self.next_id(), **ties, **fields) for _ in range(2)]
        for new in news:
            self.call_submit(new, 1)
        return multiple(*(new.id for new in news if new.id in self.model.jobs))

    @rule(job_id=jobs)
    def submit_late_again(self, job_id: str) -> None:
        if job_id in self.model.jobs:
            self.call_submit(self.model.jobs[job_id].new, 1)

    @rule(job_id=jobs, tenant=st.sampled_from(("", *TENANTS)), times=TIMES)
    def cancel(self, job_id: str, tenant: str, times: int) -> None:
        for _ in range(times):
            expected = self.model.cancel(job_id, tenant)
            try:
                assert self.ledger.cancel(job_id, tenant) == expected
            except (JobUnknown, JobGone) as exc:
                assert exc.code == f"job-{expected}"  # noqa: PT017 - the model says whether it raises, and what

    @rule(job_id=jobs, tenant=st.sampled_from(("", *TENANTS)))
    def read(self, job_id: str, tenant: str) -> None:
        expected = self.model.read(job_id, tenant)
        try:
            job = self.ledger.read(job_id, tenant)
        except (JobUnknown, JobGone) as exc:
            assert exc.code == f"job-{expected}"  # noqa: PT017
            return
        queue = self.model.waiting(job.service)
        assert job.state == expected
        assert job.position == (queue.index(job_id) if job_id in queue else None)

    # -- what workers do

    @rule(target=claims, service=st.sampled_from(SERVICES), times=TIMES)
    def work(self, service: Service, times: int) -> Any:
        """Take the next wake-up and claim what it names, as a worker does."""
        message = self.client.rpop(service)
        if not message:
            return multiple()
        self.popped.add(tag_of(message))
        return self.call_claim(json.loads(message)["headers"]["id"], times)

    @rule(target=claims, job_id=jobs, times=TIMES)
    def claim(self, job_id: str, times: int) -> Any:
        """Claim without a wake-up: as after one that came twice, or came late."""
        return self.call_claim(job_id, times)

    @rule(target=claims, service=st.sampled_from(SERVICES), times=TIMES)
    def take(self, service: Service, times: int) -> Any:
        """Take what is first in line, as a worker that has just finished a job does."""
        return self.call_take(service, self.next_id(), times)

    @rule(target=claims, claim=claims)
    def take_late_again(self, claim: Claim) -> Any:
        if claim.owner not in self.model.takes:
            return multiple()
        return self.call_take(claim.service, claim.owner, 1)

    @rule(target=claims, claim=claims)
    def claim_late_again(self, claim: Claim) -> Any:
        return self.call_claim(claim.id, 1, owner=claim.owner)

    @rule(claims=st.lists(claims, min_size=1, max_size=3), change=FORGERIES, times=TIMES)
    def beat(self, claims: list[Claim], change: dict[str, Any], times: int) -> None:
        claims[0] = dataclasses.replace(claims[0], **change)
        for _ in range(times):
            assert self.ledger.beat(claims) == self.model.beat(claims)

    @rule(claims=st.lists(claims, min_size=1, max_size=3), change=FORGERIES, voice=st.sampled_from(Voice),
          text=st.sampled_from(("hi", "\N{BALLOON} up")), behind=st.sampled_from((0, 0, 1)), times=TIMES)
    def say(self, claims: list[Claim], change: dict[str, Any], voice: Voice, text: str, behind: int, times: int) -> None:
        """Say something more, or something that was said already in other pieces."""
        claims[0] = dataclasses.replace(claims[0], **change)
        sayings = []
        for claim in claims:
            position = max([piece.position for piece in self.said_by(claim.id)], default=0) + len(text) - behind
            sayings.append(Saying(claim, Piece(claim.attempt, 0, voice, "") if voice is Voice.STARTED else Piece(
                claim.attempt, position, voice, text)))
        for _ in range(times):
            assert self.ledger.say(sayings) == self.model.say(sayings)

    @rule(claim=claims, change=FORGERIES, state=st.sampled_from((State.SUCCEEDED, State.FAILED)), usage=USAGES, times=TIMES)
    def settle(self, claim: Claim, change: dict[str, Any], state: State, usage: bytes, times: int) -> None:
        claim = dataclasses.replace(claim, **change)
        for _ in range(times):
            expected = self.model.settle(claim, state, 7 if usage else None)
            answer = self.ledger.settle(claim, state, Ending(result=b'{"text": "hi"}', usage=usage,
                                                             append=("chunks", [b"end"])))
            assert answer == expected
            self.pushed += expected == "recorded"

    @rule(target=claims, claim=claims, change=FORGERIES, times=TIMES)
    def settle_and_take(self, claim: Claim, change: dict[str, Any], times: int) -> Any:
        claim, owner = dataclasses.replace(claim, **change), self.next_id()
        for _ in range(times):
            expected = self.model.settle(claim, State.SUCCEEDED), self.model.take(claim.service, owner)
            assert self.ledger.settle_and_take(claim, State.SUCCEEDED, Ending(), place=PLACE, owner=owner) == expected
        return expected[1] or multiple()

    @rule(claim=claims, change=FORGERIES, because=st.sampled_from(("error", "drain")),
          wait_s=st.sampled_from((0.0, 5.0)), times=TIMES)
    def release(self, claim: Claim, change: dict[str, Any], because: str, wait_s: float, times: int) -> None:
        claim = dataclasses.replace(claim, **change)
        for _ in range(times):
            expected = self.model.release(claim, because=because, wait_s=wait_s)
            assert self.ledger.release(claim, because=because, wait_s=wait_s) == expected

    # -- what recovery does

    @rule(after_ms=st.sampled_from(JUMPS_MS), times=TIMES,
          duty=st.sampled_from(("reap", "expire", "rewake", "purge", "come_home")))
    def recover(self, after_ms: int, duty: str, times: int) -> None:
        self.pass_time(after_ms)
        for _ in range(times):
            getattr(self, duty)()

    def reap(self) -> None:
        again, failed = self.ledger.reap()
        assert (set(again), set(failed)) == self.model.reap()

    def expire(self) -> None:
        assert set(self.ledger.expire()) == self.model.expire()

    def rewake(self) -> None:
        for service in SERVICES:
            oldest = self.ledger_now - WAKEUP_LOST_MS
            old = {key.decode() for key in self.client.zrangebyscore(f"woken:{service}", "-inf", oldest)}
            lost = old - self.queued(service)
            assert self.ledger.rewake(service) == len(lost)
            self.model.counts["rewoken"] += len(lost)
            self.model.ripen()
            assert old & set(self.model.waiting(service)[:WINDOW]) <= self.queued(service)

    def purge(self) -> None:
        assert self.ledger.purge() == self.model.purge()

    # -- what goes wrong, and time

    @rule(service=st.sampled_from(SERVICES), all_of_them=st.booleans())
    def lose_wakeups(self, service: Service, all_of_them: bool) -> None:
        self.popped |= {tag_of(message) for message in self.client.rpop(service, 1000 if all_of_them else 1) or ()}

    @rule(by_ms=st.sampled_from(JUMPS_MS))
    def pass_time(self, by_ms: int) -> None:
        self.model.now_ms += by_ms
        self.ledger.now_ms = self.cloud.now_ms = self.model.now_ms

    # -- what must hold after each step

    def check_invariants(self, *args: Any, **kwargs: Any) -> None:
        """Compare Redis with the model, in one round trip. Replaces @invariant methods, which cost one each."""
        super().check_invariants(*args, **kwargs)
        records, said, sets, queues, counts, pushed, announced, inflight, told, spend, *cloud = self.snapshot()
        self.check_records(records)
        self.check_said(records, said)
        self.check_sets(sets)
        self.check_queues(sets, queues)
        self.check_flows(sets)
        self.check_cloud(records, *cloud)
        self.check_spend(records, spend)
        assert counts == {name: number for name, number in self.model.counts.items() if number}
        assert pushed == self.pushed, "a settle appended more or less than once"
        assert announced == sum(counts.get(state, 0) for state in State if state.terminal)
        assert inflight == {tenant: number for tenant, number in self.model.inflight.items() if number}
        assert told == {tenant: self.model.told[tenant] for tenant in TENANTS}
        assert self.ledger.census().balanced

    def check_records(self, records: dict[str, dict[bytes, bytes]]) -> None:
        for job_id, job in self.model.jobs.items():
            record = records[job_id]
            assert record[b"state"].decode() == job.state
            assert int(record[b"attempt"]) == job.attempt
            assert int(record.get(b"recorded", 0)) == job.state.terminal, "recorded once, when it ends"
            assert record.get(b"owner", b"").decode() == (job.owner or "")
            assert [int(record.get(name, 0)) for name in (b"errors", b"lost", b"stale")] \
                == [job.errors, job.lost, job.stale]
            if job.state.terminal:
                kept = {name: value for name, value in record.items() if name != b"stale"}
                assert self.ended.setdefault(job_id, kept) == kept, "an ended job has changed"
                assert job.new.service is not Service.AUTH or b"input" not in record

    def check_said(self, records: dict[str, dict[bytes, bytes]], said: dict[str, list[Any]]) -> None:
        for job_id, job in self.model.jobs.items():
            assert said[job_id] == [(f"{piece.attempt}-{piece.position}".encode(),
                                     {piece.voice.value.encode(): piece.text.encode()}) for piece in job.said]
            assert records[job_id].get(b"said") == (None if job.noted is None else b"%d" % job.noted)

    def check_sets(self, sets: dict[str, dict[str, float]]) -> None:
        jobs = self.model.jobs.values()
        for service in SERVICES:
            waiting, woken, backlog = (list(sets[f"{name}:{service}"]) for name in ("waiting", "woken", "backlog"))
            assert waiting == self.model.waiting(service), "the waiting set, or its order, is off"
            assert sorted(woken + backlog) == sorted(waiting), "waiting is not woken and backlog, each job in one"
        expected = {
            "delayed": {job.new.id: job.ready_ms for job in jobs if job.ready_ms is not None},
            "held": {job.new.id: job.created_ms for job in jobs if job.held},
            "cloud": {job.new.id: job.home_ms for job in jobs if job.sent},
            "leases": {job.new.id: job.lease_ms for job in jobs if job.state is State.RUNNING},
            "deadlines": {job.new.id: job.deadline_ms for job in jobs if not job.state.terminal and job.deadline_ms},
            "finished": {job.new.id: job.finished_ms for job in jobs if job.state.terminal},
        }
        for name, times in expected.items():
            assert sets[name] == times, name

    def check_flows(self, sets: dict[str, dict[str, float]]) -> None:
        """What each flow's next job will wait for. A flow that waits for less than the virtual time may be forgotten."""
        for (service, tenant, lane), tag in self.model.flows.items():
            now = self.model.virtual_times[service]
            assert max(sets[f"flows:{service}"].get(f"{tenant}:{lane}", 0), now) == max(tag, now)

    def check_queues(self, sets: dict[str, dict[str, float]], queues: dict[str, list[bytes]]) -> None:
        """The first of those waiting are woken, as far as the window reaches, and nobody else but those whose wake-up was
        popped; in the queue are the wake-ups that were not, in order."""
        for service in SERVICES:
            waiting = self.model.waiting(service)
            tags = {job_id: f"{job_id}.{sets[f'woken:{service}'][job_id]:.0f}" for job_id in waiting
                    if job_id in sets[f"woken:{service}"]}
            assert set(waiting[:WINDOW]) <= set(tags), "one of the first is not woken"
            queue = [tag for tag in map(tag_of, reversed(queues[service])) if tag not in self.strays]
            assert queue == [tag for tag in tags.values() if tag in queue], "not once each, or not in order"
            assert set(queue) <= {tags[job_id] for job_id in waiting[:WINDOW]}, "the queue goes beyond the window"
            assert set(tags.values()) - set(queue) <= self.popped | self.strays, "a wake-up has vanished"

    def teardown(self) -> None:
        """However it went, working workers and recovery bring every job to an end."""
        for _ in range(self.settings.max_lost + 1):
            self.ledger.now_ms = self.cloud.now_ms = self.ledger_now + 60_000
            self.calling(1).come_home()
            self.ledger.reap()
            self.ledger.expire()
            for service in SERVICES:
                self.ledger.rewake(service)
                while message := self.client.rpop(service):
                    claim = self.ledger.claim(json.loads(message)["headers"]["id"], PLACE, owner=self.next_id())
                    if isinstance(claim, Claim):
                        self.ledger.settle(claim, State.SUCCEEDED)
        census = self.ledger.census()
        assert census.live == 0, f"never ended: {census}"
        assert not any(self.client.hexists(f"job:{job_id}", "reserved") for job_id in self.model.jobs)
        assert census.balanced

    # -- the plumbing

    @property
    def ledger_now(self) -> int:
        assert self.ledger.now_ms
        return self.ledger.now_ms

    def next_id(self) -> str:
        """Return a fresh id. Not random, so that Hypothesis can replay."""
        self.serial += 1
        return f"00000000-0000-7000-8000-{self.serial:012d}"

    def said_by(self, job_id: str) -> list[Piece]:
        return self.model.jobs[job_id].said if job_id in self.model.jobs else []

    def call_submit(self, new: NewJob, times: int) -> str:
        for _ in range(times):
            expected = self.model.submit(new)
            answer = self.ledger.submit(new)
            assert (answer.outcome, answer.job_id) == expected
            if answer.job:
                queue = self.model.waiting(new.service)
                assert answer.job.position == (queue.index(new.id) if new.id in queue else None)
        return expected[1]

    def call_claim(self, job_id: str, times: int, owner: str | None = None) -> Any:
        owner, strays = owner or self.next_id(), {tag for tag in self.tags(*SERVICES) if tag.startswith(job_id)}
        if strays - self.strays:
            self.strays |= strays
            self.pass_time(1)  # so that the next wake-up of the job has another tag
        for _ in range(times):
            expected = self.model.claim(job_id, owner)
            assert self.ledger.claim(job_id, PLACE, owner=owner) == expected
        return expected if isinstance(expected, Claim) else multiple()

    def call_take(self, service: Service, owner: str, times: int) -> Any:
        for _ in range(times):
            expected = self.model.take(service, owner)
            assert self.ledger.take(service, PLACE, owner=owner) == expected
        return expected or multiple()

    def tags(self, *services: Service) -> list[str]:
        return [tag_of(message) for service in services for message in self.client.lrange(service, 0, -1)]

    def queued(self, service: Service) -> set[str]:
        return {tag.partition(".")[0] for tag in self.tags(service)}

    def snapshot(self) -> tuple[
            dict[str, dict[bytes, bytes]], dict[str, list[Any]], dict[str, dict[str, float]], dict[str, list[bytes]],
            dict[str, int], int, int, dict[str, int], dict[str, int], dict[bytes, bytes], set[str],
            list[dict[bytes, bytes]]]:
        """Return the records, what was said, the sets in order with scores, the Celery queues, the counts, elements
        appended, announcements made, jobs in flight, events told, what the cloud costs, jobs of which text came too early
        from there, and what it is to be told."""
        names = [f"{name}:{service}" for name in ("waiting", "woken", "backlog", "flows") for service in SERVICES]
        names += ["delayed", "held", "cloud", "leases", "deadlines", "finished"]
        with self.client.pipeline(transaction=False) as pipeline:
            for job_id in self.model.jobs:
                pipeline.hgetall(f"job:{job_id}")
            for job_id in self.model.jobs:
                pipeline.xrange(f"said:{job_id}")
            for name in names:
                pipeline.zrange(name, 0, -1, withscores=True)
            for service in SERVICES:
                pipeline.lrange(service, 0, -1)
            for tenant in TENANTS:
                pipeline.xlen(f"events:{tenant}")
            pipeline.hgetall("counts").llen("chunks").xlen("announcements").hgetall("inflight").keys("unsaid:*")
            pipeline.xrange("void").hgetall("spend")
            *answers, counts, pushed, announced, inflight, early, voids, spend = pipeline.execute()
        split = len(self.model.jobs)
        return (dict(zip(self.model.jobs, answers[:split], strict=True)),
                dict(zip(self.model.jobs, answers[split:2 * split], strict=True)),
                {name: {member.decode(): score for member, score in members}
                 for name, members in zip(names, answers[2 * split:-4], strict=True)},
                dict(zip(SERVICES, answers[-4:-2], strict=True)),
                {name.decode(): int(number) for name, number in counts.items()}, pushed, announced,
                {name.decode(): int(number) for name, number in inflight.items()},
                dict(zip(TENANTS, answers[-2:], strict=True)), spend,
                {key.decode().removeprefix("unsaid:") for key in early}, [fields for _, fields in voids])


def tag_of(message: bytes) -> str:
    """Return which wake-up this is: of which job, and pushed when."""
    return str(json.loads(message)["properties"]["delivery_tag"])


def test_any_order_of_calls_gives_the_models_answers_and_balanced_books(
        client: redis.Redis, settings: Settings) -> None:
    small = dataclasses.replace(settings, lease_s=10.0, max_lost=2, retention_s=10.0, cloud_wait_s=5.0, cloud_lease_s=20.0)
    run_state_machine_as_test(
        lambda: LedgerMachine(client, small),
        settings=hypothesis.settings(max_examples=64, stateful_step_count=40, derandomize="CI" in os.environ))
