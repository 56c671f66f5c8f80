"""Many jobs in one answer: those that are named, and the caller's own, newest first."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from app.ledger import Ledger
from app.settings import Settings
from tests.gateway import Gateway

NOBODYS = "01990000-0000-7000-8000-000000000000"


@pytest.fixture
def gateway(settings: Settings, client: redis.Redis) -> Gateway:
    return Gateway(settings, client)


def pages(gateway: Gateway, query: str = "") -> Iterator[list[dict[str, Any]]]:
    """The pages of a list, one after the other."""
    cursor = ""
    while cursor is not None:
        answer = gateway.call("GET", f"/v1/jobs?{query}&cursor={cursor}")
        assert answer.status_code == 200, answer.text
        yield answer.json["data"]
        cursor = answer.json["next_cursor"]


def ids(gateway: Gateway, query: str = "") -> list[str]:
    return [job["id"] for page in pages(gateway, query) for job in page]


def test_a_callers_own_jobs_come_newest_first_in_pages(gateway: Gateway) -> None:
    submitted = [gateway.submit(str(number)) for number in range(7)]
    gateway.another("second").submit("of somebody else")

    assert [len(page) for page in pages(gateway, "limit=3") if page] == [3, 3, 1]
    assert ids(gateway, "limit=3") == submitted[::-1]


def test_a_job_that_comes_while_somebody_pages_shifts_nothing(gateway: Gateway) -> None:
    submitted = [gateway.submit(str(number)) for number in range(4)]
    reading = pages(gateway, "limit=2")

    first = next(reading)
    gateway.submit("later")

    assert [job["id"] for job in [*first, *(job for page in reading for job in page)]] == submitted[::-1]


def test_a_caller_without_jobs_has_an_empty_list(gateway: Gateway) -> None:
    assert gateway.call("GET", "/v1/jobs").json == {"data": [], "next_cursor": None}


def test_a_list_can_be_narrowed_to_a_state_a_service_and_a_lane(gateway: Gateway) -> None:
    plain, batch = gateway.submit("a"), gateway.submit("b", lane="batch")
    cancelled = gateway.submit("c")
    gateway.call("DELETE", f"/v1/jobs/{cancelled}")
    body = {"service": "cache", "input": {"operation": "get", "key": "k"}}
    cached = gateway.call("POST", "/v1/jobs", json=body).json["id"]

    assert ids(gateway, "state=queued") == [cached, batch, plain]
    assert ids(gateway, "state=cancelled") == [cancelled]
    assert ids(gateway, "service=model&limit=1") == [cancelled, batch, plain]
    assert ids(gateway, "service=model&lane=batch&state=queued") == [batch]
    assert ids(gateway, "lane=interactive") == []


def test_a_list_leaves_out_what_a_job_answered(gateway: Gateway) -> None:
    job_id = gateway.submit()

    (listed,) = gateway.call("GET", "/v1/jobs").json["data"]

    whole = gateway.call("GET", f"/v1/jobs/{job_id}").json
    assert set(whole) - set(listed) == {"result", "error", "decision"}


@pytest.mark.parametrize("query", [
    "state=gone", "service=x", "lane=fast", "limit=0", "limit=101", "limit=-1", "limit=x", "limit=%C2%B2", "state=",
    f"ids={NOBODYS}&limit=1", "ids=" + ",".join(str(uuid.UUID(int=number)) for number in range(101))])
def test_a_list_that_cannot_be_is_refused(gateway: Gateway, query: str) -> None:
    answer = gateway.call("GET", f"/v1/jobs?{query}")

    assert (answer.status_code, answer.json["code"]) == (422, "invalid-input")


@pytest.mark.parametrize("cursor", ["x", "0", "1-", "%00", "9" * 400, "%F0%9F%98%80", "..", "NaN", "-1"])
def test_a_cursor_that_was_never_given_harms_nobody(gateway: Gateway, cursor: str) -> None:
    gateway.submit()

    assert gateway.call("GET", f"/v1/jobs?cursor={cursor}").status_code in (200, 422)


def test_jobs_that_are_named_come_whole_and_in_the_order_asked(gateway: Gateway) -> None:
    first, second, third = (gateway.submit(name) for name in "abc")
    strangers = gateway.another("second").submit("of somebody else")

    answer = gateway.call("GET", f"/v1/jobs?ids={third},{strangers},{first},nonsense,,{third},{NOBODYS}&ids={second}").json

    assert [job["id"] for job in answer["data"]] == [third, first, second]
    assert answer["missing"] == [strangers, "nonsense", NOBODYS]
    assert answer["data"][0] == gateway.call("GET", f"/v1/jobs/{third}").json


def test_no_ids_name_no_jobs(gateway: Gateway) -> None:
    assert gateway.call("GET", "/v1/jobs?ids=").json == {"data": [], "missing": []}


def test_a_job_past_retention_is_missing(gateway: Gateway, client: redis.Redis, settings: Settings) -> None:
    job_id = gateway.submit()
    gateway.call("DELETE", f"/v1/jobs/{job_id}")
    now_ms = int(client.time()[0]) * 1000
    assert Ledger(client, settings, now_ms=now_ms + round(settings.retention_s * 1000) + 60_000).purge() == 1

    assert gateway.call("GET", f"/v1/jobs?ids={job_id}").json == {"data": [], "missing": [job_id]}
    assert ids(gateway) == []
