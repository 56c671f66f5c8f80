"""Live jobs that ask the same are answered by one run: the first leads, the others follow.

Followers share a success or a failure. Where the leader ends in another way, the first follower takes its place.
"""

from collections.abc import Iterator

import pytest
import redis

from app.job import Lane, Service, State
from app.ledger import Claim, Ending, Ledger, Piece, Saying, Submitted, Voice, new_owner
from app.settings import Settings
from app.transcript import NEVER_STARTED, Mark, last_mark
from tests.model_ledger import PLACE, a_job, a_running_job, everything

NOW_MS = 1_800_000_000_000
ANSWER = Ending(result=b'{"text": "hello"}', usage=b'{"prompt_tokens": 3, "completion_tokens": 2}')


@pytest.fixture(autouse=True)
def books_balance(ledger: Ledger) -> Iterator[None]:
    ledger.now_ms = NOW_MS
    yield
    assert ledger.census().balanced


def ask(ledger: Ledger, **changes: object) -> str:
    return ledger.submit(a_job(fingerprint="f", **changes)).job_id


def take(ledger: Ledger) -> Claim | None:
    return ledger.take(Service.MODEL, PLACE, owner=new_owner())


def begin(ledger: Ledger, job_id: str) -> Claim:
    """Begin the first job, which must be this one, and the only one."""
    claim = take(ledger)
    assert claim
    assert claim.id == job_id
    assert take(ledger) is None, "the same is answered twice"
    return claim


def say(ledger: Ledger, claim: Claim, text: str) -> None:
    assert ledger.say([Saying(claim, Piece(claim.attempt, len(text), Voice.CONTENT, text))]) == [True]


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
def test_followers_share_the_leaders_end(ledger: Ledger, client: redis.Redis, state: State) -> None:
    ids = [ask(ledger, tenant=tenant) for tenant in ("ann", "bob", "eve")]
    claim = begin(ledger, ids[0])
    say(ledger, claim, "hello")
    ledger.settle(claim, state, ANSWER if state is State.SUCCEEDED else Ending(error=b'{"code": "no"}'))

    leader, *followers = ledger.read_all(ids)
    assert leader
    for job in followers:
        assert job
        assert (job.state, job.result, job.error, job.usage) == (state, leader.result, leader.error, leader.usage)
        assert (job.attempt, job.recorded, job.server, job.processor) == (1, 1, "server-1", "P2")
        assert b"coalesced" in (job.decision or b"")
        assert last_mark(job, ledger.said(job.id)) == Mark(1, 6)
    assert client.llen("model") == 0
    assert ledger.census().counts["coalesced"] == 2
    assert not client.keys("flight:*") + client.keys("followers:*")


def test_a_leader_that_kills_its_workers_fails_its_followers_too(ledger: Ledger, settings: Settings) -> None:
    ids = [ask(ledger) for _ in range(3)]
    for _ in range(settings.max_lost):
        begin(ledger, ids[0])
        ledger.now_ms = (ledger.now_ms or 0) + 60_000
        _, failed = ledger.reap()

    assert failed == [ids[0]]
    assert [job and job.state for job in ledger.read_all(ids)] == [State.FAILED] * 3


@pytest.mark.parametrize("end", ["cancelled while it waits", "cancelled while it runs", "late while it waits",
                                 "late while it runs"])
def test_when_the_leader_ends_without_an_answer_the_first_follower_leads(ledger: Ledger, end: str) -> None:
    leader = ask(ledger, deadline_s=5.0 if "late" in end else None)
    second, third = ask(ledger), ask(ledger)
    runs = "runs" in end
    if runs:
        say(ledger, begin(ledger, leader), "hel")
    if "late" in end:
        ledger.now_ms = NOW_MS + 5_000
        assert ledger.expire() == [leader]
    else:
        ledger.cancel(leader)

    claim = begin(ledger, second)
    assert claim.attempt == 1 + runs, "what the first leader said is not void"
    assert ledger.said(third).speaker == second
    ledger.settle(claim, State.SUCCEEDED, ANSWER)
    assert [job and job.state for job in ledger.read_all([second, third])] == [State.SUCCEEDED] * 2


