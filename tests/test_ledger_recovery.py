"""Jobs that lost their worker run again or fail with the cause, late ones end, and one process at a time leads."""

import json
from collections.abc import Iterator

import pytest
import redis

from app.job import Service, State
from app.ledger import Claim, Ledger, Settled, new_owner
from app.settings import Settings
from ops.waiting import wait_until
from tests.model_ledger import PLACE, a_job, a_running_job

NOW_MS = 1_800_000_000_000


@pytest.fixture(autouse=True)
def books_balance(ledger: Ledger) -> Iterator[None]:
    ledger.now_ms = NOW_MS
    yield
    assert ledger.census().balanced


def pass_time(ledger: Ledger, by_s: float) -> None:
    ledger.now_ms = (ledger.now_ms or 0) + round(by_s * 1000)


def error_code(ledger: Ledger, job_id: str) -> str:
    return str(json.loads(ledger.read(job_id).error or b"{}")["code"])


# -- lost workers


def test_a_job_whose_worker_went_silent_is_queued_again_first_in_line_with_a_wakeup(
        ledger: Ledger, client: redis.Redis, settings: Settings) -> None:
    claim = a_running_job(ledger)
    pass_time(ledger, 1)
    ledger.submit(a_job())
    client.delete("model")
    pass_time(ledger, settings.lease_s - 1)

    assert ledger.reap() == ([claim.id], [])
    assert ledger.reap() == ([], [])
    job = ledger.read(claim.id)
    assert (job.state, job.position, job.lost, job.started_ms) == (State.QUEUED, 0, 1, None)
    assert [json.loads(message)["headers"]["id"] for message in client.lrange("model", 0, -1)] == [claim.id]
    second = ledger.claim(claim.id, PLACE, owner=new_owner())
    assert isinstance(second, Claim)
    assert (second.attempt, second.errors) == (2, 0)


def test_a_worker_that_beats_keeps_its_job(ledger: Ledger, settings: Settings) -> None:
    claim = a_running_job(ledger)
    for _ in range(5):
        pass_time(ledger, settings.lease_s - 0.001)
        assert ledger.reap() == ([], [])
        assert ledger.beat([claim]) == [True]
    assert ledger.settle(claim, State.SUCCEEDED) is Settled.RECORDED


def test_a_job_that_loses_too_many_workers_fails_and_says_so(ledger: Ledger, settings: Settings) -> None:
    job_id = ledger.submit(a_job()).job_id
    for lost in range(1, settings.max_lost + 1):
        assert isinstance(ledger.claim(job_id, PLACE, owner=new_owner()), Claim)
        pass_time(ledger, settings.lease_s)
        again, failed = ledger.reap()
        assert (again, failed) == (([job_id], []) if lost < settings.max_lost else ([], [job_id]))

    job = ledger.read(job_id)
    assert (job.state, job.lost, job.recorded) == (State.FAILED, settings.max_lost, 1)
    error = json.loads(job.error or b"{}")
    assert (error["code"], error["fault"]) == ("worker-lost", "ours")
    assert PLACE.worker in error["detail"]
    assert ledger.census().counts["lost_attempts"] == settings.max_lost


def test_errors_and_lost_workers_are_counted_apart(ledger: Ledger, settings: Settings) -> None:
    first = a_running_job(ledger)
    ledger.release(first, because="error")
    ledger.claim(first.id, PLACE, owner=new_owner())
    pass_time(ledger, settings.lease_s)
    ledger.reap()

    third = ledger.claim(first.id, PLACE, owner=new_owner())
    assert isinstance(third, Claim)
    assert (third.attempt, third.errors, ledger.read(first.id).lost) == (3, 1, 1)


def test_of_many_lost_jobs_each_comes_back(ledger: Ledger, settings: Settings) -> None:
    claims = [a_running_job(ledger) for _ in range(150)]  # more than one call works on
    pass_time(ledger, settings.lease_s)
    found = [job_id for _ in range(3) for job_id in ledger.reap()[0]]

    assert sorted(found) == sorted(claim.id for claim in claims)
    assert ledger.census().waiting[Service.MODEL] == 150


# -- deadlines


def test_a_job_that_never_started_expires_at_its_deadline(ledger: Ledger) -> None:
    job_id = ledger.submit(a_job(deadline_s=2.0)).job_id
    pass_time(ledger, 1.999)
    assert ledger.expire() == []

    pass_time(ledger, 0.001)
    assert ledger.expire() == [job_id]
    assert ledger.expire() == []
    assert ledger.read(job_id).state is State.EXPIRED
    assert error_code(ledger, job_id) == "deadline-passed"


