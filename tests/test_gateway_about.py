"""The gateway about itself: health, readiness, what operators are told, and the ids that tie a request to its traces."""

import os
import re
from collections.abc import Iterator

import pytest

from app.job import Service
from ops.pins import cpus_of
from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

PINS = {
    "auth@server-1": ["P1"], "model@server-1": ["P2"], "chat@server-1": ["P3"], "cache@server-1": ["P4"],
    "queue@server-1": ["P5"], "auth@server-2": ["P6"], "model@server-2": ["P7"], "chat@server-2": ["P8"],
    "cache@server-2": ["P9"], "queue@server-2": ["P10"]}


@pytest.fixture
def nobody(stack: Sandbox) -> Iterator[Caller]:
    """A caller without credentials."""
    with Caller(stack.report()["entry"]) as one:
        yield one


# -- health


@pytest.mark.parametrize(("path", "status"), [("/healthz", "alive"), ("/readyz", "ready")])
def test_health_and_readiness_are_told_to_anyone_by_every_gateway(stack: Sandbox, path: str, status: str) -> None:
    report = stack.report()
    for address in (report["entry"], *report["gateways"].values()):
        with Caller(address) as nobody:
            answer = nobody.call("GET", path)
            assert (answer.status_code, answer.json()) == (200, {"status": status})
            head = nobody.call("HEAD", path)
            assert (head.status_code, head.text, head.headers["Content-Length"]) == (
                200, "", answer.headers["Content-Length"])


# -- status


def test_all_ten_workers_live_in_processes_of_their_own_on_the_processors_of_the_topology(caller: Caller) -> None:
    servers = caller.call("GET", "/v1/status").json()["servers"]

    workers = {worker["name"]: worker for server in servers for worker in server["workers"]}
    assert {name: worker["processors"] for name, worker in workers.items()} == PINS
    assert len({worker["live"]["pid"] for worker in workers.values()}) == 10
    assert all(worker["live"]["slots"] == worker["concurrency"] for worker in workers.values())


def test_the_pins_that_the_status_shows_are_those_the_kernel_has(caller: Caller) -> None:
    servers = caller.call("GET", "/v1/status").json()["servers"]

    for worker in (worker for server in servers for worker in server["workers"]):
        kernel = sorted(os.sched_getaffinity(worker["live"]["pid"]))
        assert worker["live"]["cpus"] == kernel
        assert kernel == list(cpus_of([int(label[1:]) for label in worker["processors"]]))


def test_the_status_names_the_gateways_and_which_of_them_answers(stack: Sandbox) -> None:
    report = stack.report()
    for name, address in report["gateways"].items():
        with Caller(address, report["api_key"]) as caller:
            status = caller.call("GET", "/v1/status").json()
        assert (status["gateway"], status["profile"]) == (name, "parallel")
        assert {server["name"]: f"http://{server['gateway']}" for server in status["servers"]} == report["gateways"]


def test_the_status_shows_queues_and_books_that_balance(caller: Caller) -> None:
    job = caller.submit("[stall 300s]")
    try:
        caller.reaches(job["id"], "running")
        status = caller.call("GET", "/v1/status").json()
        busy = wait_until(lambda: sum(busy_slots(caller)), timeout_s=20, what="a worker to say that it is busy")
    finally:
        caller.call("DELETE", f"/v1/jobs/{job['id']}")

    assert set(status["queues"]) == {service.value for service in Service}
    for queue in status["queues"].values():
        assert set(queue) == {"waiting", "woken", "backlog", "running", "in_cloud", "sent", "held", "messages", "oldest_s"}
    assert status["running"] >= status["queues"]["model"]["running"] >= 1
    assert status["balanced"] is True
    assert status["counts"]["accepted"] > status["counts"]["succeeded"] > 0
    assert busy >= 1


def busy_slots(caller: Caller) -> list[int]:
    servers = caller.call("GET", "/v1/status").json()["servers"]
    return [worker["live"]["busy"] for server in servers for worker in server["workers"] if worker["services"] == ["model"]]


# -- request ids


@pytest.mark.parametrize("given", ["a", "my-request_1.2", "A" * 128, "0198-abc"])
def test_a_sane_request_id_comes_back(caller: Caller, nobody: Caller, given: str) -> None:
    for who, path in ((nobody, "/healthz"), (nobody, "/v1/status"), (caller, "/v1/jobs/1"), (nobody, "/nowhere")):
        answer = who.call("GET", path, headers={"X-Request-Id": given})
        assert answer.headers["X-Request-Id"] == given
        assert answer.json().get("request_id", given) == given


@pytest.mark.parametrize("given", ["", "a b", "A" * 129, "a\tb", 'a"b', "<script>", "\xfc", "a,b"])
def test_a_request_id_that_is_not_sane_is_replaced(nobody: Caller, given: str) -> None:
    answer = nobody.call("GET", "/v1/status", headers={"X-Request-Id": given})

    assert re.fullmatch("[0-9a-f]{16}", answer.headers["X-Request-Id"])
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]


def test_every_request_without_an_id_gets_one_of_its_own(nobody: Caller) -> None:
    ids = [nobody.call("GET", "/healthz").headers["X-Request-Id"] for _ in range(20)]

    assert len(set(ids)) == 20


# -- traces


def test_a_traceparent_is_kept_with_the_job_and_with_the_models_part_of_a_chat(caller: Caller, stack: Sandbox) -> None:
    chat = caller.call("POST", "/v1/jobs", headers={"traceparent": TRACE, "Prefer": "wait=30"}, json={
        "service": "chat", "input": {"conversation": "traced", "message": "hello"}}).json()

    for job_id in (chat["id"], chat["result"]["model_job"]):
        assert stack.client().hget(f"job:{job_id}", "trace") == TRACE.encode()


@pytest.mark.parametrize("given", [
    "", "x", TRACE.upper(), TRACE[:-1], TRACE + "0", TRACE.replace("-", "_"), "ff" + TRACE[2:],
    f"00-{'0' * 32}-b7ad6b7169203331-01", f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01"])
def test_a_traceparent_that_is_none_is_dropped(caller: Caller, stack: Sandbox, given: str) -> None:
    job = caller.submit("hello", headers={"traceparent": given, "Prefer": "wait=30"})

    assert stack.client().hget(f"job:{job['id']}", "trace") is None