def test_a_leader_taken_when_it_is_late_hands_over_to_its_follower_at_once(ledger: Ledger) -> None:
    leader, follower = ask(ledger, deadline_s=1.0), ask(ledger)
    ledger.now_ms = NOW_MS + 1_000

    begin(ledger, follower)
    assert ledger.read(leader).state is State.EXPIRED


def test_leader_and_followers_may_be_late_at_once(ledger: Ledger) -> None:
    ids = [ask(ledger, deadline_s=1.0) for _ in range(4)]
    ledger.now_ms = NOW_MS + 1_000

    assert set(ledger.expire()) == set(ids)
    assert take(ledger) is None
    begin(ledger, ask(ledger))


@pytest.mark.parametrize("how", ["cancel", "expire"])
def test_a_follower_that_leaves_while_the_leader_speaks_has_said_what_was_said_until_then(ledger: Ledger, how: str) -> None:
    leader, follower = ask(ledger), ask(ledger, deadline_s=1.0)
    claim = begin(ledger, leader)
    say(ledger, claim, "hel")
    ledger.now_ms = NOW_MS + 1_000
    getattr(ledger, how)(*[follower] * (how == "cancel"))

    job = ledger.read(follower)
    assert job.state is (State.CANCELLED if how == "cancel" else State.EXPIRED)
    assert last_mark(job, ledger.said(follower)) == Mark(1, 4)
    say(ledger, claim, "hello")
    assert last_mark(job, ledger.said(follower)) == Mark(1, 4)
    ledger.settle(claim, State.SUCCEEDED, ANSWER)
    assert ledger.read(follower) == job


def test_a_follower_that_leaves_before_the_leader_began_never_started(ledger: Ledger) -> None:
    leader, follower = ask(ledger), ask(ledger)
    ledger.cancel(follower)

    assert last_mark(ledger.read(follower), ledger.said(follower)) == NEVER_STARTED
    begin(ledger, leader)


def test_who_follows_hears_what_the_leader_says(ledger: Ledger) -> None:
    leader, follower = ask(ledger), ask(ledger)
    say(ledger, begin(ledger, leader), "hel")

    said = ledger.said(follower)
    assert (said.attempt, said.total, said.speaker) == (1, 3, leader)
    assert [piece.text for piece in said.pieces] == ["hel"]


def test_a_leader_that_waits_moves_up_to_where_its_follower_would_be(ledger: Ledger, client: redis.Redis) -> None:
    others = [ledger.submit(a_job()).job_id for _ in range(20)]
    leader = ask(ledger, lane=Lane.BATCH)
    assert ledger.read(leader).position == 10  # a batch job costs as much as ten standard ones
    ask(ledger, tenant="bob", lane=Lane.INTERACTIVE)

    assert ledger.read(leader).position == 0
    claim = take(ledger)
    assert claim
    assert claim.id == leader
    assert client.llen("model") == 8
    assert ledger.read(others[0]).position == 0


def test_a_follower_that_moves_nobody_costs_its_tenant_no_place(ledger: Ledger) -> None:
    ask(ledger, tenant="bob")
    for _ in range(10):
        ask(ledger, tenant="ann")  # would come later than the leader does
    for tenant in ("bob", "bob", "ann"):
        ledger.submit(a_job(tenant=tenant))

    tenants = [getattr(take(ledger), "tenant", None) for _ in range(4)]
    assert tenants.index("ann") <= 1


def test_a_leader_that_comes_back_keeps_its_followers(ledger: Ledger) -> None:
    leader, follower = ask(ledger), ask(ledger)
    ledger.release(begin(ledger, leader), because="drain")
    third = ask(ledger)
    claim = begin(ledger, leader)
    assert claim.attempt == 2

    ledger.settle(claim, State.SUCCEEDED, ANSWER)
    assert {job and job.state for job in ledger.read_all([follower, third])} == {State.SUCCEEDED}


