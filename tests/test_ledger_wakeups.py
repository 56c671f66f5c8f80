"""The Celery queues stay short and in order, and a wake-up that was lost comes again."""

import json
from collections.abc import Iterator

import pytest
import redis

from app.job import Lane, Service, State
from app.ledger import Claim, Ledger, new_owner
from app.ledger.ledger import WAKEUP_LOST_MS
from tests.model_ledger import PLACE, a_job, a_running_job

NOW_MS = 1_800_000_000_000
WINDOW = 8  # DEFAULT_WINDOW of the scripts, until workers say how many slots they have


@pytest.fixture(autouse=True)
def books_balance(ledger: Ledger) -> Iterator[None]:
    ledger.now_ms = NOW_MS
    yield
    assert ledger.census().balanced


def pop(client: redis.Redis, service: Service = Service.MODEL) -> str:
    """Take the next wake-up off the queue, as a worker does; return the id of its job."""
    message = client.rpop(service)
    assert message, f"no wake-up in the queue of {service}"
    return str(json.loads(message)["headers"]["id"])


def work(ledger: Ledger, client: redis.Redis) -> Claim:
    """Take the next wake-up and claim its job."""
    claim = ledger.claim(pop(client), PLACE, owner=new_owner())
    assert isinstance(claim, Claim)
    return claim


def one_at_a_time(client: redis.Redis) -> None:
    """Keep a single wake-up in the queue, so that the order of work is the order of the waiting set."""
    client.hset("windows", "model", 1)


# -- the window


def test_a_thousand_waiting_jobs_put_a_windowful_into_the_queue_and_each_claim_tops_it_up(
        ledger: Ledger, client: redis.Redis) -> None:
    ids = [ledger.submit(a_job()).job_id for _ in range(1000)]
    assert client.llen("model") == WINDOW

    taken = []
    for left in range(999, -1, -1):
        taken.append(work(ledger, client).id)
        assert client.llen("model") == min(WINDOW, left)
        assert ledger.census().waiting[Service.MODEL] == left
    assert sorted(taken) == sorted(ids)


def test_the_window_is_what_the_workers_slots_ask_for(ledger: Ledger, client: redis.Redis) -> None:
    client.hset("windows", "model", 3)
    for _ in range(10):
        ledger.submit(a_job())
    assert client.llen("model") == 3

    client.hset("windows", "model", 5)
    assert ledger.rewake(Service.MODEL) == 0  # fills the window; none of them was lost
    assert client.llen("model") == 5


def test_each_service_has_a_queue_of_its_own(ledger: Ledger, client: redis.Redis) -> None:
    ids = {service: ledger.submit(a_job(service)).job_id for service in Service}

    assert {service: pop(client, service) for service in Service} == ids


def test_a_claim_that_is_refused_tops_up_too(ledger: Ledger, client: redis.Redis) -> None:
    one_at_a_time(client)
    claim = a_running_job(ledger)
    ledger.submit(a_job())
    client.hset("windows", "model", 2)
    waiting = ledger.submit(a_job()).job_id
    client.delete("model")

    ledger.cancel(waiting)
    assert ledger.claim(claim.id, PLACE, owner=new_owner()) is State.RUNNING
    assert ledger.census().woken[Service.MODEL] == 1


def test_jobs_that_are_cancelled_while_they_wait_do_not_pile_up_in_the_queue(
        ledger: Ledger, client: redis.Redis) -> None:
    ids = [ledger.submit(a_job()).job_id for _ in range(100)]
    for job_id in ids[:-1]:
        ledger.cancel(job_id)
        assert client.llen("model") <= WINDOW

    assert pop(client) == ids[-1]
    assert client.llen("model") == 0


def test_jobs_that_expire_while_they_wait_do_not_pile_up_in_the_queue(
        ledger: Ledger, client: redis.Redis) -> None:
    for _ in range(50):
        ledger.submit(a_job(deadline_s=1.0))
    ledger.now_ms = NOW_MS + 1000

    assert len(ledger.expire()) == 50
    assert client.llen("model") == 0


