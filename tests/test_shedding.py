"""New jobs are refused while there are too many, before anything is promised or written; nothing else is."""

from dataclasses import replace
from typing import Any

import httpx2
import msgspec
import openai
import pytest
import redis

from app.accounts import Role
from app.api.shedding import BELIEVED_S, KEY, Shedding
from app.errors import ReducedCapacity
from app.inputs import ModelInput
from app.job import Lane
from app.routing_records import Shed
from app.settings import Settings
from tests.clock import Clock
from tests.gateway import Gateway

A_COMPLETION = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def gateway(settings: Settings, client: redis.Redis) -> Gateway:
    return Gateway(replace(settings, engine="scripted"), client)


def shed(client: redis.Redis, *lanes: str, retry_after_s: int = 7) -> None:
    """Say what the routing task would."""
    client.set(KEY, msgspec.json.encode(Shed(lanes=lanes, retry_after_s=retry_after_s, why="a test")))


def heard(gateway: Gateway) -> Gateway:
    """Let the gateway read it, as it does once a second."""
    gateway.app.extensions["tandem"].shedding.refresh()
    return gateway


def jobs(client: redis.Redis) -> set[bytes]:
    return set(client.scan_iter(match="job:*"))


def a_job(lane: str = "standard", **members: Any) -> dict[str, Any]:
    return {"service": "model", "input": {"prompt": "hello"}, "lane": lane, **members}


def is_refused(answer: Any) -> bool:
    if answer.status_code == 503:
        assert answer.json["code"] == "temporary-reduced-capacity"
        assert answer.headers["Retry-After"] == "7"
        return True
    assert answer.status_code in (200, 202), answer.text
    return False


def test_a_refused_lane_gets_503_with_when_to_come_again_and_the_others_are_served(
        gateway: Gateway, client: redis.Redis) -> None:
    shed(client, "batch")
    heard(gateway)

    refused = {lane: is_refused(gateway.call("POST", "/v1/jobs", json=a_job(lane))) for lane in Lane}
    assert refused == {Lane.INTERACTIVE: False, Lane.STANDARD: False, Lane.BATCH: True}


@pytest.mark.parametrize(("method", "path", "body"), [
    ("POST", "/v1/jobs", a_job()),
    ("POST", "/v1/jobs", {"service": "chat", "input": {"conversation": "new", "message": "hello"}}),
    ("POST", "/v1/jobs", {"service": "cache", "input": {"operation": "put", "key": "k", "value": 1}}),
    ("PUT", "/v1/jobs/01890a5d-ac96-774b-bcce-b302099a8057", a_job()),
    ("POST", "/v1/conversations/old/messages", {"content": "hello"}),
    ("POST", "/v1/chat/completions", A_COMPLETION),
    ("POST", "/v1/chat/completions", {**A_COMPLETION, "stream": True, "n": 2}),
])
def test_whatever_route_makes_the_job_nothing_is_written_of_what_is_refused(
        gateway: Gateway, client: redis.Redis, method: str, path: str, body: dict[str, Any]) -> None:
    gateway.call("POST", "/v1/conversations", json={"id": "old"})
    shed(client, *Lane)
    heard(gateway).call("GET", "/v1/limits")  # whoever asks was looked up before
    before = {key: client.dump(key) for key in client.scan_iter()}

    answer = gateway.call(method, path, json=body)

    assert answer.status_code == 503, answer.text
    assert answer.headers["Retry-After"] == "7"
    assert {key: client.dump(key) for key in client.scan_iter()} == before


def test_a_repetition_of_an_accepted_job_is_answered_as_always(gateway: Gateway, client: redis.Redis) -> None:
    keyed = {"json": a_job(), "headers": {"Idempotency-Key": "k"}}
    chosen = "/v1/jobs/01890a5d-ac96-774b-bcce-b302099a8057"
    first = gateway.call("POST", "/v1/jobs", **keyed)
    gateway.call("PUT", chosen, json=a_job())
    shed(client, *Lane)
    heard(gateway)

    again = gateway.call("POST", "/v1/jobs", **keyed)
    assert (again.status_code, again.json["id"]) == (202, first.json["id"])
    assert again.headers["Idempotency-Replayed"] == "true"
    assert gateway.call("PUT", chosen, json=a_job()).status_code == 202
    assert is_refused(gateway.call("POST", "/v1/jobs", json=a_job(), headers={"Idempotency-Key": "another"}))


