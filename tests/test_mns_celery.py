"""Celery with `mns://` as its only broker, real workers of both pools: long jobs, jobs with a time, faults on receiving,
and an orderly end.
"""

import time
from collections.abc import Iterator

import pytest

from ops.mns_server import Fault, LocalMns
from ops.waiting import wait_until
from tests.mns_celery import KEY, POOLS, Place, Worker, ending

_VISIBILITY_S = 3
_LONG_S = 3 * _VISIBILITY_S + 1.0
_OPTIONS = {"visibility_timeout": _VISIBILITY_S, "wait_time_seconds": 5}


@pytest.fixture(scope="module")
def mns() -> Iterator[LocalMns]:
    """A local server."""
    with LocalMns.running(keys=[(KEY["access_key_id"], KEY["access_key_secret"])]) as one:
        yield one


def _place(mns: LocalMns, folders: pytest.TempPathFactory, queue: str, **options: float) -> Place:
    place = Place(url=mns.url, queue=queue, folder=folders.mktemp(queue), options=_OPTIONS | options)
    place.lay()
    return place


@pytest.fixture(scope="module")
def staffed(mns: LocalMns, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Place, Worker]]]:
    """A queue with a worker of three slots, for each pool."""
    places = {pool: _place(mns, tmp_path_factory, f"{pool}-jobs") for pool in POOLS}
    with ending([place.worker("steady", pool=pool, slots=3) for pool, place in places.items()]) as workers:
        yield {pool: (place, worker.wait_ready()) for (pool, place), worker in zip(places.items(), workers, strict=True)}


@pytest.fixture(scope="module", autouse=True)
def long_jobs(staffed: dict[str, tuple[Place, Worker]]) -> dict[str, str]:
    """A job of more than three visibility periods in each queue, sent before all else, so that it runs meanwhile."""
    return {pool: _send(place, seconds=_LONG_S) for pool, (place, _) in staffed.items()}


def _send(place: Place, *, seconds: float = 0.0, countdown_s: float | None = None) -> str:
    with place.sender() as app:
        return str(app.send_task("job", kwargs={"seconds": seconds}, countdown=countdown_s).id)


def _wait_settled(place: Place, *jobs: str, timeout_s: float = 30.0) -> None:
    wait_until(lambda: all(place.ledger.settled(job) for job in jobs), timeout_s=timeout_s, what=f"{jobs} to be settled")


@pytest.mark.parametrize("pool", POOLS)
def test_a_job_with_a_time_waits_on_the_server_and_runs_at_its_time(
        mns: LocalMns, staffed: dict[str, tuple[Place, Worker]], long_jobs: dict[str, str], pool: str) -> None:
    place, _ = staffed[pool]
    due_s = time.time() + 3
    job = _send(place, countdown_s=3)
    held_early: list[int] = []

    def settled() -> bool:
        now_s, audit = time.time(), mns.audit(place.queue)
        if now_s < due_s - 1:  # delays are whole seconds
            assert audit["delayed"] == 1
            held_early.append(audit["inactive"])
        return place.ledger.settled(job)

    wait_until(settled, timeout_s=23, what="the job to run")
    [run] = place.ledger.runs(job)
    assert -0.05 < run.began_s - due_s < 3, run.began_s - due_s
    assert max(held_early) <= 1  # the long job


@pytest.mark.parametrize("fault", [
    {"kind": "status", "status": 500, "code": "InternalError"},
    {"kind": "status", "status": 429, "code": "TooManyRequests"},
    {"kind": "html502"}, {"kind": "drop_before"}, {"kind": "drop_after"}], ids=["500", "429", "html", "drop", "drop-after"])
def test_a_failed_receive_kills_no_worker(mns: LocalMns, staffed: dict[str, tuple[Place, Worker]],
                                          fault: dict[str, object]) -> None:
    for place, _ in staffed.values():
        mns.faults.add(Fault(operation="ReceiveMessage", queue=place.queue, times=1, **fault))
    try:
        wait_until(lambda: all(rule["hits"] for rule in mns.faults.report()), timeout_s=20, what="receives to fail")
    finally:
        mns.faults.clear()
    for place, worker in staffed.values():
        _wait_settled(place, _send(place))
        assert worker.ready()
        assert b"Unrecoverable" not in worker.log.read_bytes()


@pytest.mark.parametrize("pool", POOLS)
def test_a_job_longer_than_three_visibility_periods_runs_once(
        mns: LocalMns, staffed: dict[str, tuple[Place, Worker]], long_jobs: dict[str, str], pool: str) -> None:
    place, _ = staffed[pool]
    _wait_settled(place, long_jobs[pool])
    [run] = place.ledger.runs(long_jobs[pool])
    assert run.ended_s
    assert run.ended_s - run.began_s > 3 * _VISIBILITY_S
    wait_until(lambda: mns.audit(place.queue)["inactive"] == 0, timeout_s=5, what="all to be acknowledged")
    audit = mns.audit(place.queue)
    assert (audit["deleted"], audit["active"], audit["delayed"]) == (audit["sent"], 0, 0)


def test_sigterm_ends_a_worker_with_its_jobs_and_leaves_nothing_invisible(
        mns: LocalMns, tmp_path_factory: pytest.TempPathFactory) -> None:
    # so long a visibility that what is left invisible would still be so when we look
    places = {pool: _place(mns, tmp_path_factory, f"{pool}-end", visibility_timeout=120) for pool in POOLS}
    with ending([place.worker("ending", pool=pool, slots=3) for pool, place in places.items()]) as workers:
        for place in places.values():
            _send(place, seconds=2)
            _send(place, seconds=2)
        for place, worker in zip(places.values(), workers, strict=True):
            wait_until(lambda place=place: len(place.ledger.runs()) == 2, timeout_s=60, what="two jobs to run")
            worker.terminate()
        for place, worker in zip(places.values(), workers, strict=True):
            wait_until(worker.stopping, timeout_s=10, what="the worker to hear the signal")
            for _ in range(4):  # while a poll for the third slot is under way, and others would be free soon
                _send(place)
        ended = [worker.ended_s(30) for worker in workers]
    for place, ended_s in zip(places.values(), ended, strict=True):
        runs = place.ledger.runs()
        assert all(run.ended_s for run in runs), "what began was finished"
        assert ended_s - max(run.ended_s or 0 for run in runs) < 5
        wait_until(lambda place=place: mns.audit(place.queue)["inactive"] == 0, timeout_s=3,
                   what="what was not begun to be given back")
        audit = mns.audit(place.queue)
        assert (audit["sent"], audit["deleted"], audit["active"]) == (6, len(runs), 6 - len(runs))
        assert sorted(place.ledger.settlements()) == sorted(run.job for run in runs)
