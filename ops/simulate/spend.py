"""What the cloud costs, by the ledger's rules (`app/ledger/lua/prelude/spend.lua`): at most so many jobs in a sliding
minute, and so much money in a sliding hour, with buckets of seconds and of minutes that count whole where a window touches
them. A job that is sent reserves the most that it may cost; its end puts what it did cost in the place of that; one that
comes home without having been begun gets it back. That it was sent counts in the minute all the same.
"""

import math
from collections import deque

from app.routing_rules import Rules

_MINUTE_S, _HOUR_MIN = 60, 60
_MICROS = 1_000_000  # of money; prices are rounded up to them


class Spend:
    """The account of one run."""

    def __init__(self) -> None:
        self._sent: deque[list[int]] = deque()  # [second, jobs]
        self._hour: deque[list[float]] = deque()  # [minute, money]
        self.minute = 0  # jobs sent in the last one, as of the last look
        self.hour = 0.0
        self.total = 0.0  # since the beginning
        self.job_cost = 0.0  # that one of those sent last has reserved; 0: none was sent

    def look(self, now_s: float) -> None:
        """Forget what is too long ago."""
        while self._sent and self._sent[0][0] < math.floor(now_s) - _MINUTE_S:
            self.minute -= self._sent.popleft()[1]
        while self._hour and self._hour[0][0] < math.floor(now_s / 60) - _HOUR_MIN:
            self.hour -= self._hour.popleft()[1]

    def reserve(self, now_s: float, tokens: float, rules: Rules) -> list[float] | None:
        """Reserve what a job may cost; return [minute, money], or None where a cap forbids it."""
        self.look(now_s)
        cost = price(tokens, rules)
        if self.minute >= rules.cloud_jobs_per_minute or self.hour + cost > rules.cloud_money_per_hour:
            return None
        second, minute = math.floor(now_s), math.floor(now_s / 60)
        if not self._sent or self._sent[-1][0] != second:
            self._sent.append([second, 0])
        if not self._hour or self._hour[-1][0] != minute:
            self._hour.append([minute, 0.0])
        self._sent[-1][1] += 1
        self.minute += 1
        self.job_cost = cost
        self._add(self._hour[-1], cost)
        return [minute, cost]

    def settle(self, reserved: list[float], money: float) -> None:
        """Put what it did cost in the place of what was reserved."""
        change, reserved[1] = money - reserved[1], money
        for bucket in self._hour:
            if bucket[0] == reserved[0]:
                self._add(bucket, change)
                return
        self.total += change

    def _add(self, bucket: list[float], money: float) -> None:
        bucket[1] += money
        self.hour += money
        self.total += money


def price(tokens: float, rules: Rules) -> float:
    """What a job of so many tokens costs in the cloud."""
    money = rules.cloud_price_per_job + math.ceil(tokens) / 1000 * rules.cloud_price_per_1000_tokens
    return math.ceil(money * _MICROS - 1e-6) / _MICROS
