"""A thousand jobs over HTTP while workers and Redis are killed: all succeed, each recorded once, the books balance."""

from pathlib import Path
from random import Random

import pytest

from ops.soak.__main__ import sound, table
from ops.soak.run import Fault, Plan, at_random, soak, three_workers_and_redis
from ops.soak.subject import Books
from ops.soak.tandem import Tandem
from tests.conftest import redis_programs


def test_a_thousand_jobs_survive_three_killed_workers_and_a_killed_redis(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    oldest, *_ = redis_programs()  # the ledger's own tests run on each
    told: list[str] = []
    subject = Tandem(tmp_path, job_ms=25, redis_program=oldest)
    try:
        books = soak(subject, three_workers_and_redis(), Random(1), freeze_s=6.0, tell=told.append)
    finally:
        subject.stop()
    with capsys.disabled():
        print(f"\n{table({subject.name: books})}")

    assert sum("kill a worker" in line for line in told) == 3
    assert sum("kill Redis" in line for line in told) == 1
    assert books.accepted == books.succeeded == 1000
    assert sound(books)


def test_the_short_plan_kills_three_workers_and_redis_once() -> None:
    plan = three_workers_and_redis()

    assert [fault for _, fault in plan.faults].count(Fault.KILL_WORKER) == 3
    assert [fault for _, fault in plan.faults].count(Fault.KILL_REDIS) == 1
    assert all(0 < after < plan.jobs for after, _ in plan.faults)


def test_a_long_plan_has_every_fault_and_the_same_seed_gives_the_same_plan() -> None:
    plan = at_random(30, Random(7))

    assert plan == at_random(30, Random(7)) != at_random(30, Random(8))
    assert plan.jobs == 90_000
    assert {fault for _, fault in plan.faults} == set(Fault)


@pytest.mark.parametrize("fault", [{"lost": 1}, {"failed": 1}, {"recorded_twice": 1}, {"extra": {"audit": "2 faults"}}])
def test_books_with_any_fault_are_not_sound(fault: dict[str, object]) -> None:
    good: dict[str, object] = {"accepted": 9, "succeeded": 9, "failed": 0, "lost": 0, "recorded_twice": 0, "ran_again": 1,
                               "extra": {"audit": "balanced"}}

    assert sound(Books(**good))  # type: ignore[arg-type]
    assert not sound(Books(**(good | fault)))  # type: ignore[arg-type]


class Deaf:
    """A system that accepts everything and ends nothing."""

    name = "deaf"

    def __init__(self) -> None:
        self.accepted: list[str] = []

    def start(self) -> None: ...

    def submit(self, number: int) -> str | None:
        self.accepted.append(str(number))
        return str(number)

    def ended(self) -> int:
        return 0

    def books(self, ids: list[str]) -> Books:
        return Books(accepted=len(ids), succeeded=0, failed=0, lost=len(ids), recorded_twice=0, ran_again=0)


def test_a_system_that_loses_everything_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.soak.run._REST_S", 0.3)
    subject = Deaf()

    books = soak(subject, Plan(jobs=5, per_s=1000.0, faults=[]), Random(1), freeze_s=0.0,  # type: ignore[arg-type]
                 tell=lambda _: None)

    assert books.lost == len(subject.accepted) == 5
    assert not sound(books)
