"""A worker that has just finished a job takes the next one without being woken for it."""

from collections.abc import Iterator

import pytest
import redis

from app.job import Lane, Service, State
from app.ledger import Claim, Ending, Ledger, Settled, new_owner
from tests.model_ledger import PLACE, a_job, a_running_job, everything

NOW_MS = 1_800_000_000_000


@pytest.fixture(autouse=True)
def books_balance(ledger: Ledger) -> Iterator[None]:
    ledger.now_ms = NOW_MS
    yield
    assert ledger.census().balanced


def take(ledger: Ledger, service: Service = Service.MODEL) -> Claim | None:
    return ledger.take(service, PLACE, owner=new_owner())


def test_the_first_in_line_is_taken_and_its_wakeup_leaves_the_queue(ledger: Ledger, client: redis.Redis) -> None:
    later = ledger.submit(a_job(lane=Lane.BATCH)).job_id
    first = ledger.submit(a_job(lane=Lane.INTERACTIVE)).job_id

    taken = take(ledger)

    assert taken
    assert (taken.id, taken.attempt, taken.service) == (first, 1, Service.MODEL)
    assert ledger.read(first).state is State.RUNNING
    assert ledger.read(first).worker == PLACE.worker
    assert client.zscore("leases", first) is not None
    messages = b"".join(client.lrange("model", 0, -1))
    assert first.encode() not in messages
    assert later.encode() in messages


def test_with_more_waiting_than_the_window_each_take_keeps_it_full_and_goes_in_order(
        ledger: Ledger, client: redis.Redis) -> None:
    client.hset("windows", "model", 2)
    ids = []
    for age_ms in range(10):
        ledger.now_ms = NOW_MS + age_ms
        ids.append(ledger.submit(a_job()).job_id)

    for place, job_id in enumerate(ids):
        taken = take(ledger)
        assert taken
        assert taken.id == job_id
        assert client.llen("model") == min(2, len(ids) - place - 1)
    assert take(ledger) is None


def test_nothing_is_taken_of_another_service_nor_while_a_job_waits_out_its_delay(ledger: Ledger) -> None:
    ledger.submit(a_job(Service.CHAT))
    ledger.release(a_running_job(ledger), because="error", wait_s=5.0)

    assert take(ledger) is None


def test_a_take_whose_reply_was_lost_gets_the_same_job_again(ledger: Ledger, client: redis.Redis) -> None:
    for _ in range(2):
        ledger.submit(a_job())
    first = ledger.take(Service.MODEL, PLACE, owner="o1")
    before = everything(client)

    assert ledger.take(Service.MODEL, PLACE, owner="o1") == first
    assert everything(client) == before
    assert ledger.census().running == 1


def test_a_take_that_is_repeated_after_its_job_has_ended_gets_nothing(ledger: Ledger) -> None:
    ledger.submit(a_job())
    taken = ledger.take(Service.MODEL, PLACE, owner="o1")
    assert taken
    ledger.settle(taken, State.SUCCEEDED)
    ledger.submit(a_job())

    assert ledger.take(Service.MODEL, PLACE, owner="o1") is None


def test_jobs_past_their_deadline_are_ended_on_the_way_and_the_next_is_taken(ledger: Ledger) -> None:
    late = [ledger.submit(a_job(deadline_s=1.0)).job_id for _ in range(3)]
    ledger.now_ms = NOW_MS + 1000
    good = ledger.submit(a_job()).job_id

    taken = take(ledger)

    assert taken
    assert taken.id == good
    assert {ledger.read(job_id).state for job_id in late} == {State.EXPIRED}


def test_a_late_wakeup_for_a_taken_job_is_refused(ledger: Ledger) -> None:
    job_id = ledger.submit(a_job()).job_id
    taken = take(ledger)

    assert taken
    assert ledger.claim(job_id, PLACE, owner=new_owner()) is State.RUNNING
    assert ledger.settle(taken, State.SUCCEEDED) is Settled.RECORDED


def test_settling_and_taking_the_next_is_one_step_that_may_be_said_twice(ledger: Ledger) -> None:
    running = a_running_job(ledger)
    ids = {ledger.submit(a_job()).job_id for _ in range(2)}

    first = ledger.settle_and_take(running, State.SUCCEEDED, Ending(result=b"1"), place=PLACE, owner="o2")
    again = ledger.settle_and_take(running, State.SUCCEEDED, Ending(result=b"1"), place=PLACE, owner="o2")

    assert first[0] is Settled.RECORDED
    assert again == (Settled.AGAIN, first[1])
    assert first[1]
    assert first[1].id in ids
    assert ledger.census().running == 1


def test_a_stale_settle_still_takes_the_next(ledger: Ledger) -> None:
    running = a_running_job(ledger)
    ledger.cancel(running.id)
    waiting = ledger.submit(a_job()).job_id

    settled, taken = ledger.settle_and_take(running, State.SUCCEEDED, Ending(), place=PLACE, owner="o2")

    assert settled is Settled.STALE
    assert taken
    assert taken.id == waiting


def test_scripts_that_redis_forgot_are_loaded_again_for_a_step_of_two(ledger: Ledger, client: redis.Redis) -> None:
    running = a_running_job(ledger)
    ledger.submit(a_job())
    client.script_flush()

    settled, taken = ledger.settle_and_take(running, State.SUCCEEDED, Ending(), place=PLACE, owner="o2")

    assert settled in (Settled.RECORDED, Settled.AGAIN)
    assert taken
