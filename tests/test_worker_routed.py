"""Workers under the routing task's word, live: what is held is not taken, whatever happens to the connection, and the pool
has the size that was asked for."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from app.registry import Registry
from app.worker_entry import WorkerEntry
from ops.sandbox import Sandbox
from ops.waiting import wait_until
from tests.caller import Caller

NODE = "model@server-1"
FIRST, MOST = 4, 8
EPOCH = 7
LONG_S = 300.0  # longer than any test


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One server, whose model worker has 4 slots and may have 8. In the end the books must balance."""
    sandbox = Sandbox.lay(tmp_path_factory.mktemp("routed"), profile="standard", stuck_s="2", beat_s="0.5", edits={
        "model = { concurrency = 16, most = 32 }": f"model = {{ concurrency = {FIRST}, most = {MOST} }}"})
    sandbox.up()
    yield sandbox
    audit = sandbox.celery("audit")
    sandbox.down()
    assert audit.returncode == 0, audit.stdout + audit.stderr


class Leader:
    """Speaks to the model worker as the routing task does."""

    def __init__(self, app: Celery, stack: Sandbox) -> None:
        self._app = app
        self._stack = stack
        self.control = app.control

    def say(self, *hold: str, slots: int | None = None, for_s: float = LONG_S, **others: Any) -> dict[str, Any]:
        """Say it, and return the worker's reply."""
        return self.ask("route", {"epoch": EPOCH, "hold": hold, "slots": slots, "for_s": for_s, **others})

    def ask(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Send a remote-control command, and return the worker's reply."""
        (reply,) = self.control.broadcast(command, arguments=arguments, destination=[NODE], reply=True, timeout=10, limit=1)
        return dict(reply[NODE])

    def entry(self) -> WorkerEntry:
        """The worker's entry."""
        return next(worker for worker in Registry(self._stack.client()).workers() if worker.name == NODE)

    def reports(self, *, held: tuple[str, ...] = (), slots: int = FIRST) -> WorkerEntry:
        """Wait until the worker says that it is so."""
        return wait_until(lambda: (found := self.entry()).held == held and found.slots == slots and found, timeout_s=20,
                          what=f"the worker to say that it holds {held or 'nothing'} and has {slots} slots")

    def consumed(self) -> list[str]:
        """The queues that the worker consumes, as soon as it says so."""
        def asked() -> dict[str, Any] | None:
            with suppress(redis.exceptions.ConnectionError, OperationalError):  # ours is lost with the worker's
                return self.control.inspect(destination=[NODE], timeout=5, limit=1).active_queues()
            return None

        return [queue["name"] for queue in wait_until(asked, timeout_s=30, what="the worker to answer")[NODE]]


@pytest.fixture
def leader(server: Sandbox) -> Iterator[Leader]:
    """Before and after each test nothing is held, and the pool has its first size."""
    with Celery("leader", broker=server.report()["redis"], set_as_current=False) as app:
        one = Leader(app, server)
        one.reports()
        yield one
        one.control.add_consumer("model", destination=[NODE])
        one.say()
        one.reports()


@pytest.fixture
def caller(server: Sandbox) -> Iterator[Caller]:
    report = server.report()
    with Caller(report["entry"], report["api_key"]) as one:
        yield one


def test_a_held_service_takes_nothing_new_finishes_what_it_has_and_goes_on_when_it_is_released(
        leader: Leader, caller: Caller) -> None:
    running = caller.reaches(caller.submit("[stall 1s] was there")["id"], "running")
    assert leader.say("model") == {"ok": {"held": ["model"], "slots": FIRST}}
    leader.reports(held=("model",))

    waiting = [caller.submit("waits")["id"] for _ in range(3)]
    assert caller.ended(running["id"])["result"]["text"] == "was there"
    other = caller.submit(service="cache", input={"operation": "get", "key": "k"})
    assert caller.ended(other["id"])["state"] == "succeeded"
    assert {caller.job(job_id)["state"] for job_id in waiting} == {"queued"}
    assert leader.consumed() == []

    assert leader.say() == {"ok": {"held": [], "slots": FIRST}}
    assert {caller.ended(job_id)["state"] for job_id in waiting} == {"succeeded"}


def test_threads_that_go_on_by_themselves_stop_at_a_hold(leader: Leader, caller: Caller) -> None:
    jobs = [caller.submit(f"[stall 300ms] {number}")["id"] for number in range(12 * FIRST)]
    caller.ended(jobs[0])
    leader.say("model")
    wait_until(lambda: leader.entry().busy == 0, timeout_s=20, what="the running jobs to end")
    left = [job_id for job_id in jobs if caller.job(job_id)["state"] == "queued"]

    assert left
    leader.say()
    assert {caller.ended(job_id)["state"] for job_id in left} == {"succeeded"}


def test_a_worker_that_hears_no_more_of_the_leader_serves_again_when_the_time_is_over(
        leader: Leader, caller: Caller) -> None:
    leader.say("model", for_s=1.0)
    job = caller.submit("waits for the end of the hold")

    assert caller.ended(job["id"], timeout_s=10)["state"] == "succeeded"
    leader.reports()


def test_a_hold_outlives_the_loss_of_the_broker(leader: Leader, caller: Caller, server: Sandbox) -> None:
    leader.say("model")
    log = server.folder / "var" / "servers" / "server-1" / "model.log"
    losses = log.read_text().count("Connection to broker lost")
    server.client().execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    wait_until(lambda: log.read_text().count("Connection to broker lost") > losses, timeout_s=20,
               what="the worker to lose the broker")
    job = caller.submit("waits")

    assert leader.consumed() == []
    assert caller.job(job["id"])["state"] == "queued"
    assert leader.reports(held=("model",)).busy == 0
    leader.say()
    assert caller.ended(job["id"])["state"] == "succeeded"


def test_a_held_worker_with_jobs_that_wait_is_not_taken_for_deaf(leader: Leader, caller: Caller, server: Sandbox) -> None:
    leader.say("model")
    pid = leader.reports(held=("model",)).pid
    job = caller.submit("waits")
    # the recovery task looks every two seconds, and would restart a deaf worker after another two
    wait_until(lambda: leader.entry().idle_ms > 8000, timeout_s=20, what="the worker to be idle for four times stuck_s")

    assert '"event":"worker_deaf"' not in (server.folder / "var" / "servers" / "server-1" / "queue.log").read_text()
    assert leader.entry().pid == pid
    leader.say()
    assert caller.ended(job["id"])["state"] == "succeeded"


def test_the_routing_task_does_not_free_what_an_operator_cancelled(leader: Leader, caller: Caller) -> None:
    leader.control.cancel_consumer("model", destination=[NODE])
    leader.reports(held=("model",))
    job = caller.submit("waits")

    assert leader.say("model")["ok"]["held"] == ["model"]
    assert leader.say()["ok"]["held"] == ["model"]
    assert leader.consumed() == []
    leader.control.add_consumer("model", destination=[NODE])
    assert caller.ended(job["id"])["state"] == "succeeded"
    leader.reports()


def test_what_an_operator_takes_back_is_served_until_the_next_word(leader: Leader, caller: Caller) -> None:
    leader.say("model")
    job = caller.submit("waits")
    leader.control.add_consumer("model", destination=[NODE])
    assert caller.ended(job["id"])["state"] == "succeeded"

    leader.say("model")
    leader.reports(held=("model",))


def test_a_word_that_cannot_be_heeded_is_refused_and_the_worker_lives(leader: Leader) -> None:
    pid = leader.entry().pid
    leader.say()
    assert "hold must be a list of services" in leader.say("gpu")["error"]
    assert "colour is not an argument" in leader.say(colour="red")["error"]
    assert "another worker leads now" in leader.say("model", epoch=EPOCH - 1)["error"]

    assert leader.reports().pid == pid


def test_a_leader_with_another_topology_is_heeded_as_far_as_the_pool_may_go(leader: Leader) -> None:
    assert leader.say("model", slots=MOST + 1) == {"ok": {"held": ["model"], "slots": MOST}}
    leader.reports(held=("model",), slots=MOST)
    assert leader.say(slots=0) == {"ok": {"held": [], "slots": FIRST}}
    leader.reports(slots=FIRST)


def at_once(caller: Caller, jobs: list[str], number: int) -> None:
    """Wait until so many of these jobs run, and no more."""
    seen: dict[str, str] = {}

    def there() -> bool:
        seen.update({job_id: caller.job(job_id)["state"] for job_id in jobs})
        return list(seen.values()).count("running") == number

    wait_until(there, timeout_s=20, what=f"{number} of {len(jobs)} jobs to run at once")


def test_a_grown_pool_runs_more_jobs_at_once_and_a_shrunk_one_lets_them_end(leader: Leader, caller: Caller) -> None:
    first = [caller.submit("[stall 60s] runs")["id"] for _ in range(MOST + 2)]
    at_once(caller, first, FIRST)
    leader.say(slots=MOST)
    leader.reports(slots=MOST)
    at_once(caller, first, MOST)

    leader.say()
    leader.reports(slots=FIRST)
    at_once(caller, first, MOST)
    for job_id in first[:MOST - 1]:
        caller.call("DELETE", f"/v1/jobs/{job_id}")
    more = [caller.submit("[stall 60s] runs")["id"] for _ in range(FIRST)]
    at_once(caller, [*first, *more], FIRST)
    for job_id in [*first, *more]:
        caller.call("DELETE", f"/v1/jobs/{job_id}")


def test_operators_grow_and_shrink_a_pool_within_what_the_topology_says(leader: Leader, server: Sandbox) -> None:
    grown = server.celery("control", "pool_grow", "3", "-d", NODE)
    assert grown.returncode == 0, grown.stderr
    leader.reports(slots=FIRST + 3)
    assert f"may have {FIRST} to {MOST}" in leader.ask("pool_grow", {"n": 2})["error"]
    leader.ask("pool_shrink", {"n": 3})
    leader.reports()
    assert f"may have {FIRST} to {MOST}" in leader.ask("pool_shrink", {"n": 1})["error"]

    stats = leader.control.inspect(destination=[NODE], timeout=10, limit=1).stats()
    assert stats[NODE]["pool"]["max-concurrency"] == FIRST
