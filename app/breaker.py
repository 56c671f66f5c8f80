"""A circuit breaker: stops calling a target that does not work, and tries it again with one call after a while.

    closed      calls go through; so many faults in a row open it
    open        no call goes through, for `cooldown_s`
    half-open   one call, the trial, goes through: a sign of life closes the breaker, a fault opens it again

A fault is the target's own: no connection, no answer in time, a broken answer. A target that refuses a caller's bad
request, or asks for patience, works. A call that was given up tells nothing.

Pure: the time is passed in, in seconds on any clock that only goes forward. Not safe to use from several threads.
"""

from dataclasses import dataclass
from enum import IntEnum


class State(IntEnum):
    """What the breaker does with calls."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True, slots=True)
class Pass:
    """Leave to make one call, to be handed back with what became of it: `answered`, `failed` or `given_up`."""

    period: int  # the breaker's, when it was given; what a call of an earlier period says is old news


class Breaker:
    """The breaker for one target. `opened` is how often it has opened."""

    def __init__(self, *, threshold: int, cooldown_s: float) -> None:
        """`threshold` is how many faults in a row open it."""
        self.state = State.CLOSED
        self.opened = 0
        self._threshold = threshold
        self._cooldown_s = cooldown_s
        self._faults = 0
        self._period = 0
        self._trying = False
        self._open_until_s = 0.0

    def admit(self, now_s: float) -> Pass | None:
        """Return a pass for one call, or None where it must not be made now."""
        if self.state is State.OPEN and now_s >= self._open_until_s:
            self.state, self._trying = State.HALF_OPEN, False
            self._period += 1
        if self.state is State.OPEN or (self.state is State.HALF_OPEN and self._trying):
            return None
        self._trying = self.state is State.HALF_OPEN
        return Pass(self._period)

    def wait_s(self, now_s: float) -> float:
        """Return how long no call will be admitted; 0 also while a trial is under way, whose end nobody knows."""
        return max(0.0, self._open_until_s - now_s) if self.state is State.OPEN else 0.0

    def alive(self, passed: Pass) -> None:
        """The call has begun to be answered: enough for a trial, which may last. It is handed back later all the same."""
        if self.state is State.HALF_OPEN and passed.period == self._period:
            self._close()

    def answered(self, passed: Pass) -> None:
        """The target did its part."""
        if passed.period == self._period:
            self._close()

    def failed(self, passed: Pass, now_s: float) -> None:
        """The target is at fault."""
        if passed.period != self._period:
            return
        self._faults += 1
        if self.state is State.HALF_OPEN or self._faults >= self._threshold:
            self.state = State.OPEN
            self.opened += 1
            self._faults = 0
            self._period += 1
            self._open_until_s = now_s + self._cooldown_s

    def given_up(self, passed: Pass) -> None:
        """The call was ended from our side before it told anything; another may be the trial."""
        if passed.period == self._period:
            self._trying = False

    def _close(self) -> None:
        self.state = State.CLOSED
        self._faults = 0
