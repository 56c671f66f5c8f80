"""One soak: jobs at a steady pace, faults at set points of it, then quiet until nothing moves any more, then the books."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass
from enum import StrEnum
from random import Random

import redis

from ops.soak.subject import Books, Subject

_SUBMIT_S = 60.0  # how long one job is offered again and again before the run gives up
_REST_S = 30.0  # nothing has ended for this long: nothing will


class Fault(StrEnum):
    """What can go wrong."""

    KILL_WORKER = "kill a worker"
    FREEZE_WORKER = "freeze a worker"
    KILL_REDIS = "kill Redis"


@dataclass(frozen=True, slots=True)
class Plan:
    """How many jobs, how many a second, and what goes wrong after which job."""

    jobs: int
    per_s: float
    faults: Sequence[tuple[int, Fault]]


def three_workers_and_redis(jobs: int = 1000, per_s: float = 50.0) -> Plan:
    """Return the short plan: three workers killed and Redis killed once, spread over the run."""
    shares = ((0.15, Fault.KILL_WORKER), (0.35, Fault.KILL_WORKER), (0.55, Fault.KILL_REDIS), (0.75, Fault.KILL_WORKER))
    return Plan(jobs, per_s, [(round(jobs * share), fault) for share, fault in shares])


def at_random(minutes: float, chance: Random, per_s: float = 50.0) -> Plan:
    """Return a plan of so many minutes with a fault every 4 to 10 seconds, every sixth of them Redis's."""
    jobs = round(minutes * 60 * per_s)
    faults, at = [], per_s * 5
    while at < jobs:
        faults.append((round(at), chance.choices(list(Fault), weights=(3, 2, 1))[0]))
        at += per_s * chance.uniform(4, 10)
    return Plan(jobs, per_s, faults)


def soak(subject: Subject, plan: Plan, chance: Random, *, freeze_s: float, tell: Callable[[str], None]) -> Books:
    """Do it. Raises `TimeoutError` when a job was not accepted within a minute."""
    subject.start()
    ids: list[str] = []
    over = threading.Event()
    mischief = futures.ThreadPoolExecutor(1).submit(_do_harm, subject, plan, chance, freeze_s, ids, tell, over)
    try:
        began = time.monotonic()
        for number in range(plan.jobs):
            _sleep_until(began + number / plan.per_s)
            ids.append(_accepted(subject, number))
    finally:
        over.set()
        done = mischief.result()
    if done < len(plan.faults):
        raise TimeoutError(f"{done} of {len(plan.faults)} faults were done when the jobs were out")
    tell(f"{len(ids)} accepted in {time.monotonic() - began:.0f} s; waiting for the rest to end")
    _come_to_rest(subject, len(ids))
    return subject.books(ids)


def _accepted(subject: Subject, number: int) -> str:
    give_up_at = time.monotonic() + _SUBMIT_S
    while (job_id := subject.submit(number)) is None:
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{subject.name} refused job {number} for {_SUBMIT_S:g} s")
        time.sleep(0.1)
    return job_id


def _do_harm(subject: Subject, plan: Plan, chance: Random, freeze_s: float, ids: list[str],
             tell: Callable[[str], None], over: threading.Event) -> int:
    """Do the faults, each when its time has come; return how many were done."""
    for done, (after, fault) in enumerate(plan.faults):
        while len(ids) < after:
            if over.wait(0.02) and len(ids) < after:
                return done
        if fault is Fault.KILL_REDIS:
            victim = subject.kill_redis()
        elif fault is Fault.KILL_WORKER:
            victim = subject.kill_worker(chance)
        else:
            victim = subject.freeze_worker(chance, for_s=freeze_s)
        tell(f"after job {len(ids)}: {fault}: {victim}")
    return len(plan.faults)


def _come_to_rest(subject: Subject, jobs: int) -> None:
    ended, moved_at = -1, time.monotonic()
    while time.monotonic() - moved_at < _REST_S:
        try:
            now = subject.ended()
        except redis.exceptions.RedisError:
            now = ended
        if now >= jobs:
            return
        if now != ended:
            ended, moved_at = now, time.monotonic()
        time.sleep(0.2)


def _sleep_until(at: float) -> None:
    time.sleep(max(at - time.monotonic(), 0))
