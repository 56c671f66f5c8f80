"""What a tenant may have at once and in a minute is counted exactly, however its jobs end and however many ask at once."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import pytest
import redis
from hypothesis import strategies as st

from app.job import Service, State
from app.ledger import Claim, Ending, Ledger, Submission, Submitted, new_owner
from app.settings import Settings
from tests.model_ledger import PLACE, a_job

NOW_MS = 1_800_000_000_000
THREADS = 8


@pytest.fixture
def ledger(client: redis.Redis, settings: Settings) -> Ledger:
    return limited(client, settings)


def limited(client: redis.Redis, settings: Settings, now_ms: int | None = NOW_MS, **limits: int) -> Ledger:
    return Ledger(client, dataclasses.replace(settings, **limits), now_ms=now_ms)  # type: ignore[arg-type]


def ask(ledger: Ledger, **changes: object) -> Submission:
    return ledger.submit(a_job(metered=True, **changes))


def figure(submission: Submission, name: str) -> tuple[int, int]:
    [limit] = [limit for limit in submission.limits if limit.name == name]
    return limit.left, limit.whole_ms


def take(ledger: Ledger) -> Claim:
    claim = ledger.take(Service.MODEL, PLACE, owner=new_owner())
    assert claim
    return claim


def test_a_bucket_fills_evenly(client: redis.Redis, settings: Settings) -> None:
    ledger = limited(client, settings, requests_per_minute=6)
    assert [figure(ask(ledger), "requests") for _ in range(6)] == [(left, (6 - left) * 10_000) for left in range(5, -1, -1)]
    refused = ask(ledger)
    assert refused.outcome is Submitted.LIMITED
    assert refused.shortage
    assert (refused.shortage.name, refused.shortage.wait_ms) == ("requests", 10_000)

    ledger.now_ms = NOW_MS + 9_999
    assert ask(ledger).outcome is Submitted.LIMITED
    ledger.now_ms = NOW_MS + 10_000
    assert ask(ledger).outcome is Submitted.ACCEPTED
    assert ask(ledger).outcome is Submitted.LIMITED
    assert ledger.census().counts["limited"] == 3


@hypothesis.settings(max_examples=20, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(waits_ms=st.lists(st.integers(0, 30_000), min_size=1, max_size=25), limit=st.integers(1, 10))
def test_over_any_time_no_more_than_a_bucket_and_what_flows_in_is_admitted(
        client: redis.Redis, settings: Settings, waits_ms: list[int], limit: int) -> None:
    client.flushall()
    ledger, passed_ms = limited(client, settings, requests_per_minute=limit), 0
    for admitted, wait_ms in enumerate(waits_ms, start=1):
        passed_ms += wait_ms
        ledger.now_ms = NOW_MS + passed_ms
        answer = ask(ledger)
        if answer.shortage:
            ledger.now_ms += answer.shortage.wait_ms
            passed_ms += answer.shortage.wait_ms
            assert ask(ledger).outcome is Submitted.ACCEPTED, "who waits as told is admitted"
        assert admitted <= limit + passed_ms * limit / 60_000 + 0.001


def test_it_is_all_or_nothing(client: redis.Redis, settings: Settings) -> None:
    ledger = limited(client, settings, requests_per_minute=10, tokens_per_minute=100, jobs_in_flight=2)
    ask(ledger, tokens=80)
    refused = ask(ledger, tokens=50)
    assert refused.shortage
    assert refused.shortage.name == "tokens"
    assert figure(refused, "requests")[0] == 9
    assert figure(ask(ledger, tokens=20), "requests")[0] == 8

    refused = ask(ledger)
    assert refused.shortage
    assert refused.shortage.name == "jobs"
    assert figure(refused, "requests")[0] == 8
    assert figure(refused, "tokens")[0] == 0
    assert ledger.census().live == 2


@pytest.mark.parametrize(("end", "left"), [("usage", 95), ("no usage", 40), ("cancelled", 100)])
def test_tokens_that_were_not_used_go_back_at_the_end(
        client: redis.Redis, settings: Settings, end: str, left: int) -> None:
    ledger = limited(client, settings, tokens_per_minute=100)
    job = ask(ledger, tokens=60)
    if end == "cancelled":
        ledger.cancel(job.job_id)
    else:
        usage = b'{"prompt_tokens": 3, "completion_tokens": 2}' if end == "usage" else b""
        claim = take(ledger)
        for _ in range(2):  # the reply to the first was lost
            ledger.settle(claim, State.SUCCEEDED, Ending(result=b"{}", usage=usage))

    assert figure(ask(ledger, tokens=0), "tokens")[0] == left


def test_a_follower_costs_no_tokens_but_a_request_and_a_place(client: redis.Redis, settings: Settings) -> None:
    ledger = limited(client, settings, tokens_per_minute=100, requests_per_minute=10, jobs_in_flight=5)
    ask(ledger, tokens=40, fingerprint="f")
    assert figure(ask(ledger, tokens=40, fingerprint="f"), "jobs")[0] == 3
    ledger.settle(take(ledger), State.SUCCEEDED,
                  Ending(result=b"{}", usage=b'{"prompt_tokens": 10, "completion_tokens": 20}'))

    after = ask(ledger, tokens=0)
    assert [figure(after, name)[0] for name in ("tokens", "requests", "jobs")] == [70, 7, 4]


def test_an_answer_known_already_costs_a_request_only(client: redis.Redis, settings: Settings) -> None:
    ledger = limited(client, settings, tokens_per_minute=100, requests_per_minute=10, jobs_in_flight=1)
    for _ in range(2):
        answered = ledger.submit(a_job(metered=True, tokens=60), answer=Ending(result=b"{}", usage=b"{}"))
        assert answered.outcome is Submitted.ACCEPTED
        assert ledger.read(answered.job_id).state is State.SUCCEEDED

    after = ask(ledger, tokens=1)
    assert [figure(after, name)[0] for name in ("tokens", "requests", "jobs")] == [99, 7, 0]
    assert ledger.census().balanced


def test_in_flight_is_counted_exactly_however_jobs_end(client: redis.Redis, settings: Settings) -> None:
    ledger = limited(client, settings, jobs_in_flight=100)
    ids = [ask(ledger, deadline_s=5.0).job_id for _ in range(2)]
    ids += [ask(ledger, fingerprint="f").job_id for _ in range(3)] + [ask(ledger, line="l").job_id for _ in range(3)]
    ledger.submit(a_job(parent=ids[0]))  # a part counts for nobody
    assert client.hget("inflight", "ann") == b"8"

    take(ledger)
    ledger.now_ms = NOW_MS + 60_000
    ledger.reap()
    assert client.hget("inflight", "ann") == b"8"
    assert len(ledger.expire()) == 2
    assert client.hget("inflight", "ann") == b"6"
    for job_id in ids * 2:
        ledger.cancel(job_id)
    assert client.hget("inflight", "ann") is None
    assert ledger.census().live == 1


def test_a_tenants_own_limits_come_before_the_defaults(client: redis.Redis, settings: Settings) -> None:
    ledger = limited(client, settings, jobs_in_flight=1)
    client.hset("limits:bob", "jobs_in_flight", 3)
    client.hset("limits:eve", "jobs_in_flight", 0)  # none

    for tenant, most in (("ann", 1), ("bob", 3), ("eve", 10)):
        accepted = [ask(ledger, tenant=tenant).outcome for _ in range(10)].count(Submitted.ACCEPTED)
        assert accepted == most, tenant


def test_replays_and_repeats_cost_nothing(client: redis.Redis, settings: Settings) -> None:
    ledger = limited(client, settings, requests_per_minute=2, jobs_in_flight=2)
    new = a_job(metered=True, idempotency_key="k")
    ledger.submit(new)
    for _ in range(5):
        assert ledger.submit(new).outcome is Submitted.KNOWN
        assert ask(ledger, idempotency_key="k").outcome is Submitted.REPLAYED
        assert ask(ledger, idempotency_key="k", digest="d2").outcome is Submitted.MISMATCH

    assert figure(ask(ledger), "requests")[0] == 0


def test_a_refused_request_leaves_no_trace_and_may_come_again(client: redis.Redis, settings: Settings) -> None:
    ledger = limited(client, settings, jobs_in_flight=1)
    first = ask(ledger).job_id
    new = a_job(metered=True, idempotency_key="k", line="l", fingerprint="f", deadline_s=5.0)
    keys = client.keys()
    assert ledger.submit(new).outcome is Submitted.LIMITED
    assert sorted(client.keys()) == sorted(keys)

    ledger.cancel(first)
    assert ledger.submit(new).outcome is Submitted.ACCEPTED


@pytest.mark.parametrize("limit", ["requests_per_minute", "jobs_in_flight"])
def test_many_who_ask_at_once_never_get_more_than_the_limit(
        client: redis.Redis, settings: Settings, limit: str) -> None:
    def admitted(_: int) -> int:
        with redis.Redis.from_url(settings.redis_url) as own:
            ledger = limited(own, settings, **{limit: 25})
            return sum(ask(ledger).outcome is Submitted.ACCEPTED for _ in range(10))

    with ThreadPoolExecutor(THREADS) as pool:
        assert sum(pool.map(admitted, range(THREADS))) == 25
    assert client.hget("inflight", "ann") == b"25"
