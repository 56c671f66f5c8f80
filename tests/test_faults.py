"""Workers, gateways and Redis killed, frozen and stopped under real jobs; each test ends with the audit.

The stack has short leases, so that a lost worker is noticed in three seconds instead of ten.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest
import requests

from app.job import Lane
from app.ledger import Ledger
from app.registry import Registry
from app.settings import Settings
from app.worker_entry import WorkerEntry
from ops.sandbox import Sandbox, is_gone, kill
from ops.waiting import wait_until
from tests.caller import Caller
from tests.deafened import Deafened
from tests.model_ledger import a_job

LEASE_S = 3.0
SHUTDOWN_S = 2.0
STUCK_S = 4.0


@pytest.fixture(scope="module")
def shaky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox.lay(tmp_path_factory.mktemp("shaky"), lease_s=f"{LEASE_S}", beat_s="0.75", stuck_s=f"{STUCK_S}",
                          shutdown_s=f"{SHUTDOWN_S}", redis_timeout_s="1")
    sandbox.up()
    yield sandbox
    sandbox.down()


@pytest.fixture
def one(shaky: Sandbox) -> Iterator[Caller]:
    """A caller; before and after each test every worker lives, no job is left, and the books balance."""
    all_live(shaky)
    report = shaky.report()
    with Caller(report["entry"], report["api_key"]) as caller:
        yield caller
    all_live(shaky)
    audit = shaky.celery("audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert "live 0" in audit.stdout


def workers(stack: Sandbox) -> dict[str, WorkerEntry]:
    """The workers whose process is there, by name."""
    return {worker.name: worker for worker in Registry(stack.client()).workers() if not is_gone(worker.pid)}


def pids(stack: Sandbox) -> dict[str, int]:
    return {name: worker.pid for name, worker in workers(stack).items()}


def all_live(stack: Sandbox) -> None:
    wait_until(lambda: len(workers(stack)) == 10, timeout_s=30, what="ten live workers", every_s=0.2)


def raw(stack: Sandbox, job_id: str) -> dict[str, str]:
    """The job's record, with what the caller does not see."""
    return {name.decode(): value.decode() for name, value in stack.client().hgetall(f"job:{job_id}").items()}


def a_job_that_runs(caller: Caller, stall: str = "1s", **members: Any) -> dict[str, Any]:
    job = caller.submit(f"[stall {stall}] done", **members)
    return caller.reaches(job["id"], "running")


# -- workers


