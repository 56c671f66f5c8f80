"""An attempt at a job: claimed by one worker, kept alive by beats, settled or released; each also said twice."""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from app.job import Service, State
from app.ledger import Claim, Ending, Ledger, Settled, new_owner
from app.settings import Settings
from tests.model_ledger import PLACE, a_job, a_running_job, everything

NOW_MS = 1_800_000_000_000


@pytest.fixture(autouse=True)
def books_balance(ledger: Ledger) -> Iterator[None]:
    ledger.now_ms = NOW_MS
    yield
    assert ledger.census().balanced


# -- claim and beat


def test_a_claim_starts_the_next_attempt_under_a_lease(
        ledger: Ledger, client: redis.Redis, settings: Settings) -> None:
    new = a_job(trace="00-abc-def-01", deadline_s=60.0)
    ledger.submit(new)

    claim = ledger.claim(new.id, PLACE, owner="o1", decision=b'{"rule": "local"}')

    assert claim == Claim(id=new.id, owner="o1", attempt=1, errors=0, task="model.run", tenant="ann", input=new.input,
                          created_ms=NOW_MS, deadline_ms=NOW_MS + 60_000, trace="00-abc-def-01")
    job = ledger.read(new.id)
    assert (job.state, job.attempt, job.started_ms, job.position) == (State.RUNNING, 1, NOW_MS, None)
    assert (job.worker, job.server, job.processor) == (PLACE.worker, PLACE.server, PLACE.processor)
    assert job.decision == b'{"rule": "local"}'
    assert client.zrange("leases", 0, -1, withscores=True) == [(new.id.encode(), NOW_MS + settings.lease_s * 1000)]


def test_a_claim_whose_reply_was_lost_gets_the_same_attempt_again(ledger: Ledger) -> None:
    claim = a_running_job(ledger)

    assert ledger.claim(claim.id, PLACE, owner=claim.owner) == claim
    assert ledger.read(claim.id).attempt == 1


def test_a_second_wakeup_for_a_running_job_is_refused_and_counted(ledger: Ledger) -> None:
    claim = a_running_job(ledger)

    assert ledger.claim(claim.id, PLACE, owner=new_owner()) is State.RUNNING
    assert ledger.census().counts["claims_refused"] == 1


def test_a_claim_of_an_unknown_job_gets_none_and_of_an_ended_one_its_state(ledger: Ledger) -> None:
    claim = a_running_job(ledger)
    ledger.settle(claim, State.SUCCEEDED)

    assert ledger.claim(claim.id, PLACE, owner=new_owner()) is State.SUCCEEDED
    assert ledger.claim("no-such-job", PLACE, owner=new_owner()) is None


def test_of_many_claims_at_the_same_time_one_wins_each_job(ledger: Ledger) -> None:
    ids = [ledger.submit(a_job()).job_id for _ in range(20)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda job_id: ledger.claim(job_id, PLACE, owner=new_owner()), ids * 8))

    won = [answer.id for answer in answers if isinstance(answer, Claim)]
    assert sorted(won) == sorted(ids)


def test_a_beat_renews_the_lease_and_says_which_jobs_are_lost(
        ledger: Ledger, client: redis.Redis, settings: Settings) -> None:
    mine, cancelled = a_running_job(ledger), a_running_job(ledger)
    ledger.cancel(cancelled.id)
    ledger.now_ms = NOW_MS + 2000

    assert ledger.beat([mine, cancelled, dataclasses.replace(mine, owner="another")]) == [True, False, False]
    assert client.zscore("leases", mine.id) == NOW_MS + 2000 + settings.lease_s * 1000
    assert client.zscore("leases", cancelled.id) is None
    assert ledger.beat([]) == []


# -- settle


