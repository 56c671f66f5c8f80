"""What may be sent to the cloud is capped, in jobs a minute and money an hour."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from app.job import State
from app.ledger import Cap, Claim, CloudLedger, Ending, Ledger
from app.routing_rules import Rules
from app.settings import Settings
from tests.ledger_cloud import BY_HAND, NOW_MS, begun_job, send, sent_job, travel
from tests.model_cloud import OUT_THERE
from tests.model_ledger import a_job

#: A job of `a_job` has 19 bytes of input, so 7 tokens at most, and asks for 256: 1,000 + 10,000 * 0.263 micros.
RULES = Rules(cloud_jobs_per_minute=5, cloud_money_per_hour=100.0, cloud_price_per_job=0.001,
              cloud_price_per_1000_tokens=0.01)
COST = 0.00363


def waiting(ledger: Ledger, count: int, **changes: object) -> list[str]:
    return [ledger.submit(a_job(**changes)).job_id for _ in range(count)]


def money(cloud: CloudLedger) -> float:
    return cloud.spend(RULES).money_hour


# -- jobs a minute


def test_no_more_jobs_are_sent_in_any_minute_than_the_cap(ledger: Ledger, cloud: CloudLedger) -> None:
    waiting(ledger, 40)
    sent_s: list[float] = []
    for _ in range(70):  # a second and a bit each
        claims, _ = cloud.send(most=2, decision=BY_HAND, rules=RULES)
        sent_s += [(cloud.now_ms or 0) / 1000] * len(claims)
        travel(1.7, ledger, cloud)

    assert len(sent_s) == 10
    assert max(sum(start <= at < start + 60 for at in sent_s) for start in sent_s) == 5


def test_a_send_stops_at_the_cap_and_says_which(ledger: Ledger, cloud: CloudLedger) -> None:
    ids = waiting(ledger, 7)

    claims, cap = cloud.send(most=9, decision=BY_HAND, rules=RULES)
    assert ([claim.id for claim in claims], cap) == (ids[:1:-1], Cap.JOBS)
    assert cloud.send(most=1, decision=BY_HAND, rules=RULES) == ([], Cap.JOBS)
    assert cloud.send_job(ids[0], decision=BY_HAND, rules=RULES) is Cap.JOBS
    assert (ledger.read(ids[0]).position, ledger.read(ids[1]).position) == (0, 1)


def test_a_job_that_came_home_counts_in_the_minute_that_it_was_sent_in(ledger: Ledger, cloud: CloudLedger) -> None:
    waiting(ledger, 5)
    cloud.send(most=5, decision=BY_HAND, rules=RULES)
    cloud.recall(most=5)

    assert cloud.send(most=5, decision=BY_HAND, rules=RULES) == ([], Cap.JOBS), "five messages went out"
    assert (cloud.spend(RULES).jobs_left, cloud.spend(RULES).jobs_minute) == (0, 5)


def test_a_clock_that_goes_far_back_does_not_keep_the_caps_reached_until_it_is_there_again(
        ledger: Ledger, cloud: CloudLedger) -> None:
    waiting(ledger, 6)
    cloud.send(most=5, decision=BY_HAND, rules=RULES)
    travel(-50, ledger, cloud)
    assert (cloud.spend(RULES).jobs_left, money(cloud)) == (0, pytest.approx(5 * COST)), "a little back, all counts"
    travel(-3600, ledger, cloud)
    assert (cloud.spend(RULES).jobs_left, money(cloud)) == (5, 0)
    cloud.recall(most=5)
    assert money(cloud) == 0


def test_a_cap_of_none_sends_nothing(ledger: Ledger, cloud: CloudLedger) -> None:
    [job_id] = waiting(ledger, 1)
    none = dataclasses.replace(RULES, cloud_jobs_per_minute=0)
    broke = dataclasses.replace(RULES, cloud_money_per_hour=0.0)

    assert cloud.send_job(job_id, decision=BY_HAND, rules=none) is Cap.JOBS
    assert cloud.send_job(job_id, decision=BY_HAND, rules=broke) is Cap.MONEY
    assert cloud.spend(broke).money_left == 0.0


def test_many_who_send_at_the_same_time_keep_to_the_caps_together(
        ledger: Ledger, client: redis.Redis, settings: Settings) -> None:
    waiting(ledger, 60)
    rules = dataclasses.replace(RULES, cloud_jobs_per_minute=23)
    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(lambda _: CloudLedger(client, settings, now_ms=NOW_MS).send(
            most=4, decision=BY_HAND, rules=rules)[0], range(16)))

    assert len([claim for claims in sent for claim in claims]) == 23


# -- money an hour


@pytest.mark.parametrize(("body", "micros"), [
    (b'{"prompt": "hello"}', 3630),
    (b'{"prompt":"hello","max_tokens":1000}', 11_120),
    (('{"prompt":"' + "\N{CJK UNIFIED IDEOGRAPH-5B57}" * 100 + '","max_tokens":1}').encode(), 2110),
    (b'{"prompt":"say \\"max_tokens\\":9","max_tokens":10}', 1270),
    (b"no JSON", 3590),
])
def test_a_job_reserves_what_it_may_cost_at_most(
        ledger: Ledger, cloud: CloudLedger, body: bytes, micros: int) -> None:
    [job_id] = waiting(ledger, 1, input=body)

    assert round(1e6 * cloud.spend(RULES).job_cost) == micros, "it would be sent next"
    cloud.send_job(job_id, decision=BY_HAND, rules=RULES)
    now = cloud.spend(RULES)
    assert (round(1e6 * now.money_hour), round(1e6 * now.job_cost)) == (micros, micros)
    assert now.money_left == pytest.approx(100.0 - micros / 1e6)


def test_a_price_is_rounded_up_and_the_cap_down(ledger: Ledger, cloud: CloudLedger) -> None:
    [job_id] = waiting(ledger, 1)
    cheap = dataclasses.replace(RULES, cloud_price_per_job=0.0, cloud_price_per_1000_tokens=0.0000001,
                                cloud_money_per_hour=0.0000019)

    assert isinstance(cloud.send_job(job_id, decision=BY_HAND, rules=cheap), Claim)
    now = cloud.spend(cheap)
    assert (round(1e6 * now.money_hour), now.money_left) == (1, 0.0)


def test_money_beyond_all_measure_is_just_very_much(ledger: Ledger, cloud: CloudLedger) -> None:
    [job_id] = waiting(ledger, 1)
    rich = dataclasses.replace(RULES, cloud_money_per_hour=1.7e308)
    dear = dataclasses.replace(RULES, cloud_price_per_1000_tokens=1.7e308)

    assert cloud.send_job(job_id, decision=BY_HAND, rules=dear) is Cap.MONEY
    assert isinstance(cloud.send_job(job_id, decision=BY_HAND, rules=rich), Claim)
    assert cloud.spend(rich).money_left == pytest.approx(1e9 - COST, rel=1e-15)


def test_a_send_stops_where_the_next_job_is_too_dear(ledger: Ledger, cloud: CloudLedger) -> None:
    ids = waiting(ledger, 4)
    rules = dataclasses.replace(RULES, cloud_money_per_hour=2.5 * COST)

    claims, cap = cloud.send(most=4, decision=BY_HAND, rules=rules)
    assert ([claim.id for claim in claims], cap) == (ids[:1:-1], Cap.MONEY)
    assert cloud.spend(rules).money_left == pytest.approx(0.5 * COST)


def test_money_is_free_again_an_hour_after_it_was_spent_and_not_before(ledger: Ledger, cloud: CloudLedger) -> None:
    ids = waiting(ledger, 2)
    rules = dataclasses.replace(RULES, cloud_money_per_hour=1.5 * COST)
    cloud.send_job(ids[0], decision=BY_HAND, rules=rules)
    begun = cloud.begin(ids[0], ledger_ticket(cloud, ids[0]), OUT_THERE, run="r1")
    assert begun
    travel(3599.9, ledger, cloud)
    assert cloud.send_job(ids[1], decision=BY_HAND, rules=rules) is Cap.MONEY
    travel(60.1, ledger, cloud)

    assert isinstance(cloud.send_job(ids[1], decision=BY_HAND, rules=rules), Claim)
    assert ledger.settle(begun, State.SUCCEEDED, used(1, 1)).value == "recorded", "of which nothing is counted any more"
    assert cloud.spend(rules).money_hour == pytest.approx(COST)


def ledger_ticket(cloud: CloudLedger, job_id: str) -> str:
    return cloud._client.hget(f"job:{job_id}", "ticket").decode()


def used(prompt: int, answer: int) -> Ending:
    return Ending(result=b"{}", usage=json.dumps({"prompt_tokens": prompt, "completion_tokens": answer}).encode())


def test_the_end_of_a_run_sets_what_it_cost_and_the_rest_is_free(ledger: Ledger, cloud: CloudLedger) -> None:
    cheap, unknown, dear = (begun_job(ledger, cloud, rules=RULES) for _ in range(3))
    travel(30, ledger, cloud)

    ledger.settle(cheap, State.SUCCEEDED, used(10, 90))
    assert money(cloud) == pytest.approx(0.002 + 2 * COST)
    ledger.settle(unknown, State.FAILED, Ending(error=b"{}"))
    assert money(cloud) == pytest.approx(0.002 + 2 * COST), "nobody knows what it used"
    ledger.settle(dear, State.SUCCEEDED, used(500, 500))
    assert money(cloud) == pytest.approx(0.002 + COST + 0.011), "more than was thought"
    ledger.settle(dear, State.SUCCEEDED, used(500, 500))
    assert money(cloud) == pytest.approx(0.002 + COST + 0.011), "once"


def test_what_ended_jobs_cost_counts_for_the_whole_hour(ledger: Ledger, cloud: CloudLedger, client: redis.Redis) -> None:
    jobs = [begun_job(ledger, cloud, rules=RULES) for _ in range(3)]
    for job in jobs:
        ledger.settle(job, State.SUCCEEDED, used(3, 2))
    recalled = sent_job(ledger, cloud, rules=RULES)
    cloud.recall(job_ids=[recalled.id])
    few = 3 * 0.00105
    assert money(cloud) == pytest.approx(few), "of a few tokens, it is little, but not nothing"

    travel(3540, ledger, cloud)
    ledger.purge()
    assert money(cloud) == pytest.approx(few)
    travel(120, ledger, cloud)
    assert money(cloud) == 0


def test_what_was_not_begun_gets_it_all_back_whichever_way_it_leaves(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis) -> None:
    recalled, kept, cancelled, late, lapsed = (
        sent_job(ledger, cloud, rules=RULES, deadline_s=deadline_s) for deadline_s in (None, None, None, 1.0, None))
    assert money(cloud) == pytest.approx(5 * COST)

    cloud.recall(job_ids=[recalled.id])
    assert money(cloud) == pytest.approx(4 * COST)
    cloud.keep(kept.id, decision=BY_HAND)
    assert money(cloud) == pytest.approx(3 * COST)
    ledger.cancel(cancelled.id)
    assert money(cloud) == pytest.approx(2 * COST)
    travel(1, ledger, cloud)
    ledger.expire()
    assert money(cloud) == pytest.approx(COST)
    travel(600, ledger, cloud)
    assert cloud.come_home() == [lapsed.id]
    assert money(cloud) == 0
    assert all(int(left) == 0 for name, left in client.hgetall("spend").items() if name.startswith(b"m"))
    assert not any(client.hexists(f"job:{claim.id}", "reserved") for claim in (recalled, kept, cancelled, late, lapsed))


@pytest.mark.parametrize("leave", ["silent", "returned", "cancelled"])
def test_a_run_of_which_nobody_says_what_it_used_keeps_what_was_reserved(
        ledger: Ledger, cloud: CloudLedger, settings: Settings, leave: str) -> None:
    claim = begun_job(ledger, cloud, rules=RULES)
    if leave == "silent":
        travel(settings.cloud_lease_s, ledger, cloud)
        ledger.reap()
    elif leave == "returned":
        ledger.release(claim, because="error")
    else:
        ledger.cancel(claim.id)
    assert money(cloud) == pytest.approx(COST)

    if leave != "cancelled":
        send(cloud, 1, RULES)
        assert money(cloud) == pytest.approx(2 * COST), "it is sent a second time"
        cloud.recall(most=1)
        assert money(cloud) == pytest.approx(COST), "what the first run cost, it did"


def test_the_price_of_a_job_is_the_one_that_it_was_sent_at(ledger: Ledger, cloud: CloudLedger) -> None:
    claim = begun_job(ledger, cloud, rules=RULES)
    dearer = dataclasses.replace(RULES, cloud_price_per_1000_tokens=10.0)
    assert cloud.spend(dearer).job_cost == pytest.approx(2.631)
    ledger.settle(claim, State.SUCCEEDED, used(50, 50))

    assert money(cloud) == pytest.approx(0.002)


# -- counts, and the pace


def test_how_jobs_went_back_and_forth_is_counted_apart(ledger: Ledger, cloud: CloudLedger, settings: Settings) -> None:
    recalled, kept, lapsed = (sent_job(ledger, cloud) for _ in range(3))
    returned, silent = (begun_job(ledger, cloud) for _ in range(2))
    cloud.recall(job_ids=[recalled.id])
    cloud.keep(kept.id, decision=BY_HAND)
    ledger.release(returned, because="drain")
    travel(settings.cloud_wait_s, ledger, cloud)
    assert cloud.come_home() == [lapsed.id]
    assert ledger.reap() == ([silent.id], [])
    cloud.posted(taken=5, failed=0)
    cloud.posted(taken=0, failed=2)

    counts = ledger.census().counts
    names = ("sent", "begun", "recalled", "kept", "returned", "lapsed", "came_home", "posts", "posts_failed")
    assert [counts.get(name, 0) for name in names] == [5, 2, 1, 1, 1, 2, 5, 5, 2]


def test_the_pace_out_there_is_smoothed_apart_from_that_at_home(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis) -> None:
    for run_s in (2, 4):
        claim = begun_job(ledger, cloud)
        travel(run_s, ledger, cloud)
        ledger.settle(claim, State.SUCCEEDED)

    assert client.hgetall("pace") == {b"cloud": b"2200.0"}
