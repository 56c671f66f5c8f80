"""A tenant's webhooks over HTTP: the secret that signs them, and the deliveries that were put aside."""

import types
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
import standardwebhooks
from click.testing import CliRunner
from flask.testing import FlaskClient

from app import topology
from app.accounts import Account, Accounts, Role, Scope
from app.api import create_app
from app.keyring import Keyring, load_keyring
from app.settings import Settings
from app.webhook_dead import DeadDeliveries
from app.webhook_deliveries import Deliveries, NewDelivery, Verdict
from app.webhook_secrets import WebhookSecrets, signature
from ops.waiting import wait_until
from ops.webhooks import webhooks
from workers.queue_retention import QueueRetention


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, webhook_dead_s=0.05)


@pytest.fixture
def keyring(settings: Settings) -> Keyring:
    return load_keyring(settings.data_dir)


@pytest.fixture
def deliveries(client: redis.Redis) -> Deliveries:
    return Deliveries(client)


@pytest.fixture
def signed_in(client: redis.Redis, settings: Settings) -> Callable[..., tuple[FlaskClient, Account]]:
    """Makes an account, and a client of the gateway with a key of it."""
    application = create_app(settings, topology.load({})[1])

    def make(name: str = "ann", scopes: set[Scope] | None = None) -> tuple[FlaskClient, Account]:
        accounts = Accounts(client)
        account = accounts.add(name, Role.USER, "hash")
        caller = application.test_client()
        caller.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {accounts.add_key(account, 'key', scopes=scopes)[0]}"
        return caller, account

    return make


@pytest.fixture
def ann(signed_in: Callable[..., tuple[FlaskClient, Account]]) -> Iterator[tuple[FlaskClient, Account]]:
    caller, account = signed_in()
    with caller:
        yield caller, account


def put_aside(deliveries: Deliveries, tenant: str, error: str = "answered 500") -> str:
    """Record a delivery that has failed for good; return its id."""
    job = str(uuid.uuid4())
    new = NewDelivery(id=f"msg_{job}", tenant=tenant, job=job, url="https://example.com/hook", type="job.failed",
                      body=b"{}")
    assert deliveries.record(new, entry="1-1")
    (claimed,) = deliveries.claim(new.receiver, 1, lease_s=60, owner="me")
    assert deliveries.settle(claimed, Verdict.DEAD, error=error)
    return new.id


def listed(caller: FlaskClient, **query: Any) -> dict[str, Any]:
    answer = caller.get("/v1/webhooks/dead", query_string=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json)


# -- asked for


@pytest.mark.parametrize("url", ["http://127.0.0.1/hook", "ftp://example.com/", "https://me:secret@example.com/", "",
                                 "https://example.com/" + "x" * 2048, 7])
def test_a_job_with_a_webhook_that_must_not_be_called_is_refused_and_nothing_is_written(
        ann: tuple[FlaskClient, Account], client: redis.Redis, url: object) -> None:
    for method, path in (("POST", "/v1/jobs"), ("PUT", f"/v1/jobs/{uuid.uuid4()}")):
        answer = ann[0].open(path, method=method, json={"service": "model", "input": {"prompt": "hello"},
                                                        "webhook_url": url})
        assert (answer.status_code, answer.json["pointer"]) == (422, "/webhook_url")
        assert "secret" not in answer.text
    assert not list(client.scan_iter("job:*"))


# -- secrets


def test_a_secret_is_made_on_first_use_and_stays(ann: tuple[FlaskClient, Account], client: redis.Redis) -> None:
    first, second = (ann[0].get("/v1/webhooks/secret") for _ in range(2))

    assert (first.status_code, first.headers["Cache-Control"]) == (200, "no-store")
    assert first.json["secret"].startswith("whsec_")
    assert first.json == second.json
    (sealed,) = client.zrange(f"webhook-secrets:{ann[1].id}", 0, -1)
    assert first.json["secret"].removeprefix("whsec_").encode() not in sealed


def test_each_tenant_has_a_secret_of_its_own(signed_in: Callable[..., tuple[FlaskClient, Account]]) -> None:
    secrets = {signed_in(name)[0].get("/v1/webhooks/secret").json["secret"] for name in ("ann", "bob")}
    assert len(secrets) == 2