def test_a_running_job_is_cancelled_at_its_deadline_and_its_late_result_refused(ledger: Ledger) -> None:
    claim = a_running_job(ledger, deadline_s=2.0)
    pass_time(ledger, 2)

    assert ledger.expire() == [claim.id]
    assert ledger.beat([claim]) == [False]
    assert ledger.settle(claim, State.SUCCEEDED) is Settled.STALE
    assert ledger.read(claim.id).state is State.CANCELLED
    assert error_code(ledger, claim.id) == "deadline-passed"


@pytest.mark.parametrize("wait_s", [0.0, 9.0])
@pytest.mark.parametrize("finder", ["claim", "expire"])
def test_a_job_that_ran_and_waits_again_is_cancelled_at_its_deadline_whoever_finds_it(
        ledger: Ledger, wait_s: float, finder: str) -> None:
    claim = a_running_job(ledger, deadline_s=9.0)
    ledger.release(claim, because="error", wait_s=wait_s)
    pass_time(ledger, 9)
    ledger.rewake(Service.MODEL)
    if finder == "claim":
        assert ledger.claim(claim.id, PLACE, owner=new_owner()) is State.CANCELLED
    else:
        assert ledger.expire() == [claim.id]

    assert ledger.read(claim.id).state is State.CANCELLED
    assert error_code(ledger, claim.id) == "deadline-passed"
    assert ledger.census().live == 0


def test_a_claim_past_the_deadline_expires_the_job_and_tells_the_caller_why(ledger: Ledger) -> None:
    job_id = ledger.submit(a_job(deadline_s=2.0)).job_id
    pass_time(ledger, 2)

    assert ledger.claim(job_id, PLACE, owner=new_owner()) is State.EXPIRED
    assert ledger.expire() == []
    assert error_code(ledger, job_id) == "deadline-passed"


def test_a_job_that_ended_in_time_is_not_touched_at_its_deadline(
        ledger: Ledger, client: redis.Redis) -> None:
    settled, cancelled = (a_running_job(ledger, deadline_s=2.0) for _ in range(2))
    ledger.settle(settled, State.SUCCEEDED)
    ledger.cancel(cancelled.id)
    pass_time(ledger, 3)

    assert ledger.expire() == []
    assert ledger.read(settled.id).state is State.SUCCEEDED
    assert client.zcard("deadlines") == 0


# -- one leader a duty


def test_one_of_two_leads_until_its_lead_runs_out_and_each_new_leader_has_a_later_epoch(ledger: Ledger) -> None:
    assert ledger.lead("recovery", "server-1", 30.0) == 1
    assert ledger.lead("recovery", "server-2", 30.0) == 0
    assert ledger.lead("recovery", "server-1", 0.01) == 1  # kept, and now for a moment only

    assert wait_until(lambda: ledger.lead("recovery", "server-2", 30.0), timeout_s=5, every_s=0.005,
                      what="the lead to run out") == 2
    assert ledger.lead("recovery", "server-1", 30.0) == 0


def test_duties_are_led_independently(ledger: Ledger) -> None:
    assert ledger.lead("recovery", "server-1", 30.0) == 1
    assert ledger.lead("overflow", "server-2", 30.0) == 1
    assert ledger.lead("recovery", "server-2", 30.0) == 0


def test_a_lead_that_is_renewed_lasts_from_its_last_renewal(ledger: Ledger, client: redis.Redis) -> None:
    ledger.lead("recovery", "server-1", 5.0)
    ledger.lead("recovery", "server-1", 30.0)

    assert 25_000 < client.pttl("leader:recovery") <= 30_000


# -- workers say that they live


def test_a_worker_that_is_asked_to_restart_learns_it_when_it_next_says_that_it_lives(
        ledger: Ledger, client: redis.Redis) -> None:
    assert ledger.register("model@server-1", {"pid": 4711, "slots": 1}, 10.0) == 0
    client.set("restart:model@server-1", 4711)

    assert ledger.register("model@server-1", {"pid": 4711, "slots": 1}, 10.0) == 4711
    assert ledger.register("model@server-1", {"pid": 4711, "slots": 1}, 10.0) == 0, "it was asked once"
    assert client.hget("worker:model@server-1", "beat_ms") == str(NOW_MS).encode()
    assert client.zscore("workers", "model@server-1") == NOW_MS
    assert 0 < client.pttl("worker:model@server-1") <= 10_000