def test_who_asks_after_the_end_is_answered_by_another_run(ledger: Ledger) -> None:
    ledger.settle(begin(ledger, ask(ledger)), State.SUCCEEDED, ANSWER)

    begin(ledger, ask(ledger))


def test_an_heir_that_never_ran_gives_back_all_its_tokens(ledger: Ledger, client: redis.Redis) -> None:
    client.hset("limits:bob", "tokens_per_minute", 1000)
    leader, heir = ask(ledger), ask(ledger, tenant="bob", metered=True, tokens=400)
    begin(ledger, leader)
    ledger.cancel(leader)
    ledger.cancel(heir)

    [limit] = ledger.submit(a_job(tenant="bob", metered=True, tokens=1)).limits
    assert limit.left == 999


def test_calls_that_come_twice_change_nothing(ledger: Ledger, client: redis.Redis) -> None:
    leader, follower = a_job(fingerprint="f"), a_job(fingerprint="f")
    ledger.submit(leader)
    ledger.submit(follower)
    before = everything(client)
    assert [ledger.submit(new).outcome for new in (leader, follower)] == [Submitted.KNOWN] * 2
    assert everything(client) == before

    claim = begin(ledger, leader.id)
    ledger.settle(claim, State.SUCCEEDED, ANSWER)
    before = everything(client)
    assert ledger.settle(claim, State.SUCCEEDED, ANSWER) == "again"
    assert ledger.cancel(follower.id) is State.SUCCEEDED
    assert everything(client) == before


def test_each_follower_has_its_own_events_announcement_and_webhook(ledger: Ledger, client: redis.Redis) -> None:
    ask(ledger, tenant="ann", metered=True)
    follower = ask(ledger, tenant="bob", metered=True, webhook_url="https://bob.example/hook")
    claim = take(ledger)
    assert claim
    ledger.settle(claim, State.SUCCEEDED, ANSWER)

    events = [(fields[b"event"], fields[b"id"].decode()) for _, fields in client.xrange("events:bob")]
    assert events == [(b"queued", follower), (b"succeeded", follower)]
    [(_, hook)] = client.xrange("hooks")
    assert hook == {b"id": follower.encode(), b"tenant": b"bob", b"state": b"succeeded"}
    assert client.xlen("announcements") == 2


def test_past_retention_all_of_them_leave_tombstones(ledger: Ledger, client: redis.Redis, settings: Settings) -> None:
    ids = [ask(ledger) for _ in range(3)]
    ledger.settle(begin(ledger, ids[0]), State.SUCCEEDED, ANSWER)
    ledger.now_ms = NOW_MS + round(settings.retention_s * 1000)

    assert ledger.purge() == 3
    assert ledger.read_all(ids) == [None] * 3
    assert sorted(client.keys("gone:*")) == sorted(f"gone:{job_id}".encode() for job_id in ids)


def test_an_heir_stands_where_the_most_urgent_of_those_who_wait_for_it_would(ledger: Ledger) -> None:
    leader = a_running_job(ledger, fingerprint="f", lane=Lane.BATCH)
    heir = ledger.submit(a_job(fingerprint="f", lane=Lane.BATCH)).job_id
    ledger.submit(a_job(fingerprint="f", lane=Lane.INTERACTIVE))
    for _ in range(5):
        ledger.submit(a_job(lane=Lane.STANDARD))
    ledger.cancel(leader.id)

    assert ledger.read(heir).position == 0


def test_what_began_before_a_follower_came_began_for_it_when_it_came(ledger: Ledger) -> None:
    leader = a_running_job(ledger, fingerprint="f")
    ledger.now_ms = NOW_MS + 70
    late = ask(ledger)
    ledger.now_ms = NOW_MS + 90
    ledger.settle(leader, State.SUCCEEDED, ANSWER)
    job = ledger.read(late)

    assert (job.created_ms, job.started_ms, job.finished_ms) == (NOW_MS + 70, NOW_MS + 70, NOW_MS + 90)
