"""`Idempotency-Key`: a submit that is sent again makes no second job."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import requests

from ops.sandbox import Sandbox
from tests.caller import Caller

BODY = {"service": "model", "input": {"prompt": "hello", "max_tokens": 8}, "lane": "interactive", "deadline_s": 60}
TEXT = '{"service":"model","input":{"prompt":"hello","max_tokens":8},"lane":"interactive","deadline_s":60}'


@pytest.fixture
def key() -> str:
    """A key used by no other test."""
    return uuid.uuid4().hex


def submit(caller: Caller, key: str, body: Any = TEXT, **headers: str) -> requests.Response:
    """Submit a body, given as text or as what to write as JSON, under a key."""
    how = {"data": body} if isinstance(body, str) else {"json": body}
    return caller.call("POST", "/v1/jobs", **how, headers={
        "Idempotency-Key": key, "Content-Type": "application/json", **headers})


@pytest.mark.parametrize("body", [
    TEXT,
    '{"deadline_s":60,"lane":"interactive","input":{"max_tokens":8,"prompt":"hello"},"service":"model"}',
    '{ "service": "model",\n  "input": {"prompt": "hel\\u006co", "max_tokens": 8},\n'
    '  "lane": "interactive", "deadline_s": 60.0 }\n'],
    ids=["the same text", "members in another order", "written in another way"])
def test_the_same_request_again_is_answered_with_the_job_there_is(caller: Caller, key: str, body: str) -> None:
    first = submit(caller, key)
    second = submit(caller, key, body)

    assert (first.status_code, second.status_code) == (202, 202)
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.json()["id"] == first.json()["id"]
    assert second.headers["Location"] == first.headers["Location"]
    caller.ended(first.json()["id"])


def test_a_replay_that_prefers_to_wait_is_answered_with_the_result_also_of_a_job_long_ended(
        caller: Caller, key: str) -> None:
    ended = caller.ended(submit(caller, key).json()["id"])

    answer = submit(caller, key, Prefer="wait=30")

    assert (answer.status_code, answer.json()) == (200, ended)
    assert (answer.headers["Idempotency-Replayed"], answer.headers["Preference-Applied"]) == ("true", "wait=30")


def test_a_key_is_the_same_in_quotes_and_without(caller: Caller, key: str) -> None:
    first, second = submit(caller, f'"{key}"'), submit(caller, key)

    assert second.json()["id"] == first.json()["id"]
    caller.ended(first.json()["id"])


@pytest.mark.parametrize("prefer", ["respond-async", "wait=30"])
@pytest.mark.parametrize("change", [
    {"input": {"prompt": "hello", "max_tokens": 9}}, {"input": {"prompt": "hello"}}, {"lane": "batch"}, {"deadline_s": 61},
    {"deadline_s": None}, {"service": "chat", "input": {"conversation": "c", "message": "hello"}}], ids=str)
def test_a_key_that_comes_again_with_another_body_is_refused(
        caller: Caller, key: str, change: dict[str, Any], prefer: str) -> None:
    first = submit(caller, key)

    answer = submit(caller, key, BODY | change, Prefer=prefer)

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-mismatch")
    assert first.json()["id"] in answer.json()["detail"]
    caller.ended(first.json()["id"])


def test_a_key_is_its_callers_own(caller: Caller, stranger: Caller, key: str) -> None:
    mine, theirs = submit(caller, key), submit(stranger, key)

    assert theirs.status_code == 202
    assert "Idempotency-Replayed" not in theirs.headers
    assert mine.json()["id"] != theirs.json()["id"]
    caller.ended(mine.json()["id"])
    stranger.ended(theirs.json()["id"])


@pytest.mark.parametrize("bad", ["", '""', "k" * 256, f'"{"k" * 256}"', "a\tb", "a\xa0b"])
def test_a_key_that_is_empty_too_long_or_unprintable_is_refused(caller: Caller, bad: str) -> None:
    answer = submit(caller, bad)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-request")
    assert answer.json()["detail"] == "an Idempotency-Key is 1 to 255 printable characters"


def test_a_key_of_the_longest_length_is_taken(caller: Caller, key: str) -> None:
    answer = submit(caller, key.ljust(255, "k"))

    assert answer.status_code == 202
    caller.ended(answer.json()["id"])


@pytest.mark.parametrize("value", ["1e999", "-0.0", "9" * 40, "[" * 500 + "]" * 500], ids=lambda text: text[:8])
def test_a_key_goes_with_any_json_that_is_taken_without_one(caller: Caller, key: str, value: str) -> None:
    body = f'{{"service": "cache", "input": {{"operation": "put", "key": "k", "value": {value}}}}}'

    first, second = submit(caller, key, body), submit(caller, key, body)

    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json()["id"] == first.json()["id"]
    caller.ended(first.json()["id"])


def test_twenty_submits_at_once_with_one_key_make_one_job(caller: Caller, stack: Sandbox, key: str) -> None:
    report, client = stack.report(), stack.client()
    before = int(client.hget("counts", "accepted") or 0)
    start = Barrier(20)

    def submit_with_the_others(address: str) -> requests.Response:
        with Caller(address, report["api_key"]) as one:
            start.wait(timeout=30)
            return submit(one, key)

    with ThreadPoolExecutor(20) as crowd:
        answers = list(crowd.map(submit_with_the_others, [*report["gateways"].values()] * 10))

    assert {answer.status_code for answer in answers} == {202}
    (job_id,) = {answer.json()["id"] for answer in answers}
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert int(client.hget("counts", "accepted") or 0) == before + 1
    assert caller.ended(job_id)["state"] == "succeeded"
