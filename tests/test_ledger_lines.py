"""Jobs of one line run one at a time, in the order of their acceptance, however each of them ends."""

from collections.abc import Callable, Iterator

import pytest
import redis

from app.job import Service, State
from app.ledger import Claim, Ledger, Submitted, new_owner
from app.settings import Settings
from tests.model_ledger import PLACE, a_job, everything

NOW_MS = 1_800_000_000_000


@pytest.fixture(autouse=True)
def books_balance(ledger: Ledger) -> Iterator[None]:
    ledger.now_ms = NOW_MS
    yield
    assert ledger.census().balanced


def in_line(ledger: Ledger, number: int = 1, **changes: object) -> list[str]:
    return [ledger.submit(a_job(line="talk", **changes)).job_id for _ in range(number)]


def take(ledger: Ledger) -> Claim | None:
    return ledger.take(Service.MODEL, PLACE, owner=new_owner())


def begin(ledger: Ledger, job_id: str) -> Claim:
    """Begin the first job, which must be this one, and the only one that may."""
    claim = take(ledger)
    assert claim
    assert claim.id == job_id
    assert take(ledger) is None, "two of a line at once"
    return claim


def lose(ledger: Ledger, claim: Claim) -> None:
    """Its worker dies, as often as it is allowed to."""
    for _ in range(20):
        ledger.now_ms = (ledger.now_ms or 0) + 60_000
        if claim.id in ledger.reap()[1]:
            return
        again = take(ledger)
        assert again
        assert again.id == claim.id
    pytest.fail("it never failed")


def late(ledger: Ledger, claim: Claim) -> None:
    ledger.now_ms = NOW_MS + 5_000
    assert claim.id in ledger.expire()


ENDS: dict[State, list[Callable[[Ledger, Claim], object]]] = {
    State.SUCCEEDED: [lambda ledger, claim: ledger.settle(claim, State.SUCCEEDED)],
    State.FAILED: [lambda ledger, claim: ledger.settle(claim, State.FAILED), lose],
    State.CANCELLED: [lambda ledger, claim: ledger.cancel(claim.id), late],
}


@pytest.mark.parametrize(("state", "end"), [(state, end) for state, ends in ENDS.items() for end in ends])
def test_however_the_first_ends_the_next_begins(
        ledger: Ledger, client: redis.Redis, state: State, end: Callable[[Ledger, Claim], object]) -> None:
    [first] = in_line(ledger, deadline_s=5.0 if end is late else None)
    second, third = in_line(ledger, 2)
    claim = begin(ledger, first)

    end(ledger, claim)
    assert ledger.read(first).state is state
    assert client.llen("model") == 1, "the next was not woken"
    ledger.settle(begin(ledger, second), State.SUCCEEDED)
    ledger.settle(begin(ledger, third), State.SUCCEEDED)
    assert ledger.census().live == 0
    assert not client.keys("line:*")


def test_lines_do_not_wait_for_each_other(ledger: Ledger) -> None:
    one, other = in_line(ledger)[0], ledger.submit(a_job(line="other talk")).job_id

    assert {getattr(take(ledger), "id", None) for _ in range(2)} == {one, other}


@pytest.mark.parametrize("lost", [False, True], ids=["released", "lost"])
def test_while_the_first_waits_for_its_next_attempt_nobody_passes_it(ledger: Ledger, lost: bool) -> None:
    first, second = in_line(ledger, 2)
    claim = begin(ledger, first)
    if lost:
        ledger.now_ms = NOW_MS + 60_000
        ledger.reap()
    else:
        ledger.release(claim, because="error", wait_s=5.0)
        assert take(ledger) is None
        ledger.now_ms = NOW_MS + 5_000
        ledger.rewake(Service.MODEL)

    ledger.settle(begin(ledger, first), State.SUCCEEDED)
    begin(ledger, second)


def test_one_that_leaves_from_the_middle_leaves_the_others_in_order(ledger: Ledger) -> None:
    ids = in_line(ledger, 4)
    claim = begin(ledger, ids[0])
    assert ledger.cancel(ids[1]) is State.CANCELLED
    assert ledger.cancel(ids[1]) is State.CANCELLED  # said twice
    assert take(ledger) is None

    ledger.settle(claim, State.SUCCEEDED)
    ledger.settle(begin(ledger, ids[2]), State.SUCCEEDED)
    begin(ledger, ids[3])


def test_the_first_cancelled_before_it_began_lets_the_next_in(ledger: Ledger, client: redis.Redis) -> None:
    first, second = in_line(ledger, 2)
    ledger.cancel(first)

    assert client.llen("model") == 1
    begin(ledger, second)


def test_a_held_job_expires_at_its_deadline_and_several_do_at_once(ledger: Ledger) -> None:
    [first] = in_line(ledger)
    held = in_line(ledger, 3, deadline_s=1.0)
    [last] = in_line(ledger)
    claim = begin(ledger, first)
    ledger.now_ms = NOW_MS + 1_000

    assert set(ledger.expire()) == set(held)
    assert {ledger.read(job_id).state for job_id in held} == {State.EXPIRED}
    ledger.settle(claim, State.SUCCEEDED)
    begin(ledger, last)


def test_a_held_job_is_queued_without_a_position_and_cannot_be_claimed(ledger: Ledger) -> None:
    _, second = in_line(ledger, 2)

    job = ledger.read(second)
    assert (job.state, job.position) == (State.QUEUED, None)
    assert ledger.claim(second, PLACE, owner=new_owner()) is State.QUEUED
    assert ledger.census().held == 1


def test_calls_that_come_twice_change_nothing(ledger: Ledger, client: redis.Redis) -> None:
    first, new = a_job(line="talk"), a_job(line="talk")
    ledger.submit(first)
    ledger.submit(new)
    before = everything(client)
    assert ledger.submit(new).outcome is Submitted.KNOWN
    assert ledger.submit(first).outcome is Submitted.KNOWN
    assert everything(client) == before

    claim = begin(ledger, first.id)
    ledger.settle(claim, State.SUCCEEDED)
    before = everything(client)
    assert ledger.settle(claim, State.SUCCEEDED) == "again"
    ledger.cancel(first.id)
    assert everything(client) == before
    begin(ledger, new.id)


def test_past_retention_a_line_goes_on_with_its_live_jobs(
        ledger: Ledger, settings: Settings) -> None:
    first, second = in_line(ledger, 2)
    ledger.settle(begin(ledger, first), State.SUCCEEDED)
    ledger.now_ms = NOW_MS + round(settings.retention_s * 1000)

    assert ledger.purge() == 1
    begin(ledger, second)
    assert in_line(ledger)
    assert ledger.census().held == 1