def test_a_settled_job_has_its_result_and_is_recorded_once(ledger: Ledger) -> None:
    claim = a_running_job(ledger)
    ledger.now_ms = NOW_MS + 300

    assert ledger.settle(claim, State.SUCCEEDED, Ending(result=b'"hi"', usage=b'{"n": 1}')) is Settled.RECORDED
    job = ledger.read(claim.id)
    assert (job.state, job.result, job.usage, job.finished_ms) == (State.SUCCEEDED, b'"hi"', b'{"n": 1}', NOW_MS + 300)
    assert job.recorded == 1


def test_a_settle_whose_reply_was_lost_is_answered_again_and_changes_nothing(
        ledger: Ledger, client: redis.Redis) -> None:
    claim = a_running_job(ledger)
    ledger.settle(claim, State.FAILED, Ending(error=b'{"code": "engine-failed"}'))
    before = everything(client)

    assert ledger.settle(claim, State.FAILED, Ending(error=b'{"code": "engine-failed"}')) is Settled.AGAIN
    assert everything(client) == before


def test_a_result_that_comes_after_the_job_was_taken_over_is_refused_and_counted(
        ledger: Ledger, settings: Settings) -> None:
    late = a_running_job(ledger)
    ledger.now_ms = NOW_MS + round(settings.lease_s * 1000)
    ledger.reap()
    assert ledger.settle(late, State.SUCCEEDED, Ending(result=b'"late"')) is Settled.STALE  # queued again

    current = ledger.claim(late.id, PLACE, owner=new_owner())
    assert isinstance(current, Claim)
    assert ledger.settle(late, State.SUCCEEDED, Ending(result=b'"late"')) is Settled.STALE  # running elsewhere
    assert ledger.settle(current, State.SUCCEEDED, Ending(result=b'"good"')) is Settled.RECORDED
    assert ledger.settle(late, State.SUCCEEDED, Ending(result=b'"late"')) is Settled.STALE  # ended

    job = ledger.read(late.id)
    assert (job.result, job.attempt, job.recorded, job.lost) == (b'"good"', 2, 1, 1)
    assert ledger.census().counts["stale"] == 3


@pytest.mark.parametrize("change", [{"owner": "another"}, {"attempt": 2}])
def test_a_result_counts_only_with_the_right_owner_and_attempt(ledger: Ledger, change: dict[str, object]) -> None:
    claim = a_running_job(ledger)
    forged = dataclasses.replace(claim, **change)  # type: ignore[arg-type]

    assert ledger.settle(forged, State.SUCCEEDED) is Settled.STALE
    assert ledger.release(forged, because="error") is Settled.STALE
    assert ledger.read(claim.id).state is State.RUNNING


def test_what_a_settle_appends_is_pushed_once_and_never_by_a_stale_one(
        ledger: Ledger, client: redis.Redis) -> None:
    claim, cancelled = a_running_job(ledger), a_running_job(ledger)
    ledger.cancel(cancelled.id)

    for _ in range(2):
        ledger.settle(claim, State.SUCCEEDED, Ending(append=("history", [b"question", b"answer"])))
        ledger.settle(cancelled, State.SUCCEEDED, Ending(append=("history", [b"never"])))

    assert client.lrange("history", 0, -1) == [b"question", b"answer"]


def test_the_end_of_each_job_is_announced_once(ledger: Ledger, client: redis.Redis) -> None:
    settled, cancelled = a_running_job(ledger), a_running_job(ledger)
    for _ in range(2):
        ledger.settle(settled, State.SUCCEEDED)
        ledger.cancel(cancelled.id)

    assert [fields for _, fields in client.xrange("announcements")] == [
        {b"id": settled.id.encode(), b"state": b"succeeded"}, {b"id": cancelled.id.encode(), b"state": b"cancelled"}]


