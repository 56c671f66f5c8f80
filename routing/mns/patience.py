"""Waiting between attempts: longer each time, and never all at the same time."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from routing.mns.errors import Transient

_Result = TypeVar("_Result")
_Kinds = type[Transient] | tuple[type[Transient], ...]


class Backoff:
    """Pauses that double from `first_s` to `longest_s`; each is between half of it and the whole, at random."""

    def __init__(self, first_s: float = 0.5, longest_s: float = 30.0) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._next_s = first_s

    def reset(self) -> None:
        """It went well: begin anew."""
        self._next_s = self._first_s

    def pause_s(self) -> float:
        """Return how long to wait now."""
        pause_s, self._next_s = self._next_s, min(self._longest_s, self._next_s * 2)
        return pause_s * random.uniform(0.5, 1.0)


def patiently(ask: Callable[[], _Result], *, attempts: int = 4, on: _Kinds = Transient,
              go_on: Callable[[], bool] = lambda: True) -> _Result:
    """Return what `ask` returns, trying again after errors of class `on` while `go_on`. Raises the last attempt's error."""
    backoff = Backoff(first_s=0.2, longest_s=2.0)
    for _ in range(attempts - 1):
        try:
            return ask()
        except on:
            if not go_on():
                raise
            time.sleep(backoff.pause_s())
    return ask()
