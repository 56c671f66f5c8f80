"""Events and webhooks of the whole stack: told on either gateway, delivered by the workers of either server."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import requests

from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller
from tests.reader import Told, parse
from tests.receiver import BlackHole, Receiver

LAST = {"succeeded", "failed", "cancelled", "expired"}


@pytest.fixture(scope="module")
def gateways(stack: Sandbox) -> Iterator[list[Caller]]:
    """The same caller, of a fresh account, at each server's own gateway."""
    with ExitStack() as callers:
        fresh = callers.enter_context(Caller.fresh(stack))
        both = [callers.enter_context(Caller(address)) for address in stack.report()["gateways"].values()]
        for each in both:
            each._session.headers.update(fresh._session.headers)
        yield both


def follow(caller: Caller, after: str | None = None) -> requests.Response:
    answer = caller.call("GET", "/v1/events", headers={"Last-Event-ID": after} if after else {}, stream=True)
    assert answer.status_code == 200, answer.text
    return answer


def read(answer: requests.Response, ends: int) -> list[Told]:
    """Read on until so many jobs have ended, and hang up."""
    body, events = b"", []
    with answer:
        for chunk in answer.raw.stream(65536):
            body += chunk
            events = parse(body.rpartition(b"\n\n")[0].decode())
            if sum(event.name in LAST for event in events) >= ends:
                return events
    raise AssertionError(f"the stream ended after {events}")


def test_a_jobs_story_is_told_on_each_gateway_and_resumed_on_the_other(gateways: list[Caller]) -> None:
    here, there = gateways
    streams = [follow(each) for each in gateways]
    job = here.submit("hello")
    heard = [read(each, 1) for each in streams]

    assert heard[0] == heard[1]
    assert [event.name for event in heard[0]] == ["queued", "started", "succeeded"]
    assert {event.data["job"] for event in heard[0]} == {job["id"]}
    for had in (0, 1):
        assert read(follow(there, heard[0][had].id), 1) == heard[0][had + 1:]


def test_a_chat_is_one_job_in_its_tenants_stream(gateways: list[Caller]) -> None:
    stream = follow(gateways[0])
    job = gateways[1].submit(service="chat", input={"conversation": "c", "message": "hello"})

    events = read(stream, 1)
    assert {event.data["job"] for event in events} == {job["id"]}
    assert {event.data["service"] for event in events} == {"chat"}
    assert events[-1].name == "succeeded"


def test_many_readers_share_the_gateways_connections_to_redis(stack: Sandbox, gateways: list[Caller]) -> None:
    before = len(stack.client().client_list())
    with ExitStack() as streams:
        answers = [streams.enter_context(follow(gateways[0])) for _ in range(60)]
        assert all(answer.raw.read(20).startswith(b"retry: 1000") for answer in answers)
        assert len(stack.client().client_list()) - before <= 5


def test_the_end_of_a_job_reaches_its_webhook_signed_whatever_hangs_beside_it(gateways: list[Caller]) -> None:
    here, there = gateways
    secret = here.call("GET", "/v1/webhooks/secret").json()["secret"]
    assert there.call("GET", "/v1/webhooks/secret").json()["secret"] == secret
    with BlackHole() as hole, Receiver() as receiver:
        for _ in range(5):
            here.ended(here.submit("never told", webhook_url=hole.url())["id"])
        jobs = [there.submit(prompt, webhook_url=receiver.url())["id"] for prompt in ("hello", "[error permanent]")]
        payloads = {each.id: each.verified(secret) for each in receiver.gets(2)}

    assert {payloads[f"msg_{job}"]["type"] for job in jobs} == {"job.succeeded", "job.failed"}
    for job in jobs:
        assert payloads[f"msg_{job}"]["data"] == here.job(job)


def test_a_webhook_that_is_gone_is_put_aside_and_delivered_once_it_is_replayed(gateways: list[Caller]) -> None:
    here, there = gateways
    with Receiver(lambda count: (410 if count == 1 else 200, {})) as receiver:
        job = here.submit("hello", webhook_url=receiver.url())
        (dead,) = wait_until(lambda: there.call("GET", "/v1/webhooks/dead").json()["data"], timeout_s=20,
                             what="the webhook to be put aside")
        assert (dead["job"], dead["error"], dead["attempts"]) == (job["id"], "answered 410", 1)
        assert here.call("POST", f"/v1/webhooks/dead/{dead['id']}/replay").status_code == 202
        assert [each.id for each in receiver.gets(2)] == [dead["id"]] * 2