def test_the_input_of_an_auth_job_is_erased_when_it_ends_however_it_ends(
        ledger: Ledger, client: redis.Redis) -> None:
    settled, cancelled = (a_running_job(ledger, service=Service.AUTH, input=b'"sealed"') for _ in range(2))
    waiting = ledger.submit(a_job(Service.AUTH, input=b'"sealed"')).job_id
    assert all(client.hexists(f"job:{job_id}", "input") for job_id in (settled.id, cancelled.id, waiting))

    ledger.settle(settled, State.SUCCEEDED)
    ledger.cancel(cancelled.id)
    ledger.cancel(waiting)

    assert not any(client.hexists(f"job:{job_id}", "input") for job_id in (settled.id, cancelled.id, waiting))


def test_the_input_of_other_jobs_can_be_read_after_they_end(ledger: Ledger) -> None:
    claim = a_running_job(ledger, input=b'"question"')
    ledger.settle(claim, State.SUCCEEDED)

    assert ledger.read(claim.id).input == b'"question"'


# -- release


def test_a_job_released_after_an_error_waits_out_its_delay_then_runs_again(ledger: Ledger) -> None:
    claim = a_running_job(ledger)

    assert ledger.release(claim, because="error", wait_s=3.0) is Settled.RELEASED
    assert ledger.read(claim.id).state is State.QUEUED
    ledger.now_ms = NOW_MS + 2999
    ledger.rewake(Service.MODEL)
    assert ledger.claim(claim.id, PLACE, owner=new_owner()) is State.QUEUED  # not yet

    ledger.now_ms = NOW_MS + 3000
    ledger.rewake(Service.MODEL)
    second = ledger.claim(claim.id, PLACE, owner=new_owner())
    assert isinstance(second, Claim)
    assert (second.attempt, second.errors) == (2, 1)


def test_a_drained_job_is_next_in_line_and_no_error_counts_against_it(ledger: Ledger) -> None:
    claim = a_running_job(ledger)
    ledger.now_ms = NOW_MS + 1000
    ledger.submit(a_job())

    assert ledger.release(claim, because="drain") is Settled.RELEASED
    assert ledger.read(claim.id).position == 0
    second = ledger.claim(claim.id, PLACE, owner=new_owner())
    assert isinstance(second, Claim)
    assert (second.attempt, second.errors) == (2, 0)


def test_a_release_whose_reply_was_lost_is_answered_again_even_when_the_job_runs_elsewhere(ledger: Ledger) -> None:
    claim = a_running_job(ledger)
    ledger.release(claim, because="error")

    assert ledger.release(claim, because="error") is Settled.AGAIN
    second = ledger.claim(claim.id, PLACE, owner=new_owner())
    assert isinstance(second, Claim)
    assert ledger.release(claim, because="error") is Settled.AGAIN
    assert ledger.read(claim.id).state is State.RUNNING
    assert "stale" not in ledger.census().counts


def test_an_attempt_is_released_although_the_same_owner_released_the_one_before(ledger: Ledger) -> None:
    first = a_running_job(ledger)
    ledger.release(first, because="drain")
    second = ledger.claim(first.id, PLACE, owner=first.owner)
    assert isinstance(second, Claim)

    assert ledger.release(second, because="drain") is Settled.RELEASED
    assert ledger.read(first.id).state is State.QUEUED


def test_a_released_job_takes_no_result_from_the_attempt_that_gave_it_up(ledger: Ledger) -> None:
    claim = a_running_job(ledger)
    ledger.release(claim, because="drain")

    assert ledger.settle(claim, State.SUCCEEDED) is Settled.STALE
    assert ledger.read(claim.id).state is State.QUEUED


def test_a_job_that_waits_again_is_shown_at_no_server(ledger: Ledger) -> None:
    claim = a_running_job(ledger)
    assert ledger.read(claim.id).public(durability=1)["server"] == PLACE.server
    ledger.release(claim, because="drain")

    shown = ledger.read(claim.id).public(durability=1)
    assert (shown["state"], shown["server"], shown["processor"], shown["attempt"]) == ("queued", None, None, 1)
