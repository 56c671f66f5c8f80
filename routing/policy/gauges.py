"""Levels: each value against its threshold, as a Schmitt trigger with time on both sides.

    normal  -> warning  above normal for `for_s`
    any     -> alert    at or above alert for `for_s`
    any     -> normal   at or below normal for `hold_s`

Promises: an alert is left for normal only, so a gauge that opens again has been at or above alert for `for_s` and at or
below normal for `hold_s` in between, without a break: at most `3 * (1 + T / (for_s + hold_s))` transitions in a time T,
whatever the values do. A value that is not known leaves the level as it is, and what has to last begins anew.
"""

from app.routing_records import Gauge, Level
from app.routing_rules import Threshold
from routing.policy.round import Round


def gauges_after(this: Round, values: dict[str, float | None]) -> dict[str, Gauge]:
    """Return the gauges of all values that have a threshold. Those of servers that are no more are gone."""
    thresholds, before, now_s = this.rules.thresholds, this.before.gauges, this.now_s
    after = {}
    for key, value in values.items():
        threshold = thresholds.get(key.partition("@")[0])
        if threshold is not None:
            after[key] = gauge_after(before.get(key) or Gauge(since_s=now_s), value, threshold, now_s)
    return after


def alarmed(gauges: dict[str, Gauge]) -> frozenset[str]:
    """Return the keys of those in alert."""
    return frozenset([key for key, gauge in gauges.items() if gauge.level is Level.ALERT])


def gauge_after(before: Gauge, value: float | None, threshold: Threshold, now_s: float) -> Gauge:
    """Return the gauge after one more value."""
    if value is None:
        return Gauge(level=before.level, since_s=before.since_s)
    over_s = above_s = under_s = None
    if value <= threshold.normal:
        under_s = now_s if before.under_s is None else before.under_s
    else:
        above_s = now_s if before.above_s is None else before.above_s
        if value >= threshold.alert:
            over_s = now_s if before.over_s is None else before.over_s
    level = before.level
    if over_s is not None and now_s - over_s >= threshold.for_s:
        level = Level.ALERT
    elif under_s is not None and now_s - under_s >= threshold.hold_s:
        level = Level.NORMAL
    elif level is Level.NORMAL and above_s is not None and now_s - above_s >= threshold.for_s:
        level = Level.WARNING
    return Gauge(level=level, since_s=before.since_s if level is before.level else now_s, value=value, over_s=over_s,
                 above_s=above_s, under_s=under_s)
