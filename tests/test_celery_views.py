"""Operators' own tools against the running stack: `celery inspect`, `result`, `control`, events, Flower."""

import json
import pickle
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import kombu
import pytest
import redis
import requests
from celery import Celery

from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller

SERVICES = ("auth", "model", "chat", "cache", "queue")
NODES = {f"{service}@server-{number}" for service in SERVICES for number in (1, 2)}


@pytest.fixture
def app(stack: Sandbox) -> Iterator[Celery]:
    """A Celery application that knows nothing but the broker, as an operator's script might."""
    with Celery("operator", broker=stack.report()["redis"], set_as_current=False) as one:
        one.conf.update(broker_connection_retry_on_startup=True)
        yield one


@contextmanager
def events_of(app: Celery) -> Iterator[list[dict[str, Any]]]:
    """Collect the workers' events."""
    seen: list[dict[str, Any]] = []
    ready, stopping = threading.Event(), threading.Event()

    def collect() -> None:
        with app.connection_for_read() as broker:
            receiver = app.events.Receiver(broker, handlers={"*": seen.append})
            with receiver.consumer_context() as (connection, _, _):
                ready.set()
                while not stopping.is_set():
                    with suppress(TimeoutError):
                        connection.drain_events(timeout=0.2)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        assert ready.wait(10), "the receiver did not start"
        yield seen
    finally:
        stopping.set()
        thread.join()


@pytest.fixture
def stalled(stack: Sandbox, caller: Caller) -> Iterator[list[str]]:
    """Jobs that keep every model slot busy; cancelled at the end."""
    ids = [caller.submit("[stall 60s] never")["id"] for _ in range(int(stack.client().hget("slots", "model")))]
    for job_id in ids:
        caller.reaches(job_id, "running")
    yield ids
    for job_id in ids:
        caller.call("DELETE", f"/v1/jobs/{job_id}")


def test_inspect_sees_all_ten_workers_and_what_runs_on_them(stack: Sandbox, app: Celery, stalled: list[str]) -> None:
    active = app.control.inspect(timeout=5).active()

    assert set(active) == NODES
    running = {request["id"]: (node, request["name"]) for node, requests_ in active.items() for request in requests_}
    assert {running[job_id] for job_id in stalled} == {
        ("model@server-1", "model.generate"), ("model@server-2", "model.generate")}


def test_nothing_is_hoarded_a_worker_reserves_no_more_than_its_slots(
        stack: Sandbox, app: Celery, caller: Caller, stalled: list[str]) -> None:
    waiting = [caller.submit("x")["id"] for _ in range(3 * len(stalled))]
    try:
        reserved = app.control.inspect(timeout=5, destination=["model@server-1", "model@server-2"]).reserved()
        assert reserved == {"model@server-1": [], "model@server-2": []}
        assert [caller.job(job_id)["position"] for job_id in waiting] == list(range(len(waiting)))
        assert stack.client().llen("model") <= 2 * len(stalled), "the window is twice the slots"
    finally:
        for job_id in waiting:
            caller.call("DELETE", f"/v1/jobs/{job_id}")


def test_each_of_many_short_jobs_has_its_events_although_a_thread_runs_them_on_one_wakeup(
        app: Celery, caller: Caller) -> None:
    with events_of(app) as seen:
        ids = [caller.submit("short")["id"] for _ in range(30)]
        for job_id in ids:
            assert caller.ended(job_id)["state"] == "succeeded"

        def types() -> dict[str, set[str]]:
            found: dict[str, set[str]] = {job_id: set() for job_id in ids}
            for event in list(seen):
                if event.get("uuid") in found:
                    found[event["uuid"]].add(event["type"])
            return found

        complete = {"task-received", "task-started", "task-succeeded"}
        wait_until(lambda: all(complete <= kinds for kinds in types().values()), timeout_s=15,
                   what="received, started and succeeded events of every job")
    assert {event["name"] for event in seen if event["type"] == "task-received"} == {"model.generate"}
    assert {event["hostname"] for event in seen if event.get("uuid") in ids} <= {"model@server-1", "model@server-2"}


def test_short_jobs_leave_nothing_behind_in_the_workers_view(app: Celery, caller: Caller) -> None:
    for job_id in [caller.submit("short")["id"] for _ in range(20)]:
        caller.ended(job_id)
    inspect = app.control.inspect(timeout=5)

    wait_until(lambda: not any(inspect.active().values()) and not any(inspect.reserved().values()), timeout_s=10,
               what="the workers to list no job any more")


def queues_of(app: Celery) -> dict[str, set[str]]:
    """The queues that each worker consumes."""
    return {node: {queue["name"] for queue in queues}
            for node, queues in app.control.inspect(timeout=5).active_queues().items()}


def test_workers_that_are_told_to_consume_anothers_queue_refuse_and_swallow_none_of_its_wakeups(
        stack: Sandbox, app: Celery, caller: Caller) -> None:
    def refusals() -> int:
        return sum(log.read_text().count('"event":"queue_refused"') for log in stack.folder.glob("var/servers/*/*.log"))

    told = app.control.add_consumer("model", reply=True, timeout=5)
    assert {node for reply in told for node in reply} == NODES
    wait_until(lambda: refusals() == len(NODES) - 2, timeout_s=10, what="all but the model workers to refuse")
    assert queues_of(app) == {node: {node.partition("@")[0]} for node in NODES}

    jobs = [caller.submit("here")["id"] for _ in range(20)]
    for job_id in jobs:
        job = caller.ended(job_id)
        assert (job["state"], job["attempt"], job["processor"] in ("P2", "P7")) == ("succeeded", 1, True)


