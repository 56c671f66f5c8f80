"""A job followed over HTTP: as it happens, from any event on, by its owner."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller
from tests.reader import Reader, Told, follow, parse, read, text_of

SCRIPT = "[stall 100ms] [think] let me [stall 60ms] see [answer] it is [stall 60ms] \N{BALLOON} or [stall 60ms] so"
REASONING, TEXT = "let me see", "it is \N{BALLOON} or so"
UNKNOWN = "01990000-0000-7000-8000-000000000000"


@pytest.fixture
def gateways(stack: Sandbox) -> Iterator[list[Caller]]:
    """A caller at each server's own gateway, who is the operator."""
    report = stack.report()
    with ExitStack() as callers:
        yield [callers.enter_context(Caller(address, report["api_key"])) for address in report["gateways"].values()]


@pytest.fixture(scope="module")
def story(stack: Sandbox) -> tuple[str, list[Told]]:
    """A job that has ended, and all its events as they were read while it ran."""
    report = stack.report()
    with Caller(report["entry"], report["api_key"]) as caller:
        job_id = caller.submit(SCRIPT)["id"]
        return job_id, read(caller, job_id)


def rest_of(story: list[Told], had: int) -> tuple[str, str, str]:
    """What a reader who had so many events still lacks: reasoning, text, and the last event."""
    return text_of(story[had:], "reasoning_content"), text_of(story[had:]), story[-1].id


# -- as it happens


def test_a_job_is_told_from_its_queue_to_its_end_a_piece_at_a_time(story: tuple[str, list[Told]], caller: Caller) -> None:
    job_id, events = story

    assert [event.name for event in events][:2] == ["queued", "started"]
    assert {event.name for event in events[2:-1]} == {"token"}
    assert len(events) >= 6, "it came in one piece"
    assert [events[0].id, events[1].id] == ["0-1", "1-0"]
    assert set(events[0].data) == {"position", "eta_s"}
    assert events[1].data == {"attempt": 1}
    assert all(event.data["attempt"] == 1 for event in events[2:-1])
    assert (events[-1].name, events[-1].data) == ("succeeded", caller.job(job_id))
    assert events[-1].id == f"1-{len(REASONING + TEXT) + 1}"


def test_the_text_of_all_tokens_is_the_results(story: tuple[str, list[Told]]) -> None:
    _, events = story

    result = events[-1].data["result"]
    assert (text_of(events, "reasoning_content"), text_of(events)) == (REASONING, TEXT)
    assert (result["reasoning_content"], result["text"]) == (REASONING, TEXT)


def test_what_is_said_is_read_before_the_job_has_ended(stack: Sandbox, caller: Caller) -> None:
    job = caller.submit("now [stall 300s] then")
    report = stack.report()
    reader = Reader(report["entry"], report["api_key"], job["id"])
    try:
        reader.reaches("now")
        assert caller.job(job["id"])["state"] == "running"
    finally:
        caller.call("DELETE", f"/v1/jobs/{job['id']}")
    assert [(event.name, event.data["state"]) for event in reader.ends()[-1:]] == [("cancelled", "cancelled")]
    assert reader.events[-1].id == "1-4"


def test_a_stream_is_never_stored_nor_gathered_on_its_way(caller: Caller) -> None:
    answer = follow(caller, caller.submit("hello")["id"])

    assert answer.headers["Content-Type"].partition(";")[0] == "text/event-stream"
    assert (answer.headers["Cache-Control"], answer.headers["X-Accel-Buffering"]) == ("no-store", "no")
    assert answer.headers["X-Request-Id"]
    assert answer.text.startswith("retry: 1000\n\n")


def test_many_slow_jobs_are_told_side_by_side_each_to_its_reader(stack: Sandbox, gateways: list[Caller]) -> None:
    def run(number: int) -> tuple[str, str, int]:
        report = stack.report()
        words = " ".join(f"[stall 200ms] {number}-{word}" for word in range(4))
        with Caller([*report["gateways"].values()][number % 2], report["api_key"]) as one:
            events = read(one, one.submit(words)["id"])
        return text_of(events), events[-1].data["result"]["text"], len(events)

    with ThreadPoolExecutor(12) as crowd:
        answers = list(crowd.map(run, range(12)))
    assert [read for read, _, _ in answers] == [" ".join(f"{n}-{word}" for word in range(4)) for n in range(12)]
    assert all(read == result for read, result, _ in answers)
    assert all(count >= 6 for _, _, count in answers)


@pytest.mark.parametrize(("body", "last"), [
    ({"service": "model", "input": {"prompt": "[error permanent]"}}, ("failed", "1-1")),
    ({"service": "model", "input": {"prompt": "x"}, "deadline_s": 1e-9}, ("expired", "0-2")),
    ({"service": "cache", "input": {"operation": "put", "key": "k", "value": "text"}}, ("succeeded", "1-1")),
    ({"service": "cache", "input": {"operation": "get", "key": "missing"}}, ("succeeded", "1-1"))])
def test_a_job_that_says_nothing_is_told_by_its_start_and_its_end(
        caller: Caller, body: dict[str, Any], last: tuple[str, str]) -> None:
    job_id = caller.call("POST", "/v1/jobs", json=body).json()["id"]
    events = read(caller, job_id)

    assert (events[-1].name, events[-1].id) == last
    assert [event.name for event in events[:-1]] == ["queued", "started"][:len(events) - 1]
    assert events[-1].data == caller.job(job_id)


def test_a_result_that_was_stored_over_several_lines_is_read_as_it_is(caller: Caller) -> None:
    body = b'{"service":"cache","input":{"operation":"put","key":"lines","value":[\r\n1,\n\n2\r]}}'
    stored = caller.call("POST", "/v1/jobs", data=body, headers={"Content-Type": "application/json"})
    caller.ended(stored.json()["id"])
    job = caller.submit(service="cache", input={"operation": "get", "key": "lines"})

    assert read(caller, job["id"])[-1].data["result"]["value"] == [1, 2]


