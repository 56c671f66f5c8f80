"""The order of the waiting jobs is fair: between tenants by their weights, between lanes ten to one, and nobody starves.

A job of a tenant waits for about one job of each other flow, however many those have waiting.
"""

import json
from collections import Counter
from itertools import pairwise

import hypothesis
import pytest
import redis
from hypothesis import strategies as st

from app.job import Lane, Service
from app.ledger import Claim, Ledger, new_owner
from app.settings import Settings
from tests.model_ledger import LANE_COST, PLACE, a_job

WINDOW = 8
SLOW = [hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow]
BOUNDED = hypothesis.settings(max_examples=15, suppress_health_check=SLOW)
NOW_MS = 1_800_000_000_000


def take(ledger: Ledger) -> Claim:
    """Begin the first job, as a worker that has just finished one."""
    claim = ledger.take(Service.MODEL, PLACE, owner=new_owner())
    assert claim, "nothing waits"
    return claim


def pop(ledger: Ledger, client: redis.Redis) -> Claim:
    """Begin what the next wake-up names, as a worker that was idle."""
    message = client.rpop("model")
    assert message, "no wake-up in the queue"
    claim = ledger.claim(json.loads(message)["headers"]["id"], PLACE, owner=new_owner())
    assert isinstance(claim, Claim)
    return claim


def submit(ledger: Ledger, tenant: str, number: int = 1, lane: Lane = Lane.STANDARD) -> list[str]:
    return [ledger.submit(a_job(tenant=tenant, lane=lane)).job_id for _ in range(number)]


def test_behind_ten_thousand_jobs_of_another_a_single_job_begins_as_one_of_the_next_two(
        ledger: Ledger, client: redis.Redis) -> None:
    submit(ledger, "ann", 10_000)
    for begin in (lambda: pop(ledger, client), lambda: take(ledger)):
        for _ in range(20):
            begin()

        submit(ledger, "bob")
        assert "bob" in [begin().tenant for _ in range(2)]
        assert client.llen("model") == WINDOW


@BOUNDED
@hypothesis.given(weights=st.lists(st.sampled_from((0.5, 1.0, 2.0, 3.0, 5.0)), min_size=2, max_size=3),
                  turns=st.integers(20, 40), by_wakeup=st.booleans())
def test_shares_follow_the_weights_within_a_job_or_two(
        client: redis.Redis, settings: Settings, weights: list[float], turns: int, by_wakeup: bool) -> None:
    client.flushall()
    ledger = Ledger(client, settings)
    for number, weight in enumerate(weights):
        client.hset(f"limits:t{number}", "weight", repr(weight))
        submit(ledger, f"t{number}", turns)

    begun = Counter((pop(ledger, client) if by_wakeup else take(ledger)).tenant for _ in range(turns))
    for number, weight in enumerate(weights):
        assert abs(begun[f"t{number}"] - turns * weight / sum(weights)) <= 2


