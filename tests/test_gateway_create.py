"""`PUT /v1/jobs/{id}`, `Cancel-After`, and the validators that spare a caller what it has."""

import uuid

import pytest
import redis

from app.ledger import Ledger
from app.settings import Settings
from tests.gateway import Gateway

BODY = {"service": "model", "input": {"prompt": "hello"}}


@pytest.fixture
def gateway(settings: Settings, client: redis.Redis) -> Gateway:
    return Gateway(settings, client)


@pytest.fixture
def chosen() -> str:
    return str(uuid.uuid4())


# -- the caller picks the id


def test_a_job_takes_the_id_that_its_caller_chose(gateway: Gateway, chosen: str) -> None:
    answer = gateway.call("PUT", f"/v1/jobs/{chosen}", json=BODY)

    assert (answer.status_code, answer.json["id"], answer.json["state"]) == (202, chosen, "queued")
    assert answer.headers["Location"] == f"/v1/jobs/{chosen}"
    assert "Idempotency-Replayed" not in answer.headers
    assert gateway.call("GET", f"/v1/jobs/{chosen}").json["id"] == chosen


@pytest.mark.parametrize("again", [
    BODY, {"input": {"prompt": "hello"}, "service": "model"}, {**BODY, "lane": "standard"}],
    ids=["same", "order", "default"])
def test_the_same_request_again_is_the_same_job(
        gateway: Gateway, client: redis.Redis, chosen: str, again: dict[str, object]) -> None:
    gateway.call("PUT", f"/v1/jobs/{chosen}", json=BODY)

    answer = gateway.call("PUT", f"/v1/jobs/{chosen}", json=again, headers={"Idempotency-Key": "is not looked at"})

    assert (answer.status_code, answer.json["id"]) == (202, chosen)
    assert answer.headers["Idempotency-Replayed"] == "true"
    assert client.hget("counts", "accepted") == b"1"


def test_another_request_under_the_same_id_is_a_conflict(gateway: Gateway, chosen: str) -> None:
    first = gateway.call("PUT", f"/v1/jobs/{chosen}", json=BODY).json

    answer = gateway.call("PUT", f"/v1/jobs/{chosen}", json={**BODY, "lane": "batch"})

    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert gateway.call("GET", f"/v1/jobs/{chosen}").json["lane"] == first["lane"]


def test_the_id_of_a_job_that_was_posted_is_a_conflict(gateway: Gateway) -> None:
    job_id = gateway.submit()

    assert gateway.call("PUT", f"/v1/jobs/{job_id}", json=BODY).status_code == 409


def test_another_tenants_id_is_unknown_and_its_job_stays_as_it_is(gateway: Gateway, chosen: str) -> None:
    gateway.call("PUT", f"/v1/jobs/{chosen}", json=BODY)
    before = gateway.call("GET", f"/v1/jobs/{chosen}").json

    answer = gateway.another("second").call("PUT", f"/v1/jobs/{chosen}", json=BODY)

    assert (answer.status_code, answer.json["code"]) == (404, "job-unknown")
    assert gateway.call("GET", f"/v1/jobs/{chosen}").json == before


def test_an_id_past_retention_is_gone_and_is_not_used_again(
        gateway: Gateway, client: redis.Redis, settings: Settings, chosen: str) -> None:
    gateway.call("PUT", f"/v1/jobs/{chosen}", json=BODY)
    gateway.call("DELETE", f"/v1/jobs/{chosen}")
    later_ms = int(client.time()[0]) * 1000 + round(settings.retention_s * 1000) + 60_000
    assert Ledger(client, settings, now_ms=later_ms).purge() == 1

    answer = gateway.call("PUT", f"/v1/jobs/{chosen}", json=BODY)

    assert (answer.status_code, answer.json["code"]) == (410, "job-gone")
    assert client.hget("counts", "accepted") == b"1"


@pytest.mark.parametrize("job_id", ["1", "a" * 32, str(uuid.UUID(int=0xA)).upper(), f"{{{uuid.UUID(int=1)}}}", "x" * 3000])
def test_what_is_no_uuid_cannot_be_chosen(gateway: Gateway, client: redis.Redis, job_id: str) -> None:
    answer = gateway.call("PUT", f"/v1/jobs/{job_id}", json=BODY)

    assert (answer.status_code, answer.json["code"]) == (422, "invalid-input")
    assert client.hget("counts", "accepted") is None


