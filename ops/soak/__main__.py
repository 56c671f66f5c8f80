"""`python -m ops.soak`: the short plan (1,000 jobs, three workers and Redis killed) or minutes of faults at random; Tandem
and plain Celery one after the other, with the same seed, and a table of both.

Exits 1 when Tandem lost a job, recorded one twice, or its audit does not balance. 0 lost of N accepted means: less than 3/N
with 95 % confidence.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from app.errors import TandemError
from ops.soak.plain import Plain
from ops.soak.run import Plan, at_random, soak, three_workers_and_redis
from ops.soak.subject import Books, Subject
from ops.soak.tandem import Tandem

_JOB_MS = 25  # with two slots: 80 jobs a second at most, against the plan's 50
_LEASE_S = 4.0  # shorter than the default, so that there is time for more faults
_FREEZE_S = 6.0  # past the lease
_ROWS = ("accepted", "succeeded", "failed", "lost", "recorded_twice", "ran_again")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m ops.soak", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=0.0, help="faults at random for so long; else the short plan")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("tandem", "plain"), help="one of the two")
    parser.add_argument("--redis-program", default="", help="the Redis server to start for Tandem")
    chosen = parser.parse_args()
    plan = at_random(chosen.minutes, Random(chosen.seed)) if chosen.minutes else three_workers_and_redis()
    folder = Path(tempfile.mkdtemp(prefix="tandem-soak-"))
    subjects: list[Callable[[], Subject]] = []
    if chosen.only != "plain":
        subjects.append(partial(Tandem, folder / "tandem", job_ms=_JOB_MS, lease_s=_LEASE_S,
                                redis_program=chosen.redis_program))
    if chosen.only != "tandem":
        subjects.append(partial(Plain, folder / "plain", job_ms=_JOB_MS))
    print(f"{plan.jobs} jobs of {_JOB_MS} ms, {plan.per_s:g} a second, {len(plan.faults)} faults, seed {chosen.seed}; "
          f"logs in {folder}", flush=True)
    try:
        found = {subject.name: books for subject, books in (_run(make, plan, chosen.seed) for make in subjects)}
    except (TandemError, TimeoutError, RuntimeError) as exc:
        print(exc, file=sys.stderr)
        return 1
    print("\n" + table(found))
    return 0 if all(sound(books) for name, books in found.items() if name == Tandem.name) else 1


def _run(make: Callable[[], Subject], plan: Plan, seed: int) -> tuple[Subject, Books]:
    subject, began = make(), time.monotonic()

    def tell(text: str) -> None:
        print(f"  {subject.name} {time.monotonic() - began:6.1f} s  {text}", flush=True)

    try:
        return subject, soak(subject, plan, Random(seed), freeze_s=_FREEZE_S, tell=tell)
    finally:
        subject.stop()


def sound(books: Books) -> bool:
    """Whether every accepted job ended, once."""
    return books.lost == books.failed == books.recorded_twice == 0 and books.extra.get("audit") == "balanced"


def table(found: dict[str, Books]) -> str:
    """Return the books side by side, as Markdown."""
    lines = ["| | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    lines += [f"| {row.replace('_', ' ')} | " + " | ".join(str(getattr(books, row)) for books in found.values()) + " |"
              for row in _ROWS]
    for extra in dict.fromkeys(name for books in found.values() for name in books.extra):
        lines.append(f"| {extra} | " + " | ".join(str(books.extra.get(extra, "")) for books in found.values()) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