@hypothesis.settings(BOUNDED, max_examples=8)
@hypothesis.given(flows=st.integers(1, 4), head_start=st.integers(0, 20))
def test_a_batch_job_begins_although_interactive_ones_never_stop_coming(
        client: redis.Redis, settings: Settings, flows: int, head_start: int) -> None:
    """Its tag is the virtual time plus a batch job's cost. Each flow has at most that many interactive jobs before it:
    the ratio of the costs, and one whose tag was given before."""
    client.flushall()
    ledger = Ledger(client, settings)
    tenants = [f"busy{number}" for number in range(flows)]
    for tenant in tenants:
        submit(ledger, tenant, 2, Lane.INTERACTIVE)
    for _ in range(head_start):
        submit(ledger, take(ledger).tenant, 1, Lane.INTERACTIVE)
    submit(ledger, "patient", 1, Lane.BATCH)

    bound = flows * (LANE_COST[Lane.BATCH] // LANE_COST[Lane.INTERACTIVE] + 1)
    for begun in range(bound + 1):
        claim = take(ledger)
        if claim.lane is Lane.BATCH:
            assert begun >= bound - 3 * flows, "it was not its turn yet"
            return
        submit(ledger, claim.tenant, 1, Lane.INTERACTIVE)
    pytest.fail(f"a batch job was still waiting after {bound} interactive jobs of {flows} flows")


def test_a_tenants_lanes_pass_each_other_ten_to_one(ledger: Ledger) -> None:
    submit(ledger, "ann", 40, Lane.STANDARD)
    submit(ledger, "ann", 40, Lane.INTERACTIVE)

    lanes = Counter(take(ledger).lane for _ in range(33))
    assert lanes[Lane.STANDARD] in (2, 3)


@BOUNDED
@hypothesis.given(idle_for=st.integers(1, 30), burst=st.integers(2, 10), forgets=st.booleans())
def test_a_tenant_that_was_idle_has_hoarded_no_credit(
        client: redis.Redis, settings: Settings, idle_for: int, burst: int, forgets: bool) -> None:
    client.flushall()
    ledger = Ledger(client, settings)
    submit(ledger, "bob")
    take(ledger)
    submit(ledger, "ann", idle_for + burst + 2)
    for _ in range(idle_for):
        take(ledger)
    if forgets:
        ledger.rewake(Service.MODEL)
    submit(ledger, "bob", burst)

    begun = [take(ledger).tenant for _ in range(2 * burst)]
    assert abs(begun.count("bob") - begun.count("ann")) <= 2
    assert all(pair != ("bob", "bob") for pair in pairwise(begun[1:])), "several in a row: paid out of credit"


@BOUNDED
@hypothesis.given(cancelled=st.lists(st.integers(0, 19), unique=True, max_size=20))
def test_a_cancelled_job_gives_its_place_back(
        client: redis.Redis, settings: Settings, cancelled: list[int]) -> None:
    client.flushall()
    ledger = Ledger(client, settings)
    ids = submit(ledger, "ann", 20)
    for number in cancelled:
        ledger.cancel(ids[number])
    submit(ledger, "bob", 21)

    [last] = submit(ledger, "ann")
    begun = [take(ledger) for _ in range(41 - len(cancelled) + 1)]
    its_place = [claim.id for claim in begun].index(last)
    bobs_before = sum(claim.tenant == "bob" for claim in begun[:its_place])
    assert abs(bobs_before - (20 - len(cancelled))) <= 1, "it waits for jobs of its tenant that nobody will run"


def test_submitting_and_cancelling_gains_nothing(ledger: Ledger) -> None:
    for job_id in submit(ledger, "ann", 50):
        ledger.cancel(job_id)
    submit(ledger, "bob", 10)
    submit(ledger, "ann", 10)

    begun = [take(ledger).tenant for _ in range(10)]
    assert abs(begun.count("ann") - 5) <= 1


@pytest.mark.parametrize("how", ["reaped", "released"])
def test_a_job_that_comes_back_keeps_its_place(ledger: Ledger, client: redis.Redis, how: str) -> None:
    ledger.now_ms = NOW_MS
    submit(ledger, "ann", 30)
    claim = take(ledger)
    for _ in range(3):
        take(ledger)
    submit(ledger, "bob", 30)
    if how == "released":
        ledger.release(claim, because="drain")
    else:
        ledger.now_ms += 60_000
        ledger.reap()

    assert take(ledger).id == claim.id


@BOUNDED
@hypothesis.given(steps=st.lists(st.tuples(st.sampled_from(("ann", "bob", "eve")), st.sampled_from(Lane), st.booleans()),
                                 min_size=10, max_size=60))
def test_wakeups_come_in_the_order_of_the_waiting_set(
        client: redis.Redis, settings: Settings, steps: list[tuple[str, Lane, bool]]) -> None:
    client.flushall()
    ledger = Ledger(client, settings)
    for tenant, lane, begins in steps:
        submit(ledger, tenant, 1, lane)
        if begins:
            take(ledger)
        queue = [json.loads(message)["headers"]["id"] for message in reversed(client.lrange("model", 0, -1))]
        assert queue == [job_id.decode() for job_id in client.zrange("waiting:model", 0, WINDOW - 1)]