# -- the order


def test_lanes_pass_each_other_in_the_order_of_their_urgency(ledger: Ledger, client: redis.Redis) -> None:
    one_at_a_time(client)
    for lane in (Lane.BATCH, Lane.STANDARD, Lane.INTERACTIVE):
        ledger.submit(a_job(lane=lane))  # each overtakes the one whose wake-up fills the window

    lanes = [ledger.read(work(ledger, client).id).lane for _ in range(3)]
    assert lanes == [Lane.INTERACTIVE, Lane.STANDARD, Lane.BATCH]


def test_within_a_lane_the_oldest_goes_first(ledger: Ledger, client: redis.Redis) -> None:
    ids = []
    for age_ms in range(20):
        ledger.now_ms = NOW_MS + age_ms
        ids.append(ledger.submit(a_job()).job_id)

    assert [work(ledger, client).id for _ in ids] == ids


def test_a_job_that_comes_back_keeps_its_place_in_line(
        ledger: Ledger, client: redis.Redis) -> None:
    one_at_a_time(client)
    ledger.submit(a_job())
    claim = work(ledger, client)
    for later_ms in (1, 2):
        ledger.now_ms = NOW_MS + later_ms
        ledger.submit(a_job())
    ledger.release(claim, because="error")

    assert work(ledger, client).id == claim.id


# -- lost wake-ups


def lose_the_queue(client: redis.Redis) -> None:
    client.delete("model")


def pop_and_die(client: redis.Redis) -> None:
    pop(client)


@pytest.mark.parametrize("loss", [lose_the_queue, pop_and_die])
def test_a_wakeup_that_vanished_is_pushed_again_when_it_counts_as_lost(
        ledger: Ledger, client: redis.Redis, loss: object) -> None:
    job_id = ledger.submit(a_job()).job_id
    assert callable(loss)
    loss(client)
    ledger.now_ms = NOW_MS + WAKEUP_LOST_MS - 1
    assert ledger.rewake(Service.MODEL) == 0
    assert client.llen("model") == 0

    ledger.now_ms = NOW_MS + WAKEUP_LOST_MS
    assert ledger.rewake(Service.MODEL) == 1
    assert ledger.rewake(Service.MODEL) == 0  # once is enough
    assert client.llen("model") == 1
    assert ledger.census().counts["rewoken"] == 1
    assert work(ledger, client).id == job_id


def test_a_wakeup_that_still_waits_in_the_queue_is_not_pushed_again(
        ledger: Ledger, client: redis.Redis) -> None:
    for _ in range(3):
        ledger.submit(a_job())
    lost = pop(client)
    ledger.now_ms = NOW_MS + 60_000

    assert ledger.rewake(Service.MODEL) == 1
    assert client.llen("model") == 3
    assert {pop(client) for _ in range(3)} >= {lost}


def test_a_wakeup_that_was_popped_late_finds_its_job_although_a_second_one_was_pushed(
        ledger: Ledger, client: redis.Redis) -> None:
    job_id = ledger.submit(a_job()).job_id
    stalled = pop(client)
    ledger.now_ms = NOW_MS + WAKEUP_LOST_MS
    ledger.rewake(Service.MODEL)

    assert isinstance(ledger.claim(stalled, PLACE, owner=new_owner()), Claim)
    assert ledger.claim(pop(client), PLACE, owner=new_owner()) is State.RUNNING
    assert ledger.read(job_id).attempt == 1


def test_messages_that_are_not_ours_do_not_stop_recovery(ledger: Ledger, client: redis.Redis) -> None:
    ledger.submit(a_job())
    lose_the_queue(client)
    client.lpush("model", b"not json", b"{}")
    ledger.now_ms = NOW_MS + WAKEUP_LOST_MS

    assert ledger.rewake(Service.MODEL) == 1
