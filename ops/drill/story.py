"""What happened in one row of the drill: its steps with their times, its figures, and what was not as it should be."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from ops.waiting import wait_until

Found = TypeVar("Found")

#: How often what operators see is looked at; the routing task makes a round a second.
LOOK_S = 0.2


class Step(StrEnum):
    """The steps of a signal that is raised and ends."""

    OVER = "value over alert"
    OPENED = "alert opened"
    ACTED = "action in force"
    ENDED = "signal ended"
    CLOSED = "alert closed"
    NORMAL = "back to normal"


@dataclass(slots=True)
class Story:
    """One row. Times are seconds since it began. `tell` is told each step as it comes."""

    name: str
    tell: Callable[[str], None] = print
    steps: dict[str, float] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """From now on time counts."""
        self.began_s = time.monotonic()

    def now_s(self) -> float:
        """Return the seconds since it began."""
        return time.monotonic() - self.began_s

    def mark(self, step: str) -> None:
        """The step comes now."""
        self.steps[step] = self.now_s()
        self.tell(f"  {self.name} {self.steps[step]:6.1f} s  {step}")

    def wait(self, step: str, condition: Callable[[], Found | None], *, timeout_s: float) -> Found:
        """Wait for the step, and mark it. Raises `TimeoutError` that names it."""
        found = wait_until(condition, timeout_s=timeout_s, every_s=LOOK_S, what=f"{self.name}: {step}")
        assert found is not None
        self.mark(step)
        return found

    def figure(self, name: str, value: object) -> None:
        """Keep a figure, to be shown."""
        self.figures[name] = f"{value:.1f}" if isinstance(value, float) else str(value)
        self.tell(f"  {self.name} {self.now_s():6.1f} s  {name}: {self.figures[name]}")

    def check(self, fact: object, otherwise: str) -> None:
        """Keep a fault where the fact is not one."""
        if not fact:
            self.faults.append(otherwise)
            self.tell(f"  {self.name} {self.now_s():6.1f} s  FAULT {otherwise}")
