"""When messages about alerts go: how long events gather, how many messages a minute, and what follows from a failure. Pure.
"""

from collections.abc import Sequence

from routing.alerting.outcome import Outcome

GATHER_MS = 3000  # events that come within this time after the first go in one message
_MINUTE_MS = 60_000
MOST_A_MINUTE = 6  # messages; DingTalk takes twenty, then none for ten minutes
_AT_ONCE = 3  # of a minute's messages go as they come; the others
_APART_MS = 15_000  # are so long apart, so that the last of them is not gone when something new happens

_FIRST_AGAIN_MS = 2000  # wait after a first failure; twice as long each time
_LONGEST_MS = 300_000
_LONGEST_ASKED_MS = 3_600_000  # that a receiver may ask for
_CHANCE = 0.2  # a wait is so much shorter or longer
_TRIES_OF_REFUSED = 6  # a receiver that refuses a message is asked again for a minute: it may be being set up
GIVEN_UP_MS = 86_400_000  # a message that could not be delivered for a day is given up


def due_ms(first_ms: int, told_ms: Sequence[int]) -> int:
    """Return when a message may go whose first event came at `first_ms`, after messages that went at `told_ms`."""
    due = first_ms + GATHER_MS
    if len(told_ms) >= _AT_ONCE:
        due = max(due, min(told_ms[-_AT_ONCE] + _MINUTE_MS, told_ms[-1] + _APART_MS))
    if len(told_ms) >= MOST_A_MINUTE:
        due = max(due, told_ms[-MOST_A_MINUTE] + _MINUTE_MS)
    return due


def is_hopeless(outcome: Outcome, *, failures: int, age_ms: int) -> bool:
    """Whether a message is given up after this failure; `failures` counts it."""
    return age_ms >= GIVEN_UP_MS or (outcome.refused and failures >= _TRIES_OF_REFUSED)


def wait_ms(outcome: Outcome, *, failures: int, chance: float) -> int:
    """Return after how long a message is tried again; `failures` counts this one, `chance` is in 0 to 1."""
    # the exponent is bounded, or many failures would overflow
    wait = min(_FIRST_AGAIN_MS * 2.0 ** min(failures - 1, 30), _LONGEST_MS) * (1 - _CHANCE + 2 * _CHANCE * chance)
    asked = min((outcome.retry_after_s or 0.0) * 1000, _LONGEST_ASKED_MS)
    return round(max(wait, asked))