def test_a_job_whose_worker_is_killed_succeeds_on_another_within_the_lease_and_two_seconds(
        one: Caller, shaky: Sandbox) -> None:
    job = a_job_that_runs(one)
    victim = workers(shaky)[f"model@{job['server']}"]
    kill(victim.pid)
    seconds, micros = shaky.client().time()

    ended = one.ended(job["id"])

    assert (ended["state"], ended["attempt"], ended["result"]["text"]) == ("succeeded", 2, "done")
    record = raw(shaky, job["id"])
    assert record["recorded"] == "1"
    assert workers(shaky)[record["worker"]].pid != victim.pid
    assert int(record["started_ms"]) - (seconds * 1000 + micros // 1000) <= (LEASE_S + 2) * 1000


def test_the_worker_that_was_killed_comes_back_pinned_as_before(one: Caller, shaky: Sandbox) -> None:
    before = workers(shaky)["model@server-1"]
    kill(before.pid)

    after = wait_until(lambda: workers(shaky).get("model@server-1"), timeout_s=30, what="model@server-1 to be back")

    assert after.pid != before.pid
    assert after.cpus == before.cpus == tuple(sorted(os.sched_getaffinity(after.pid)))


def test_a_worker_frozen_past_its_lease_has_its_late_result_refused(one: Caller, shaky: Sandbox) -> None:
    job = a_job_that_runs(one, "500ms")
    victim = workers(shaky)[f"model@{job['server']}"]
    stale = int(shaky.client().hget("counts", "stale") or 0)
    os.kill(victim.pid, signal.SIGSTOP)
    try:
        ended = one.ended(job["id"])
        assert (ended["state"], ended["attempt"]) == ("succeeded", 2)
        assert ended["server"] != job["server"]
    finally:
        os.kill(victim.pid, signal.SIGCONT)

    def refused() -> bool:
        """The late worker either asks to record its result, and is refused, or learns of its loss from a beat before."""
        log = (shaky.folder / "var" / "servers" / victim.server / "model.log").read_text()
        return int(shaky.client().hget("counts", "stale") or 0) > stale or f'"lease_lost","job":"{job["id"]}"' in log

    wait_until(refused, timeout_s=20, what="the late result to be refused")
    assert one.job(job["id"]) == ended
    assert raw(shaky, job["id"])["recorded"] == "1"


def test_a_job_that_kills_every_worker_it_gets_fails_with_the_cause(one: Caller, shaky: Sandbox) -> None:
    job = one.submit("[stall 60s] never")
    for attempt in (1, 2, 3):
        running = wait_until(lambda n=attempt: (found := one.job(job["id"]))["attempt"] == n
                             and found["state"] == "running" and found, timeout_s=30, what=f"attempt {attempt} to run")
        kill(workers(shaky)[f"model@{running['server']}"].pid)

    ended = one.ended(job["id"])
    assert (ended["state"], ended["error"]["code"], ended["error"]["fault"]) == ("failed", "worker-lost", "ours")


def test_a_stopping_worker_lets_a_short_job_end(one: Caller, shaky: Sandbox) -> None:
    job = a_job_that_runs(one, "1s")
    os.kill(workers(shaky)[f"model@{job['server']}"].pid, signal.SIGTERM)

    ended = one.ended(job["id"])
    assert (ended["state"], ended["attempt"], ended["server"]) == ("succeeded", 1, job["server"])


def test_a_stopping_worker_hands_a_long_job_back_and_it_does_not_count_as_an_error(
        one: Caller, shaky: Sandbox) -> None:
    job = a_job_that_runs(one, f"{SHUTDOWN_S + 2}s")
    os.kill(workers(shaky)[f"model@{job['server']}"].pid, signal.SIGTERM)

    ended = one.ended(job["id"])
    assert (ended["state"], ended["attempt"]) == ("succeeded", 2)
    record = raw(shaky, job["id"])
    assert "errors" not in record
    assert "lost" not in record


def test_workers_that_live_but_no_longer_consume_are_restarted_and_the_jobs_run(one: Caller, shaky: Sandbox) -> None:
    deaf = [workers(shaky)[f"model@server-{number}"].pid for number in (1, 2)]
    with Deafened(deaf[0]) as first, Deafened(deaf[1]) as second:
        job = one.submit("heard at last")
        wait_until(lambda: all([first.is_gone(), second.is_gone()]), timeout_s=STUCK_S + 30, what="the deaf workers to go")
    ended = one.ended(job["id"])

    assert ended["state"] == "succeeded"
    assert workers(shaky)[f"model@{ended['server']}"].pid not in deaf


def test_workers_that_an_operator_told_to_take_nothing_are_left_alone(one: Caller, shaky: Sandbox) -> None:
    before = pids(shaky)
    assert shaky.celery("control", "cancel_consumer", "model").returncode == 0
    job = one.submit("waits")
    wait_until(lambda: all(workers(shaky)[f"model@server-{number}"].idle_ms > 3000 * STUCK_S for number in (1, 2)),
               timeout_s=30, what="both model workers to be idle for three times as long as a deaf one may")

    assert one.job(job["id"])["state"] == "queued"
    assert pids(shaky) == before
    assert shaky.celery("control", "add_consumer", "model").returncode == 0
    assert one.ended(job["id"])["state"] == "succeeded"


# -- wake-ups, the gateway


def test_a_job_whose_wakeup_is_lost_runs_all_the_same(one: Caller, shaky: Sandbox) -> None:
    busy = [a_job_that_runs(one) for _ in range(2)]
    job = one.submit("woken twice")
    shaky.client().delete("model")

    assert one.ended(job["id"])["state"] == "succeeded"
    assert all(one.ended(each["id"])["state"] == "succeeded" for each in busy)


def test_a_message_that_is_no_task_is_thrown_away_and_no_worker_dies_of_it(one: Caller, shaky: Sandbox) -> None:
    before = pids(shaky)
    shaky.client().rpush("model", b"{}", json.dumps({"body": "x", "headers": {}, "properties": {}}))

    for _ in range(4):
        assert one.ended(one.submit("hello")["id"])["state"] == "succeeded"
    wait_until(lambda: shaky.client().llen("model") == 0, timeout_s=30, what="the bad messages to be gone")
    assert pids(shaky) == before


def test_a_message_that_is_no_json_ends_a_celery_worker_which_comes_back_and_no_job_is_lost(
        one: Caller, shaky: Sandbox) -> None:
    jobs = [one.submit("[stall 200ms] hello") for _ in range(8)]
    shaky.client().rpush("model", b"not json")

    assert {one.ended(job["id"])["state"] for job in jobs} == {"succeeded"}
    all_live(shaky)


def test_jobs_accepted_by_a_gateway_that_is_killed_are_there_and_a_new_gateway_serves_them(
        one: Caller, shaky: Sandbox) -> None:
    address = shaky.report()["gateways"]["server-1"]
    with Caller(address, shaky.report()["api_key"]) as direct:
        job = direct.submit("[stall 1s] kept")
    masters = [process for process in psutil.Process(shaky.report()["pids"]["server-1"]).children()
               if "gunicorn" in " ".join(process.cmdline())]
    assert len(masters) == 1
    for process in [*masters[0].children(), masters[0]]:
        kill(process.pid)

    def back() -> bool:
        with suppress(requests.ConnectionError, requests.Timeout):
            return requests.get(f"{address}/readyz", timeout=5).status_code == 200
        return False

    wait_until(back, timeout_s=30, what="the gateway of server-1 to be back", every_s=0.2)
    with Caller(address, shaky.report()["api_key"]) as direct:
        assert direct.ended(job["id"])["result"]["text"] == "kept"


# -- Redis


def test_a_hung_redis_is_answered_with_503_in_bounded_time_and_nothing_is_lost(one: Caller, shaky: Sandbox) -> None:
    running = a_job_that_runs(one, "500ms")
    pid = shaky.redis_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = one.call("POST", "/v1/jobs", json={"service": "model", "input": {"prompt": "x"}},
                          headers={"Idempotency-Key": "hung"})
        took_s = time.monotonic() - began
    finally:
        os.kill(pid, signal.SIGCONT)

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert answer.json()["code"] == "store-unavailable"
    assert took_s < 8, "a caller is left hanging"
    again = one.submit("x", headers={"Idempotency-Key": "hung"})
    assert one.ended(again["id"])["state"] == "succeeded"
    assert one.ended(running["id"])["state"] == "succeeded"


def test_a_killed_redis_comes_back_with_every_job_and_the_workers_go_on(one: Caller, shaky: Sandbox) -> None:
    jobs = [one.submit(f"[stall 300ms] {number}") for number in range(12)]
    inputs = {"cache": {"operation": "put", "key": "k", "value": 1}, "chat": {"conversation": "c", "message": "hello"},
              "queue": {"operation": "publish", "topic": "t", "message": 1}}
    jobs += [one.submit(service=service, input=body) for _ in range(20) for service, body in inputs.items()]
    kill(shaky.redis_pid())

    def accepted() -> Any:
        answer = one.call("POST", "/v1/jobs", json={"service": "model", "input": {"prompt": "after"}})
        assert answer.status_code in (202, 503), answer.text
        return answer.json() if answer.status_code == 202 else None

    jobs.append(wait_until(accepted, timeout_s=30, what="a job to be accepted again", every_s=0.2))
    for job in jobs:
        assert one.ended(job["id"])["state"] == "succeeded"
        assert raw(shaky, job["id"])["recorded"] == "1"


# -- versions


def test_a_job_for_a_task_that_no_worker_has_yet_waits_and_holds_up_nobody(one: Caller, shaky: Sandbox) -> None:
    ledger = Ledger(shaky.client(), Settings())
    newer = ledger.submit(a_job(task="model.of-a-newer-version", lane=Lane.INTERACTIVE)).job_id
    try:
        jobs = [one.submit("hello") for _ in range(20)]
        assert {one.ended(job["id"])["state"] for job in jobs} == {"succeeded"}
        assert not ledger.read(newer).state.terminal
    finally:
        ledger.cancel(newer)
