"""Webhooks are delivered in the end: signed, at least once, and without one receiver standing in the way of another."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import redis

from app.job import State
from app.keyring import Keyring, load_keyring
from app.ledger import Ending, Ledger
from app.settings import Settings
from app.store import DURABILITY
from app.webhook_dead import DeadDeliveries
from app.webhook_deliveries import Deliveries, NewDelivery, Verdict
from app.webhook_secrets import WebhookSecrets
from ops.waiting import wait_until
from tests.model_ledger import a_running_job
from tests.receiver import BlackHole, Receiver
from workers import delivery
from workers.delivery import _PER_RECEIVER, Deliverer

#: A deliverer in a process of its own, until its standard input ends.
PROGRAM = """
import sys
from app import topology
from app.keyring import load_keyring
from workers.delivery import Deliverer
settings, _ = topology.load()
Deliverer(settings, load_keyring(settings.data_dir), worker="queue@elsewhere").start()
sys.stdin.read()
"""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Receivers on this machine, and little time between attempts."""
    return replace(settings, webhook_private=True, webhook_retry_s=0.01, webhook_timeout_s=0.4)


@pytest.fixture
def keyring(settings: Settings) -> Keyring:
    return load_keyring(settings.data_dir)


@contextmanager
def delivering(settings: Settings, keyring: Keyring) -> Iterator[Deliverer]:
    deliverer = Deliverer(settings, keyring, worker="queue@server-1")
    deliverer.start()
    try:
        yield deliverer
    finally:
        deliverer.stop()
        deliverer.join(10)


@pytest.fixture
def deliverer(client: redis.Redis, settings: Settings, keyring: Keyring) -> Iterator[Deliverer]:
    with delivering(settings, keyring) as one:
        yield one


@pytest.fixture
def ended(ledger: Ledger) -> Callable[..., str]:
    """Ends a job that has a webhook, and returns its id."""
    def end(url: str, state: State = State.SUCCEEDED, *, tenant: str = "ann") -> str:
        claim = a_running_job(ledger, tenant=tenant, webhook_url=url)
        ledger.settle(claim, state, Ending(result=b'{"text":"hello"}'))
        return claim.id

    return end


@pytest.fixture
def secret(client: redis.Redis, keyring: Keyring) -> str:
    """The secret of the tenant that the tests' jobs belong to."""
    return WebhookSecrets(client, keyring).present("ann")


def dead(client: redis.Redis, tenant: str = "ann") -> list[tuple[str, str, int]]:
    """A tenant's dead deliveries: job, error, attempts."""
    return [(each.job, each.error, each.attempts) for each in DeadDeliveries(client).page(tenant, limit=100)[0]]


def is_clean(client: redis.Redis) -> bool:
    """Nothing is left of deliveries."""
    return not [key for key in client.scan_iter("hook*") if key != b"hooks"] and not client.xlen("hooks")


# -- delivered


def test_a_receiver_gets_the_job_as_its_caller_reads_it_signed(
        deliverer: Deliverer, ended: Callable[..., str], ledger: Ledger, client: redis.Redis, secret: str) -> None:
    with Receiver() as receiver:
        job_id = ended(receiver.url("/a%20b?c=d"))
        (delivery,) = receiver.gets(1)
        payload = delivery.verified(secret)

    job = ledger.read(job_id)
    assert payload["type"] == "job.succeeded"
    assert payload["data"] == msgspec.json.decode(msgspec.json.encode(job.public(durability=DURABILITY)))
    assert payload["timestamp"] == payload["data"]["finished_at"]
    assert (delivery.path, delivery.headers["content-type"]) == ("/a%20b?c=d", "application/json")
    assert delivery.id == f"msg_{job_id}"
    wait_until(lambda: is_clean(client), timeout_s=10, what="the delivery to be forgotten")


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
def test_how_the_job_ended_is_the_type_of_the_event(
        deliverer: Deliverer, ended: Callable[..., str], secret: str, state: State) -> None:
    with Receiver() as receiver:
        ended(receiver.url(), state)
        assert receiver.gets(1)[0].verified(secret)["type"] == f"job.{state}"


