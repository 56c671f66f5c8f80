"""What one round works on: the signals, the rules, what was remembered, and the time.

It promises that what was remembered fits the time: after a gap, or a clock that went far back, nothing is believed to
have lasted meanwhile.
"""

from collections.abc import Mapping

import msgspec

from app.job import Service
from app.routing_records import Gauge, Remembered, ServerView, Standing
from app.routing_rules import Rules
from app.signals import CloudSignals, QueueSignals, Signals

#: The service whose jobs can leave for the cloud.
MODEL = Service.MODEL.value

#: More jobs than there ever are: what a wait or a price next to nothing allows.
MANY = 1e9

#: A longer time without a round is a gap: nobody looked, so nothing can be said to have lasted. Above the time in which
#: another leader takes over, and above what the clocks of two Redis servers differ by.
GAP_S = 10.0


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One round."""

    signals: Signals
    rules: Rules
    before: Remembered
    now_s: float
    queue: QueueSignals | None  # the model service's; None: not known
    cloud: CloudSignals | None  # None: there is none


def begun(signals: Signals, rules: Rules, before: Remembered, now_s: float) -> Round:
    """Return the round of this time."""
    return Round(signals=signals, rules=rules, before=_resumed(before, now_s), now_s=now_s,
                 queue=signals.queues.get(MODEL), cloud=signals.cloud)


def passed(since_s: float, now_s: float, wanted_s: float) -> bool:
    """Return whether `wanted_s` have passed since a step; 0 stands for no step so far."""
    return since_s == 0.0 or now_s - since_s >= wanted_s


def _resumed(before: Remembered, now_s: float) -> Remembered:
    """Return what is remembered as it holds now. Levels, standings and alerts stay; what has to last begins anew after a
    gap, and no time lies ahead of `now_s`."""
    if before.at_s == 0.0 or abs(now_s - before.at_s) <= GAP_S:
        return before
    breaker = before.breaker
    ahead_s = max(0.0, before.at_s - now_s)  # by how much the clock went back
    return msgspec.structs.replace(
        before,
        gauges=_rested(before.gauges, now_s),
        spend=_rest(before.spend, now_s),
        breaker=msgspec.structs.replace(breaker, since_s=min(breaker.since_s, now_s), until_s=breaker.until_s - ahead_s),
        servers={name: msgspec.structs.replace(view, since_s=min(view.since_s, now_s),
                                               missing_s=_missed_s(view, now_s))
                 for name, view in before.servers.items()},
        scale=msgspec.structs.replace(before.scale, since_s=min(before.scale.since_s, now_s), needless_s=None),
        share_since_s=min(before.share_since_s, now_s), calm_since_s=None,
        shed_since_s=min(before.shed_since_s, now_s), eased_s=None, crowded_s=None,
        away_again_s=min(before.away_again_s, now_s), away_since_s=_capped(before.away_since_s, now_s),
        reported={key: min(asked_s, now_s) for key, asked_s in before.reported.items()}, sending=None, recalling=None)


def _missed_s(view: ServerView, now_s: float) -> float | None:
    """Return since when a server is missed: one that was down stays so until it is heard of."""
    return _capped(view.missing_s, now_s) if view.standing is Standing.DOWN else None


def _rested(gauges: Mapping[str, Gauge], now_s: float) -> dict[str, Gauge]:
    return {key: _rest(gauge, now_s) for key, gauge in gauges.items()}


def _rest(gauge: Gauge, now_s: float) -> Gauge:
    return Gauge(level=gauge.level, since_s=min(gauge.since_s, now_s), value=gauge.value)


def _capped(moment_s: float | None, now_s: float) -> float | None:
    return None if moment_s is None else min(moment_s, now_s)
