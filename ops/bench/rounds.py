"""The rounds of a run: every subject in turn, alone on the machine, asked every row that concerns it."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ops.bench.figures import Figures
from ops.bench.programs import undisturbed
from ops.bench.rows import Row
from ops.bench.subjects import SUBJECTS, Subject

_IDLE_S = 1.0  # how long to look how busy the machine is without us


@dataclass(frozen=True, slots=True)
class Progress:
    """Lines on standard output, each with the seconds since the start."""

    began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Say what happens."""
        print(f"{time.monotonic() - self.began:6.0f} s  {text}", flush=True)


def measure(rows: Sequence[Row], *, rounds: int, seconds: float, home: Path) -> Figures:
    """Ask the rows in so many rounds. Each second round goes through the subjects backwards, so that none always has the
    machine as its forerunner left it."""
    subjects = [SUBJECTS[name]() for name in SUBJECTS if any(name in row.subjects for row in rows)]
    for subject in subjects:
        subject.prepare()
    figures, progress = Figures(), Progress()
    for number in range(1, rounds + 1):
        for subject in subjects if number % 2 else reversed(subjects):
            figures.busy_percent.append(psutil.cpu_percent(_IDLE_S))
            progress.say(f"round {number} of {rounds}: starting {subject.name} (without it the machine was "
                         f"{figures.busy_percent[-1]:.0f}% busy)")
            with running(subject, home / "run" / f"{number}-{subject.name}"):
                _ask(subject, rows, seconds, figures, progress)
    return figures


def _ask(subject: Subject, rows: Sequence[Row], seconds: float, figures: Figures, progress: Progress) -> None:
    for row in rows:
        if subject.name in row.subjects:
            found = row.measure(subject, seconds)
            figures.add(row, subject.name, found)
            progress.say(f"{row.name}  {subject.name:15} "
                         + ", ".join(f"{value:,.{0 if value >= 100 else 1}f} {name}" for name, value in found.items()))


@contextmanager
def running(subject: Subject, folder: Path) -> Iterator[None]:
    """Have a subject running with fresh data. When all went well its folder goes; else it stays, for its logs."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        subject.start(folder)
        yield
    except BaseException:
        print(f"the logs of {subject.name} are in {folder}", flush=True)
        raise
    finally:
        with undisturbed():
            subject.stop()
    shutil.rmtree(folder, ignore_errors=True)
