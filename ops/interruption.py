"""Ctrl-C during a start, and signals to end: at once where that is safe, else at the next step.

What a signal's receiver raises can get lost in a library that was in the middle of something, so it is remembered, and
raised again at the next `check`.
"""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from app.errors import TandemError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(TandemError):
    """Ctrl-C, or a signal to end."""

    code = "interrupted"


class Interruption:
    """Listens from when it is made. One per process."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._holding = False
        for number in _SIGNALS:
            signal.signal(number, self._arrive)

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come."""
        if self._number is not None:
            raise Interrupted(f"interrupted by {signal.Signals(self._number).name}")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What is done within is done whole: a signal waits until its end."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        self.check()

    def ignore(self) -> None:
        """From now on nothing interrupts: what was begun is being put away."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _arrive(self, number: int, _: FrameType | None) -> None:
        self._number = number
        if not self._holding:
            self.check()
