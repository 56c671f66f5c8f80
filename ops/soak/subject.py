"""What a soak does to a system, and what it counts afterwards; the same for Tandem and for plain Celery."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What became of the accepted jobs. `extra` holds figures that only one system has."""

    accepted: int
    succeeded: int
    failed: int
    lost: int  # accepted, and without an end when everything had come to rest
    recorded_twice: int
    ran_again: int  # started more than once
    extra: dict[str, int | str] = field(default_factory=dict)


class Subject(Protocol):
    """A running system. Jobs last `job_ms`."""

    name: str

    def start(self) -> None:
        """Start it, ready to take jobs."""
        ...

    def submit(self, number: int) -> str | None:
        """Submit job `number`; return its id once accepted, or None when refused (the same number may be sent again)."""
        ...

    def kill_worker(self, chance: Random) -> str:
        """SIGKILL a worker of the model; return which."""
        ...

    def freeze_worker(self, chance: Random, *, for_s: float) -> str:
        """SIGSTOP a worker for that long, then let it go on; return which."""
        ...

    def kill_redis(self) -> str:
        """SIGKILL Redis and see that it is started again; return which."""
        ...

    def ended(self) -> int:
        """How many jobs have an end by now."""
        ...

    def books(self, ids: Sequence[str]) -> Books:
        """Count what became of these jobs."""
        ...

    def stop(self) -> None:
        """Stop it, and everything it started."""
        ...
