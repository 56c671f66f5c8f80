"""Jobs in the cloud, for the ledger's tests: sent, begun, and what the cloud is to be told."""

import redis

from app.job import Route, State
from app.ledger import Claim, CloudLedger, Ledger
from app.routing_rules import Rules
from tests.model_cloud import OUT_THERE
from tests.model_ledger import a_job

NOW_MS = 1_800_000_000_000
BY_HAND = b'{"rule":"by-hand"}'
RULES = Rules()


def send(cloud: CloudLedger, most: int, rules: Rules = RULES) -> list[Claim]:
    """Send so many of those that wait, which no cap forbids; the claims' owners are their tickets."""
    claims, cap = cloud.send(most=most, decision=BY_HAND, rules=rules)
    assert cap is None
    return claims


def sent_job(ledger: Ledger, cloud: CloudLedger, rules: Rules = RULES, **changes: object) -> Claim:
    """Submit a job and send it; the claim's owner is its ticket."""
    claim = cloud.send_job(ledger.submit(a_job(**changes)).job_id, decision=BY_HAND, rules=rules)
    assert isinstance(claim, Claim)
    return claim


def begun_job(ledger: Ledger, cloud: CloudLedger, rules: Rules = RULES, **changes: object) -> Claim:
    """Submit a job, send it, and have a run begin it."""
    sent = sent_job(ledger, cloud, rules, **changes)
    claim = cloud.begin(sent.id, sent.owner, OUT_THERE, run=f"{sent.owner}.1")
    assert claim
    return claim


def travel(by_s: float, *ledgers: Ledger | CloudLedger) -> None:
    """Let time pass."""
    for one in ledgers:
        one.now_ms = (one.now_ms or 0) + round(by_s * 1000)


def voids(client: redis.Redis) -> list[tuple[str, str, str]]:
    """All that the cloud is to be told: job, ticket or run, worker."""
    return [(fields[b"id"].decode(), fields[b"void"].decode(), fields[b"worker"].decode())
            for _, fields in client.xrange("void")]


def is_home(ledger: Ledger, client: redis.Redis, job_id: str) -> bool:
    """Whether a job waits here, and nothing says that it was ever sent."""
    job = ledger.read(job_id)
    return (job.state is State.QUEUED and job.route is Route.LOCAL and job.position is not None
            and not client.hexists(f"job:{job_id}", "ticket"))