def test_a_queue_that_was_given_up_is_taken_up_again_by_the_worker_whose_it_is(app: Celery) -> None:
    for command, queues in ((app.control.cancel_consumer, set[str]()), (app.control.add_consumer, {"model"})):
        command("model", destination=["model@server-1"])
        wait_until(lambda queues=queues: queues_of(app)["model@server-1"] == queues, timeout_s=10,
                   what=f"the worker to consume {queues or 'nothing'}")


def test_celery_result_prints_the_jobs_result(stack: Sandbox, caller: Caller) -> None:
    job = caller.ended(caller.submit("a b")["id"])
    done = stack.celery("result", job["id"])

    assert done.returncode == 0, done.stderr
    assert "'text': 'a b'" in done.stdout


def test_celery_result_of_a_failed_job_says_why(stack: Sandbox, caller: Caller) -> None:
    job = caller.ended(caller.submit("[error permanent]")["id"])
    failed = stack.celery("result", job["id"], "--traceback")

    assert "engine-failed" in failed.stdout + failed.stderr


def test_celery_result_of_an_unknown_job_is_an_error_and_never_pending(stack: Sandbox) -> None:
    asked = stack.celery("result", "01a20f35-ebca-728e-9a64-96c5a9ef9872")

    assert asked.returncode != 0
    assert "there is no job 01a20f35-ebca-728e-9a64-96c5a9ef9872" in asked.stderr
    assert "PENDING" not in asked.stdout


def test_async_result_follows_the_job(stack: Sandbox, caller: Caller, stalled: list[str]) -> None:
    script = ("import sys; from workers.celery import app; from celery.result import AsyncResult; "
              "print(*(AsyncResult(i, app=app).state for i in sys.argv[1:]))")
    waiting = caller.submit("x")["id"]
    ended = caller.submit("y", input={"prompt": "y"})["id"]
    caller.call("DELETE", f"/v1/jobs/{ended}")
    told = stack.run(sys.executable, "-c", script, stalled[0], waiting, ended)
    caller.call("DELETE", f"/v1/jobs/{waiting}")

    assert told.stdout.split() == ["STARTED", "PENDING", "REVOKED"], told.stderr


def test_a_revoked_task_is_a_cancelled_job(stack: Sandbox, app: Celery, caller: Caller, stalled: list[str]) -> None:
    job = caller.submit("never to run")
    app.control.revoke(job["id"])
    wait_until(lambda: all(job["id"] in ids for node, ids in app.control.inspect(timeout=5).revoked().items()
                           if node.startswith("model")), timeout_s=10, what="the model workers to know the revocation")
    for job_id in stalled:
        caller.call("DELETE", f"/v1/jobs/{job_id}")

    assert caller.ended(job["id"])["state"] == "cancelled"


def test_a_terminated_task_is_a_job_cancelled_while_it_runs_and_its_slot_is_free(
        app: Celery, caller: Caller, stack: Sandbox) -> None:
    job = caller.reaches(caller.submit("[stall 250s] x")["id"], "running")
    told = stack.celery("control", "terminate", "TERM", job["id"])
    ended = caller.ended(job["id"], timeout_s=5)

    assert ended["state"] == "cancelled"
    assert told.returncode == 0, told.stderr
    assert "error" not in told.stdout, told.stdout
    wait_until(lambda: job["id"] not in str(app.control.inspect(timeout=5).active()), timeout_s=10,
               what="the worker to be done with it")


def test_a_pickled_message_is_refused_and_the_worker_lives(stack: Sandbox, caller: Caller) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (stack.folder.joinpath("exploded").touch, ())

    with kombu.Connection(stack.report()["redis"]) as connection:
        producer = kombu.Producer(connection, exchange=kombu.Exchange(""), routing_key="model", auto_declare=False)
        producer.publish(pickle.dumps(Bomb()), content_type="application/x-python-serialize", content_encoding="binary",
                         headers={"task": "model.generate", "id": "b" * 36})

    wait_until(lambda: stack.client().llen("model") == 0, timeout_s=10, what="the message to be taken")
    assert caller.ended(caller.submit("alive")["id"])["result"]["text"] == "alive"
    assert not stack.folder.joinpath("exploded").exists()


def test_flower_asks_for_a_login_and_shows_workers_and_jobs(stack: Sandbox, caller: Caller) -> None:
    report = stack.report()
    login = (report["account"]["username"], report["account"]["password"])
    assert requests.get(f"{report['flower']}/api/tasks", timeout=10).status_code == 401
    job = caller.ended(caller.submit("for flower")["id"])

    def task() -> Any:
        found = requests.get(f"{report['flower']}/api/task/info/{job['id']}", auth=login, timeout=20)
        return found.json() if found.status_code == 200 and found.json()["state"] == "SUCCESS" else None

    seen = wait_until(task, timeout_s=30, what="Flower to show the job as succeeded", every_s=0.3)
    assert seen["name"] == "model.generate"
    workers = requests.get(f"{report['flower']}/api/workers?refresh=1", auth=login, timeout=60).json()
    assert set(workers) == NODES


def test_the_queues_lengths_are_what_the_ledger_says(stack: Sandbox, caller: Caller) -> None:
    status = caller.call("GET", "/v1/status").json()
    client: redis.Redis = stack.client()

    assert set(status["queues"]) == set(SERVICES)
    for service, queue in status["queues"].items():
        assert queue["messages"] == client.llen(service)
        assert queue["waiting"] == client.zcard(f"waiting:{service}")
    assert json.dumps(status).count("P10") >= 1