def test_jobs_can_be_read_and_cancelled_while_new_ones_are_refused(gateway: Gateway, client: redis.Redis) -> None:
    job_id = gateway.submit()
    shed(client, *Lane)
    heard(gateway)

    assert gateway.call("GET", f"/v1/jobs/{job_id}").json["state"] == "queued"
    assert gateway.call("DELETE", f"/v1/jobs/{job_id}").json["state"] == "cancelled"


def test_operators_work_goes_on_but_for_models_and_chats(gateway: Gateway, client: redis.Redis) -> None:
    operator = gateway.another("operator", Role.OPERATOR)
    put = {"service": "cache", "input": {"operation": "put", "key": "k", "value": 1}}
    shed(client, *Lane)
    heard(gateway)

    assert not is_refused(operator.call("POST", "/v1/jobs", json=put))
    assert is_refused(operator.call("POST", "/v1/jobs", json=a_job()))


def test_an_answer_that_is_known_is_served(gateway: Gateway, client: redis.Redis) -> None:
    asked = {"prompt": "known", "temperature": 0}
    answers = gateway.app.extensions["tandem"].answers
    mark = answers.fingerprint(ModelInput(**asked), gateway.account.id)
    answers.keep(gateway.account.id, mark, b'{"text":"an answer"}', b"", "scripted")
    shed(client, *Lane)
    heard(gateway)

    known = gateway.call("POST", "/v1/jobs", json=a_job(input=asked), headers={"Prefer": "wait=1"})
    assert (known.status_code, known.json["result"]) == (200, {"text": "an answer"})
    assert is_refused(gateway.call("POST", "/v1/jobs", json=a_job(input={**asked, "prompt": "unknown"})))


def test_openais_client_reads_the_refusal_as_an_error_to_try_again(gateway: Gateway, client: redis.Redis) -> None:
    shed(client, *Lane, retry_after_s=1)
    heard(gateway)
    calls = []
    http = httpx2.Client(transport=httpx2.WSGITransport(app=gateway.app), event_hooks={"response": [calls.append]})
    speaking = openai.OpenAI(base_url="http://tandem/v1", api_key=gateway.key, max_retries=1, http_client=http)

    with pytest.raises(openai.InternalServerError) as refused:
        speaking.chat.completions.create(model="scripted", messages=[{"role": "user", "content": "hello"}])

    assert refused.value.status_code == 503
    assert refused.value.code == "temporary_reduced_capacity"
    assert [call.headers["Retry-After"] for call in calls] == ["1", "1"]


def test_what_redis_has_not_confirmed_for_long_counts_no_more(client: redis.Redis) -> None:
    clock = Clock()
    shedding = Shedding(client, clock)
    shed(client, "batch")
    shedding.refresh()

    clock.now_s += BELIEVED_S - 1
    with pytest.raises(ReducedCapacity, match="try again in 7 s"):
        shedding.check(Lane.BATCH)
    clock.now_s += 1
    shedding.check(Lane.BATCH)


def test_refusing_ends_when_the_routing_task_says_so_or_nothing_any_more(gateway: Gateway, client: redis.Redis) -> None:
    for end in (lambda: shed(client), lambda: client.delete(KEY), lambda: client.set(KEY, "of a newer Tandem")):
        shed(client, "batch")
        assert is_refused(heard(gateway).call("POST", "/v1/jobs", json=a_job("batch")))
        end()
        assert not is_refused(heard(gateway).call("POST", "/v1/jobs", json=a_job("batch")))


def test_a_gateway_that_has_not_heard_of_it_refuses_nothing(settings: Settings, client: redis.Redis) -> None:
    shed(client, *Lane)
    fresh = Gateway(settings, client)

    assert not is_refused(fresh.call("POST", "/v1/jobs", json=a_job()))