# -- a deadline as a header


@pytest.mark.parametrize(("given", "seconds"), [
    ("30s", 30), ("30", 30), ("500ms", 0.5), ("2m", 120), ("1h30m", 5400), ("1.5s", 1.5), (" 10s ", 10), ("1m30s", 90),
    ("168h", 604_800)])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_cancel_after_is_a_deadline(
        gateway: Gateway, client: redis.Redis, chosen: str, method: str, given: str, seconds: float) -> None:
    path = "/v1/jobs" if method == "POST" else f"/v1/jobs/{chosen}"

    job = gateway.call(method, path, json=BODY, headers={"Cancel-After": given}).json

    created, deadline = (int(each) for each in client.hmget(f"job:{job['id']}", "created_ms", "deadline_ms"))
    assert deadline - created == round(seconds * 1000)


@pytest.mark.parametrize(("header", "member", "seconds"), [("10s", 20, 10), ("20s", 10, 10)])
def test_of_two_deadlines_the_earlier_counts(
        gateway: Gateway, client: redis.Redis, header: str, member: float, seconds: float) -> None:
    job = gateway.call("POST", "/v1/jobs", json={**BODY, "deadline_s": member}, headers={"Cancel-After": header}).json

    created, deadline = (int(each) for each in client.hmget(f"job:{job['id']}", "created_ms", "deadline_ms"))
    assert deadline - created == seconds * 1000


@pytest.mark.parametrize("given", [
    "", "s", "10 s", "-1s", "0", "0ms", "1d", "1e3", "10s10", "٣s", "1m,2s", "169h", "9" * 30, "inf", "nan", "30S"])
def test_a_time_that_cannot_be_read_is_refused(gateway: Gateway, client: redis.Redis, given: str) -> None:
    answer = gateway.call("POST", "/v1/jobs", json=BODY, headers={"Cancel-After": given.encode().decode("latin-1")})

    assert (answer.status_code, answer.json["code"]) == (400, "malformed-request")
    assert "Cancel-After" in answer.json["detail"]
    assert client.hget("counts", "accepted") is None


# -- validators


def test_a_job_that_did_not_change_is_not_sent_again(gateway: Gateway) -> None:
    path = f"/v1/jobs/{gateway.submit()}"
    first = gateway.call("GET", path)
    tag = first.headers["ETag"]
    assert not tag.startswith("W/")

    for given in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = gateway.call("GET", path, headers={"If-None-Match": given})
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
        assert again.headers["Retry-After"] == first.headers["Retry-After"]
        assert "Content-Length" not in again.headers
    assert gateway.call("GET", path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_job_that_changed_has_another_tag(gateway: Gateway) -> None:
    first, second = gateway.submit("a"), gateway.submit("b")
    tags = [gateway.call("GET", f"/v1/jobs/{second}").headers["ETag"]]

    gateway.call("DELETE", f"/v1/jobs/{first}")  # the second moves up
    tags.append(gateway.call("GET", f"/v1/jobs/{second}").headers["ETag"])
    gateway.call("DELETE", f"/v1/jobs/{second}")
    changed = gateway.call("GET", f"/v1/jobs/{second}", headers={"If-None-Match": tags[-1]})

    assert changed.status_code == 200
    assert len({*tags, changed.headers["ETag"]}) == 3


# -- what messages say


@pytest.mark.parametrize(("body", "words"), [
    ({**BODY, "lane": "fast"}, "it must be one of interactive, standard, batch, at /lane"),
    ({"service": "mail", "input": {}}, "it must be one of auth, model, chat, cache, queue, at /service"),
    ({"service": "model", "input": {"messages": [{"role": "bot", "content": "x"}]}}, "it must be one of assistant, "),
    ({"service": "cache", "input": {"operation": "steal"}},
     "it must be one of put, get, delete, invalidate, warm, at /input/operation"),
    ({"service": "model", "input": {"prompt": "x", "stream": True}}, "/v1/jobs/{id}/events"),
])
def test_a_refusal_says_what_would_have_been_right(gateway: Gateway, body: dict[str, object], words: str) -> None:
    answer = gateway.call("POST", "/v1/jobs", json=body)

    assert answer.status_code == 422
    assert words in answer.json["detail"]