def test_all_is_delivered_in_the_end_to_a_receiver_that_was_down_for_a_while(
        client: redis.Redis, settings: Settings, keyring: Keyring, ended: Callable[..., str], secret: str) -> None:
    with Receiver() as receiver:
        url = receiver.url()
    with delivering(replace(settings, webhook_attempts=1000, webhook_retry_s=0.002), keyring):
        jobs = {f"msg_{ended(url)}" for _ in range(20)}
        wait_until(lambda: sum(int(client.hget(f"hook:{job}", "attempts") or 0) for job in jobs) >= 40, timeout_s=20,
                   what="some attempts to fail")
        assert receiver.received == []
        with receiver:
            wait_until(lambda: {each.id for each in receiver.received} == jobs, timeout_s=30, what="all to be delivered")
            wait_until(lambda: is_clean(client), timeout_s=10, what="all to be settled")
        assert all(each.verified(secret)["data"]["state"] == "succeeded" for each in receiver.received)
        assert len(receiver.received) == 20
    assert dead(client) == []


def test_every_attempt_at_an_event_has_the_same_id_and_body(deliverer: Deliverer, ended: Callable[..., str]) -> None:
    with Receiver(lambda count: (204 if count == 4 else 500, {})) as receiver:
        ended(receiver.url())
        attempts = receiver.gets(4)

    assert len({(each.id, each.body) for each in attempts}) == 1


def test_a_receiver_that_says_when_it_wants_it_again_gets_it_then(
        client: redis.Redis, deliverer: Deliverer, ended: Callable[..., str]) -> None:
    with Receiver(lambda _: (503, {"Retry-After": "3600"})) as receiver:
        job_id = ended(receiver.url())
        receiver.gets(1)
        wait_until(lambda: client.hget(f"hook:msg_{job_id}", "error"), timeout_s=10, what="the attempt to be recorded")

    ((_, due_ms),) = client.zrange("hooks:receivers", 0, -1, withscores=True)
    assert 3590 < due_ms / 1000 - client.time()[0] <= 3601


# -- put aside


def test_what_fails_each_time_is_put_aside_with_its_last_error(
        client: redis.Redis, settings: Settings, keyring: Keyring, ended: Callable[..., str]) -> None:
    with delivering(replace(settings, webhook_attempts=3), keyring), Receiver(lambda _: (500, {})) as receiver:
        job_id = ended(receiver.url())
        wait_until(lambda: dead(client), timeout_s=10, what="it to be put aside")

        assert dead(client) == [(job_id, "answered 500", 3)]
        assert len(receiver.received) == 3


def test_a_receiver_that_is_gone_is_asked_no_second_time(
        client: redis.Redis, deliverer: Deliverer, ended: Callable[..., str]) -> None:
    with Receiver(lambda _: (410, {})) as receiver:
        job_id = ended(receiver.url())
        wait_until(lambda: dead(client), timeout_s=10, what="it to be put aside")

        assert (dead(client), len(receiver.received)) == ([(job_id, "answered 410", 1)], 1)


def test_a_redirect_is_not_followed(
        client: redis.Redis, settings: Settings, keyring: Keyring, ended: Callable[..., str]) -> None:
    with (delivering(replace(settings, webhook_attempts=1), keyring), Receiver() as inside,
          Receiver(lambda _: (307, {"Location": inside.url()})) as receiver):
        job_id = ended(receiver.url())
        wait_until(lambda: dead(client), timeout_s=10, what="it to be put aside")

        assert (dead(client), inside.received) == ([(job_id, "answered 307", 1)], [])