def test_a_chat_is_told_by_what_the_model_says_for_it(caller: Caller) -> None:
    job = caller.submit(service="chat", input={"conversation": "events", "message": SCRIPT})
    events = read(caller, job["id"])

    assert [event.name for event in events][:2] == ["queued", "started"]
    assert (text_of(events, "reasoning_content"), text_of(events)) == (REASONING, TEXT)
    assert len(events) >= 6
    assert (events[-1].name, events[-1].data) == ("succeeded", caller.job(job["id"]))
    assert follow(caller, job["id"], events[-1].id).status_code == 204
    assert text_of(read(caller, job["id"], events[-2].id)) == ""


# -- going on


def test_whoever_goes_on_from_any_event_gets_exactly_the_rest_at_either_gateway(
        story: tuple[str, list[Told]], gateways: list[Caller]) -> None:
    job_id, events = story

    for had in range(1, len(events)):
        for gateway in gateways:
            rest = read(gateway, job_id, events[had - 1].id)
            assert rest_of(rest, 0) == rest_of(events, had), f"after {events[had - 1]}"
            assert not {event.id for event in rest} & {event.id for event in events[:had]}


def test_whoever_goes_on_within_a_piece_gets_the_rest_of_it(story: tuple[str, list[Told]], caller: Caller) -> None:
    job_id, _ = story
    whole = REASONING + TEXT

    for place in range(len(whole) + 1):
        rest = read(caller, job_id, f"1-{place}")
        assert text_of(rest, "reasoning_content") + text_of(rest) == whole[place:]


def test_a_job_is_told_from_its_result_when_its_pieces_are_no_longer_kept(stack: Sandbox, gateways: list[Caller]) -> None:
    job_id = gateways[0].submit(SCRIPT)["id"]
    events = read(gateways[0], job_id)
    assert stack.client().delete(f"said:{job_id}") == 1

    for had in range(len(events)):
        rest = read(gateways[1], job_id, events[had - 1].id if had else None)
        assert rest_of(rest, 0) == rest_of(events, had)
    assert follow(gateways[1], job_id, events[-1].id).status_code == 204


def test_the_end_of_a_job_without_a_result_keeps_its_id_when_its_pieces_are_gone(
        stack: Sandbox, caller: Caller) -> None:
    job_id = caller.submit("half of it [stall 200ms] [error permanent]")["id"]
    last = read(caller, job_id)[-1]
    assert (last.name, last.id) == ("failed", f"1-{len('half of it') + 1}")
    stack.client().delete(f"said:{job_id}")

    assert read(caller, job_id)[-1].id == last.id
    assert follow(caller, job_id, last.id).status_code == 204


def test_a_reader_may_say_where_he_was_in_the_query(story: tuple[str, list[Told]], caller: Caller) -> None:
    job_id, events = story
    answer = caller.call("GET", f"/v1/jobs/{job_id}/events?starting_after={events[-2].id}")

    assert parse(answer.text) == events[-1:]


def test_whoever_has_read_the_last_event_is_told_not_to_come_back(story: tuple[str, list[Told]], caller: Caller) -> None:
    job_id, events = story
    answer = follow(caller, job_id, events[-1].id)

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("after", ["1-999", "9-0"])
def test_whoever_has_read_more_than_there_is_starts_over(
        story: tuple[str, list[Told]], caller: Caller, after: str) -> None:
    job_id, events = story
    again = read(caller, job_id, after)

    assert (again[0].name, again[0].id) == ("restarted", "1-0")
    assert rest_of(again, 0) == rest_of(events, 0)


# -- refused


@pytest.mark.parametrize("after", ["x", "1", "1-", "-1-2", "1-2-3", "1.5-2"])
def test_what_is_no_id_of_an_event_is_refused(
        story: tuple[str, list[Told]], caller: Caller, after: str) -> None:
    answer = follow(caller, story[0], after)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-request")
    assert "start over" in answer.json()["detail"]


def test_a_job_is_told_to_its_owner_only(story: tuple[str, list[Told]], caller: Caller, stranger: Caller) -> None:
    with Caller(caller.address) as nobody:
        answers = [follow(stranger, story[0]), follow(caller, UNKNOWN), follow(caller, "no-id"), follow(nobody, story[0])]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (404, "job-unknown"), (404, "job-unknown"), (404, "job-unknown"), (401, "unauthenticated")]


def test_the_headers_alone_can_be_asked_for(caller: Caller) -> None:
    job = caller.submit("[stall 300s]")
    try:
        answer = caller.call("HEAD", f"/v1/jobs/{job['id']}/events")
    finally:
        caller.call("DELETE", f"/v1/jobs/{job['id']}")

    assert (answer.status_code, answer.content) == (200, b"")


# -- what it costs


def test_readers_share_the_gateways_connections_to_redis(stack: Sandbox, caller: Caller) -> None:
    report, job = stack.report(), caller.submit("[stall 1s] hello [stall 300s] there")
    address = report["gateways"]["server-1"]
    before = len(stack.client().client_list())
    readers = [Reader(address, report["api_key"], job["id"]) for _ in range(100)]
    try:
        for reader in readers:
            reader.reaches("hello")
        during = len(stack.client().client_list())
    finally:
        caller.call("DELETE", f"/v1/jobs/{job['id']}")
    for reader in readers:
        assert reader.ends()[-1].name == "cancelled"

    assert during - before <= 5
    wait_until(lambda: stack.client().pubsub_numsub("said")[0][1] == 0, timeout_s=10, what="the gateways to stop hearing")