def test_after_a_rotation_both_secrets_sign_for_a_day_and_then_the_new_one_alone(
        ann: tuple[FlaskClient, Account], client: redis.Redis, keyring: Keyring) -> None:
    caller, account = ann
    secrets = WebhookSecrets(client, keyring)
    old = caller.get("/v1/webhooks/secret").json["secret"]
    new = caller.post("/v1/webhooks/secret/rotate").json["secret"]

    assert new != old
    assert caller.get("/v1/webhooks/secret").json["secret"] == new
    assert secrets.signing(account.id) == [new, old]
    now_s = client.time()[0]
    headers = {"webhook-id": "m", "webhook-timestamp": str(now_s),
               "webhook-signature": signature([new, old], "m", now_s, b"{}")}
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (old, new):
        standardwebhooks.Webhook(secret).verify(b"{}", headers)

    ((sealed, until_ms), _) = client.zrange(f"webhook-secrets:{account.id}", 0, -1, withscores=True)
    assert 86_399 < until_ms / 1000 - now_s < 86_402
    client.zadd(f"webhook-secrets:{account.id}", {sealed: now_s * 1000 - 1})
    assert secrets.signing(account.id) == [new]


def test_a_tenant_that_rotates_often_signs_with_the_newest_few(client: redis.Redis, keyring: Keyring) -> None:
    secrets = WebhookSecrets(client, keyring)
    made = [secrets.rotate("ann") for _ in range(9)]

    assert secrets.signing("ann")[0] == made[-1]
    assert len(secrets.signing("ann")) == 5


def test_a_signature_is_that_of_the_public_package() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # the specification's own example
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

    assert signature([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}') == expected


# -- put aside


def test_dead_deliveries_are_listed_page_by_page_the_last_first(
        ann: tuple[FlaskClient, Account], deliveries: Deliveries) -> None:
    caller, account = ann
    ids = [put_aside(deliveries, account.id, f"answered 50{number}") for number in range(5)]
    pages, cursor = [], ""
    while cursor is not None:
        page = listed(caller, limit=2, **({"cursor": cursor} if cursor else {}))
        pages.append(page["data"])
        cursor = page["next_cursor"]

    assert [len(page) for page in pages] == [2, 2, 1]
    found = [each for page in pages for each in page]
    assert {each["id"] for each in found} == set(ids)
    assert [each["died_at"] for each in found] == sorted((each["died_at"] for each in found), reverse=True)
    first = found[0]
    assert set(first) == {"id", "job", "url", "type", "attempts", "error", "created_at", "died_at"}
    assert (first["url"], first["type"], first["attempts"]) == ("https://example.com/hook", "job.failed", 1)
    assert first["error"].startswith("answered 50")


def test_a_dead_delivery_is_replayed_once_with_all_its_attempts_before_it(
        ann: tuple[FlaskClient, Account], deliveries: Deliveries) -> None:
    caller, account = ann
    webhook = put_aside(deliveries, account.id)

    assert caller.post(f"/v1/webhooks/dead/{webhook}/replay").status_code == 202
    assert caller.post(f"/v1/webhooks/dead/{webhook}/replay").status_code == 404
    assert listed(caller) == {"data": [], "next_cursor": None}
    (receiver,) = deliveries.due()
    (again,) = deliveries.claim(receiver, 5, lease_s=60, owner="me")
    assert (again.id, again.attempts, again.body) == (webhook, 1, b"{}")


def test_a_dead_delivery_is_removed_for_good(
        ann: tuple[FlaskClient, Account], deliveries: Deliveries, client: redis.Redis) -> None:
    caller, account = ann
    webhook = put_aside(deliveries, account.id)

    assert caller.delete(f"/v1/webhooks/dead/{webhook}").status_code == 204
    assert caller.delete(f"/v1/webhooks/dead/{webhook}").status_code == 404
    assert not list(client.scan_iter("hook*"))


def test_dead_deliveries_of_another_tenant_are_not_there(
        ann: tuple[FlaskClient, Account], signed_in: Callable[..., tuple[FlaskClient, Account]],
        deliveries: Deliveries) -> None:
    webhook = put_aside(deliveries, ann[1].id)
    bob, _ = signed_in("bob")

    assert listed(bob)["data"] == []
    for answer in (bob.post(f"/v1/webhooks/dead/{webhook}/replay"), bob.delete(f"/v1/webhooks/dead/{webhook}"),
                   bob.delete("/v1/webhooks/dead/nothing")):
        assert (answer.status_code, answer.json["code"]) == (404, "not-found")
    assert len(listed(ann[0])["data"]) == 1


def test_one_that_is_still_being_delivered_is_not_among_the_dead(
        ann: tuple[FlaskClient, Account], deliveries: Deliveries) -> None:
    caller, account = ann
    webhook = put_aside(deliveries, account.id)
    caller.post(f"/v1/webhooks/dead/{webhook}/replay")

    assert caller.delete(f"/v1/webhooks/dead/{webhook}").status_code == 404


def test_a_key_without_the_scope_gets_none_of_it(signed_in: Callable[..., tuple[FlaskClient, Account]]) -> None:
    caller, _ = signed_in("carl", {Scope.JOBS_READ, Scope.JOBS_WRITE})

    for method, path in (("GET", "/secret"), ("POST", "/secret/rotate"), ("GET", "/dead"), ("POST", "/dead/x/replay"),
                         ("DELETE", "/dead/x")):
        assert caller.open(f"/v1/webhooks{path}", method=method).status_code == 403


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=-1", "limit=1.5", "limit=\N{SUPERSCRIPT TWO}",
                                   "limit=000000001999", f"limit=000000001{'0' * 5000}",
                                   "cursor=x", "cursor=1-1", "cursor=000000000000001:%0A"])
