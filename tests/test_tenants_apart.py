"""Tenants are kept apart: over every route that the OpenAPI document has, another tenant's ids name nothing.

A path parameter that this test does not know fails it: say in MAKERS how a tenant comes by such an id, or in NOBODYS that
it names nothing of a tenant's.
"""

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from app.api import openapi
from app.settings import Settings
from app.webhook_deliveries import Deliveries, NewDelivery, Verdict
from tests.gateway import Gateway

NOBODYS = {"name", "model", "report_id"}  # files of pages, the models that are served, and what only operators see

Operation = tuple[str, str]


def a_job(first: Gateway, _: redis.Redis) -> str:
    return first.submit("a secret of the first tenant")


def a_conversation(first: Gateway, _: redis.Redis) -> str:
    answer = first.call("POST", "/v1/conversations", json={})
    assert answer.status_code == 201, answer.text
    return str(answer.json["id"])


def a_dead_delivery(first: Gateway, client: redis.Redis) -> str:
    new = NewDelivery(id=f"msg_{uuid.uuid4().hex}", tenant=first.account.id, job=str(uuid.uuid4()),
                      url="https://example.org/hook", type="job.failed", body=b"{}")
    deliveries = Deliveries(client)
    deliveries.record(new, entry="0-1")
    (claimed,) = deliveries.claim(new.receiver, 1, lease_s=60, owner="a test")
    assert deliveries.settle(claimed, Verdict.DEAD, error="nobody listens")
    return new.id


MAKERS: dict[str, Callable[[Gateway, redis.Redis], str]] = {
    "job_id": a_job, "conversation_id": a_conversation, "delivery_id": a_dead_delivery}

#: A good body for each that a route with an id takes: it must be the id that is refused.
BODIES: dict[str, dict[str, Any]] = {
    "JobRequest": {"service": "model", "input": {"prompt": "hello"}},
    "ConversationChange": {"title": "another"}, "NewMessage": {"content": "hello"}, "Regeneration": {},
}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in openapi.document()["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def parameters(path: str) -> list[str]:
    return re.findall(r"{(\w+)}", path)


WITH_IDS = [(method, path) for method, path, _ in operations() if set(parameters(path)) - NOBODYS]
READING = [path for method, path, operation in operations()
           if method == "get" and not parameters(path) and operation.get("security") != []
           and "application/json" in operation["responses"]["200"].get("content", {})]


@pytest.fixture
def first(settings: Settings, client: redis.Redis) -> Gateway:
    return Gateway(settings, client)


@pytest.fixture
def second(first: Gateway) -> Gateway:
    one = first.another("second")
    one.submit("of the second")
    return one


def body_of(method: str, path: str) -> dict[str, Any]:
    """What a call is sent with: `json` where the route takes a body."""
    operation = openapi.document()["paths"][path][method]
    if "requestBody" not in operation:
        return {}
    name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert name in BODIES, f"say in BODIES what a good {name} is, for {method.upper()} {path}"
    return {"json": BODIES[name]}


def filled(path: str, first: Gateway, client: redis.Redis) -> str:
    """The path with ids of the first tenant, made for it."""
    for name in parameters(path):
        assert name in MAKERS, f"say in MAKERS how a tenant comes by a {name}, for {path}"
        path = path.replace(f"{{{name}}}", MAKERS[name](first, client))
    return path


def everything(client: redis.Redis) -> dict[bytes, Any]:
    """All that lies in Redis, but for when a key was used last, and how much of its limits a tenant used."""
    return {key: client.dump(key) for key in client.scan_iter() if not key.startswith((b"apikey:", b"rate:"))}


def test_every_kind_of_id_is_known_to_this_test() -> None:
    assert {name for _, path, _ in operations() for name in parameters(path)} <= set(MAKERS) | NOBODYS
    assert len(WITH_IDS) >= 7
    assert "/v1/jobs" in READING


@pytest.mark.parametrize(("method", "path"), WITH_IDS, ids=[f"{method} {path}" for method, path in WITH_IDS])
def test_another_tenants_id_names_nothing_and_nothing_changes(
        first: Gateway, second: Gateway, client: redis.Redis, method: str, path: str) -> None:
    concrete, body = filled(path, first, client), body_of(method, path)
    before = everything(client)

    refused = second.call(method.upper(), concrete, **body)

    told = (refused.status_code, refused.headers["Content-Type"])
    if told[0] != 404:
        refused.close()  # it may be a stream, which is not read
    assert told == (404, "application/problem+json")
    assert "secret of the first" not in refused.text
    assert everything(client) == before
    own = first.call(method.upper(), concrete, **body)
    own.close()  # a stream is not read
    assert own.status_code not in (404, 405, 422), f"the id was a good one: {own.status_code}"


@pytest.mark.parametrize("path", READING)
def test_no_list_shows_another_tenants(first: Gateway, second: Gateway, client: redis.Redis, path: str) -> None:
    known = {name for _, each, _ in operations() for name in parameters(each)} - NOBODYS
    ids = [MAKERS[name](first, client) for name in sorted(known)]

    answer = second.call("GET", path)

    assert answer.status_code in (200, 403), answer.text
    assert not [one for one in [*ids, first.account.id, "secret of the first"] if one in answer.text]


def test_ids_in_a_query_name_nothing_of_another_tenants(first: Gateway, second: Gateway, client: redis.Redis) -> None:
    job_id = a_job(first, client)
    cursor = first.call("GET", "/v1/jobs?limit=1").json["next_cursor"] or ""

    assert second.call("GET", f"/v1/jobs?ids={job_id}").json == {"data": [], "missing": [job_id]}
    assert job_id not in second.call("GET", f"/v1/jobs?cursor={cursor}").text