def test_what_was_put_aside_is_delivered_once_it_is_replayed(
        client: redis.Redis, deliverer: Deliverer, ended: Callable[..., str], secret: str) -> None:
    with Receiver(lambda count: (410 if count == 1 else 204, {})) as receiver:
        webhook = f"msg_{ended(receiver.url())}"
        wait_until(lambda: dead(client), timeout_s=10, what="it to be put aside")
        DeadDeliveries(client).replay(webhook, "ann")
        again = receiver.gets(2)[1]

    assert again.id == webhook
    assert again.verified(secret)["type"] == "job.succeeded"
    wait_until(lambda: is_clean(client), timeout_s=10, what="nothing to be left")


# -- none in another's way


def test_a_receiver_that_never_answers_holds_up_no_other(
        client: redis.Redis, settings: Settings, keyring: Keyring, ended: Callable[..., str]) -> None:
    with (delivering(replace(settings, webhook_timeout_s=60), keyring) as deliverer, BlackHole() as hole,
          Receiver() as receiver):
        for _ in range(3 * _PER_RECEIVER):
            ended(hole.url(), tenant="bob")
        wait_until(lambda: len(deliverer._under_way) == _PER_RECEIVER, timeout_s=10, what="the hole to have its slots")
        fine = [ended(receiver.url()) for _ in range(10)] + [ended(receiver.url(), tenant="bob")]
        receiver.gets(len(fine), timeout_s=5)

        wait_until(lambda: len(deliverer._under_way) == _PER_RECEIVER, timeout_s=5, what="all but the hole's to be settled")
        assert {each.receiver.partition("|")[0] for each in deliverer._under_way.values()} == {"bob"}
        assert client.zcard(f"hooks:due:bob|{hole_of(client)}") == 3 * _PER_RECEIVER


def hole_of(client: redis.Redis) -> str:
    (receiver,) = client.zrange("hooks:receivers", 0, -1)
    return str(receiver.decode().partition("|")[2])


def test_a_tenant_with_many_receivers_that_never_answer_leaves_slots_to_others(
        settings: Settings, keyring: Keyring, ended: Callable[..., str]) -> None:
    with (delivering(replace(settings, webhook_timeout_s=60), keyring) as one, ExitStack() as holes,
          Receiver() as receiver):
        for _ in range(20):
            url = holes.enter_context(BlackHole()).url()
            for _ in range(_PER_RECEIVER):
                ended(url, tenant="bob")
        wait_until(lambda: len(one._under_way) == 16, timeout_s=10, what="bob to have all his slots")
        ended(receiver.url())
        receiver.gets(1, timeout_s=5)
        assert len(one._under_way) >= 16


# -- whatever dies


def test_when_a_deliverer_is_killed_in_mid_delivery_another_delivers_after_it(
        client: redis.Redis, settings: Settings, keyring: Keyring, ended: Callable[..., str], secret: str) -> None:
    environ = {"TANDEM_REDIS_URL": settings.redis_url, "TANDEM_DATA_DIR": str(settings.data_dir),
               "TANDEM_WEBHOOK_PRIVATE": "true", "TANDEM_WEBHOOK_TIMEOUT_S": "0.4", "PATH": "/usr/bin:/bin"}
    with BlackHole() as hole, subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, env=environ, cwd=Path(__file__).parents[1]) as process:
        try:
            job_id = ended(hole.url())
            wait_until(lambda: client.hget(f"hook:msg_{job_id}", "owner"), timeout_s=20, what="the delivery to begin")
        finally:
            process.kill()
    assert client.hget(f"hook:msg_{job_id}", "attempts") == b"1"

    with Receiver(port=int(hole_of(client).rpartition(":")[2])) as receiver, delivering(settings, keyring):
        assert receiver.gets(1)[0].verified(secret)["data"]["id"] == job_id