def test_a_page_that_cannot_be_is_refused(ann: tuple[FlaskClient, Account], query: str) -> None:
    assert ann[0].get(f"/v1/webhooks/dead?{query}").status_code == 422


# -- kept for a time


def test_dead_deliveries_go_after_their_time_and_no_live_one_with_them(
        client: redis.Redis, settings: Settings, deliveries: Deliveries) -> None:
    old, live = put_aside(deliveries, "ann"), put_aside(deliveries, "ann")
    DeadDeliveries(client).replay(live, "ann")
    retention = QueueRetention(client, settings)
    wait_until(lambda: [retention.trim(), not client.exists(f"hook:{old}")][1], timeout_s=5, what="it to be thrown away")

    assert DeadDeliveries(client).page("ann", limit=10) == ([], None)
    assert client.exists(f"hook:{live}")
    assert client.zcard("hooks:dead") == 0


def test_a_topic_goes_when_nothing_was_published_to_it_for_its_time(client: redis.Redis, settings: Settings) -> None:
    now_ms = client.time()[0] * 1000
    for topic, at_ms in (("topic:ann:idle", now_ms - 10_000), ("topic:ann:busy", now_ms)):
        client.xadd(topic, {"message": "1"})
        client.zadd("topics", {topic: at_ms})
    QueueRetention(client, replace(settings, topic_s=5)).trim()

    assert list(client.scan_iter("topic:*")) == [b"topic:ann:busy"]
    assert client.zrange("topics", 0, -1) == [b"topic:ann:busy"]


# -- by operators


def test_operators_list_and_replay_what_was_put_aside(
        ann: tuple[FlaskClient, Account], deliveries: Deliveries, settings: Settings) -> None:
    first, second = (put_aside(deliveries, ann[1].id, "answered 418") for _ in range(2))
    context = types.SimpleNamespace(app=types.SimpleNamespace(tandem_settings=settings))

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(webhooks, arguments, obj=context)
        return result.exit_code, result.output

    status, told = run("dead")
    assert (status, told.count("\n")) == (0, 2)
    assert all(text in told for text in (first, second, "ann", "answered 418", "https://example.com/hook"))
    assert run("replay", "ann", first) == (0, f"due again: {first}\n")
    assert first not in run("dead", "ann")[1]
    assert run("replay", "ann", "--all") == (0, f"due again: {second}\n")
    assert run("dead") == (0, "none\n")
    assert run("replay", "ann", first)[0] == run("replay", "nobody", first)[0] == run("dead", "nobody")[0] == 1
    assert run("replay", "ann")[0] == run("replay", "ann", first, "--all")[0] == 2
