"""Celery on `mns://` while everything goes wrong: each job is settled once, and no message is lost track of.

500 jobs in all, half with each pool, under throttling, errors, lost requests, lost answers, duplicates and disorder;
meanwhile the server is killed and started again on its data, and a worker is killed with all its children.
"""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from ops.waiting import wait_until
from tests.mns_celery import POOLS, Place, ServerProcess, balanced, ending
from tests.mns_celery_ledger import Run

_JOBS = 250  # for each pool
_SHORT_S, _LONG_S, _LONG_EACH = 0.01, 1.0, 20  # every 20th job is long, so that a worker can be killed in the midst of one
_FAULTS = [
    {"kind": "status", "status": 429, "code": "TooManyRequests", "probability": 0.04},
    {"kind": "status", "status": 500, "code": "InternalError", "probability": 0.04},
    {"kind": "drop_before", "probability": 0.03}, {"kind": "drop_after", "probability": 0.03},
    {"kind": "duplicate", "probability": 0.05}, {"kind": "reorder", "probability": 0.3},
    {"kind": "short_batch", "probability": 0.2},
]
# a message that is taken over and over while answers are lost is no poison here
_OPTIONS = {"visibility_timeout": 3, "wait_time_seconds": 5, "max_receives": 1000}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server with its messages in a file."""
    one = ServerProcess(tmp_path)
    one.start()
    yield one
    one.stop()


def _go_wrong(server: ServerProcess) -> None:
    for rule in _FAULTS:
        server.fault(operation="*", queue="*", **rule)


def _send(place: Place) -> list[str]:
    """Send all jobs, and return their ids."""
    with place.sender() as app:
        return [app.send_task("job", kwargs={"seconds": _SHORT_S if number % _LONG_EACH else _LONG_S}).id
                for number in range(_JOBS)]


def _wait_settled(counts: list[tuple[Place, int]]) -> None:
    """Wait until so many settlements are written down in each place."""
    wait_until(lambda: all(len(place.ledger.settlements()) >= count for place, count in counts), timeout_s=120,
               what=f"{[count for _, count in counts]} jobs to be settled in each place")


def _doomed_run(place: Place) -> Run | None:
    """A long job in which the doomed worker is just now, if there is one."""
    return next((run for run in place.ledger.runs() if run.worker.startswith("doomed") and run.ended_s is None
                 and time.time() - run.began_s > 5 * _SHORT_S), None)


def _catch(place: Place, sent: list[str]) -> Run:
    """Wait for the doomed worker to be in a long job. Where the others have done all of those, send more."""
    for _ in range(20):
        with suppress(TimeoutError):
            return wait_until(lambda: _doomed_run(place), timeout_s=3, what="a long job to run", every_s=0.01)
        with place.sender() as app:
            sent += [app.send_task("job", kwargs={"seconds": _LONG_S}).id for _ in range(4)]
    raise TimeoutError("the doomed worker took none of 80 long jobs")


def test_each_job_is_settled_once_and_each_message_accounted_for(server: ServerProcess, tmp_path: Path) -> None:
    places = {pool: Place(url=server.url, queue=f"{pool}-jobs", folder=tmp_path / pool, options=_OPTIONS) for pool in POOLS}
    for place in places.values():
        place.lay()
    with ending([]) as workers:
        steady, doomed = ({pool: place.worker(name, pool=pool) for pool, place in places.items()}
                          for name in ("steady", "doomed"))
        workers += [*steady.values(), *doomed.values()]
        for worker in workers:
            worker.wait_ready()
        _go_wrong(server)
        with ThreadPoolExecutor() as senders:
            jobs = dict(zip(POOLS, senders.map(_send, places.values()), strict=True))
        _wait_settled([(place, _JOBS // 4) for place in places.values()])
        server.kill()
        server.start()
        _go_wrong(server)
        cut_short: dict[str, Run] = {}
        for pool, place in places.items():
            cut_short[pool] = _catch(place, jobs[pool])
            doomed[pool].kill()
            workers.append(place.worker("fresh", pool=pool))
        _wait_settled([(place, len(jobs[pool])) for pool, place in places.items()])
        assert all(rule["hits"] for rule in server.ask("GET", "/faults")), "everything went wrong that was to"
        server.ask("DELETE", "/faults")
        remaining = [worker for worker in workers if worker not in doomed.values()]
        for worker in remaining:
            worker.wait_ready().terminate()
        for worker in remaining:
            worker.ended_s(60)
    for pool, place in places.items():
        assert Counter(place.ledger.settlements()) == Counter(jobs[pool])
        again = [run for run in place.ledger.runs(cut_short[pool].job) if run.ended_s]
        assert again, "what was cut short was run again"
        audit = server.audit(place.queue)
        assert balanced(audit), audit
        assert audit["sent"] >= _JOBS
        assert audit["dead"] == audit["expired"] == 0
    assert balanced(server.audit())
