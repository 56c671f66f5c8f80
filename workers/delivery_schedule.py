"""What follows from an attempt at a webhook: done, again and when, or never again. Pure: the chance in it is an argument.

The times between attempts grow as in the example of Standard Webhooks, from seconds to half a day, with some chance so that
what failed together does not come again together.
"""

from dataclasses import dataclass

from app.settings import Settings
from app.webhook_deliveries import Verdict

_GROWTH = 5.0
_LONGEST_S = 43_200.0  # between two attempts, also where the receiver asks for more
_CHANCE = 0.2  # a delay is so much shorter or longer
_GONE = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt went: the receiver's answer, or what kept it from answering."""

    status: int | None = None
    error: str = ""
    retry_after_s: float | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver has it: any status of 2xx says so."""
        return self.status is not None and 200 <= self.status < 300


def decide(outcome: Outcome, *, attempts: int, settings: Settings, chance: float) -> tuple[Verdict, float]:
    """Return what is to be recorded, and after how many seconds the next attempt is due. `attempts` counts this one;
    `chance` is in 0 to 1."""
    if outcome.delivered:
        return Verdict.DONE, 0.0
    if outcome.status == _GONE or attempts >= settings.webhook_attempts:
        return Verdict.DEAD, 0.0
    # the exponent is bounded, or many attempts would overflow
    delay_s = min(settings.webhook_retry_s * _GROWTH ** min(attempts - 1, 30), _LONGEST_S)
    delay_s *= 1 - _CHANCE + 2 * _CHANCE * chance
    return Verdict.AGAIN, max(delay_s, min(outcome.retry_after_s or 0.0, _LONGEST_S))