def test_what_a_deliverer_took_in_and_left_another_takes_over(
        client: redis.Redis, deliverer: Deliverer, ended: Callable[..., str]) -> None:
    client.delete("hooks")
    with Receiver() as receiver:
        wait_until(lambda: client.exists("hooks"), timeout_s=10, what="the group to be made again")
        deliverer.stop()
        deliverer.join(10)
        job_id = ended(receiver.url())
        ((_, ((_entry, _),)),) = client.xreadgroup("webhooks", "queue@dead", {"hooks": ">"})
        assert deliverer._intake.take_over(abandoned_ms=60_000) == 0
        assert deliverer._intake.take_over(abandoned_ms=0) == 1

    assert client.hget(f"hook:msg_{job_id}", "job") == job_id.encode()
    assert client.xpending("hooks", "webhooks")["pending"] == 0


def test_a_deliverer_that_stops_gives_back_what_it_cannot_finish(
        client: redis.Redis, settings: Settings, keyring: Keyring, ended: Callable[..., str],
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_FINISH_S", 0.05)
    with BlackHole() as hole:
        with delivering(replace(settings, webhook_timeout_s=60), keyring) as one:
            job_id = ended(hole.url())
            wait_until(lambda: one._under_way, timeout_s=10, what="the delivery to begin")
        assert client.hmget(f"hook:msg_{job_id}", "owner", "attempts") == [None, b"0"]
        ((_, due_ms),) = client.zrange("hooks:receivers", 0, -1, withscores=True)
        assert due_ms / 1000 <= client.time()[0] + 1


def test_an_entry_that_cannot_be_delivered_any_more_is_dropped_and_keeps_nothing_up(
        client: redis.Redis, deliverer: Deliverer, ended: Callable[..., str]) -> None:
    client.xadd("hooks", {"id": "01990000-0000-7000-8000-000000000000", "tenant": "ann", "state": "succeeded"})
    client.xadd("hooks", {"strange": "entry"})
    with Receiver() as receiver:
        ended(receiver.url())
        receiver.gets(1)
    wait_until(lambda: is_clean(client), timeout_s=10, what="nothing to be left")


def test_delivering_goes_on_after_redis_was_away_or_lost_what_it_held(
        client: redis.Redis, deliverer: Deliverer, ended: Callable[..., str]) -> None:
    with Receiver() as receiver:
        ended(receiver.url())
        receiver.gets(1)
        client.client_kill_filter(_type="normal", skipme=True)
        ended(receiver.url())
        receiver.gets(2)
        client.flushall()
        ended(receiver.url())
        receiver.gets(3)


def test_what_a_worker_says_of_a_delivery_that_is_anothers_by_then_is_refused(client: redis.Redis) -> None:
    deliveries = Deliveries(client)
    new = NewDelivery(id="msg_1", tenant="ann", job="1", url="http://hooks.test/", type="job.failed", body=b"{}")
    assert [deliveries.record(new, entry="1-1") for _ in range(2)] == [True, False]
    (late,) = deliveries.claim(new.receiver, 5, lease_s=0, owner="late")
    (present,) = wait_until(lambda: deliveries.claim(new.receiver, 5, lease_s=60, owner="present"), timeout_s=5,
                            what="the lease to end")

    assert [deliveries.settle(late, verdict) for verdict in Verdict] == [False] * 4
    assert (present.attempts, present.body, list(deliveries.due())) == (2, b"{}", [])
    assert deliveries.settle(present, Verdict.DONE)
    assert is_clean(client)


def test_a_delivery_that_meets_a_bug_is_put_aside_in_the_end(
        client: redis.Redis, settings: Settings, keyring: Keyring, ended: Callable[..., str],
        monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise ValueError("a bug")

    monkeypatch.setattr(delivery, "signature", broken)
    with Receiver() as receiver, delivering(replace(settings, webhook_attempts=2), keyring):
        ended(receiver.url())
        wait_until(lambda: dead(client), timeout_s=10, what="it to be put aside")

    assert "ValueError" in dead(client)[0][1]
