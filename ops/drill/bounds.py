"""How often the policy may change its mind: what its property tests hold it to, for a running one's history."""

from collections import Counter
from collections.abc import Iterator, Sequence

from app.routing_records import Change
from app.routing_rules import Rules


def exceeded(changes: Sequence[Change], rules: Rules, for_s: float) -> list[str]:
    """Return which bounds the changes of so many seconds are over, as sentences: the levels of one signal change at most
    3 (1 + T / (for_s + hold_s)) times in a time T (routing.policy.gauges), the share of the excess at most once in
    `step_s` (routing.policy.flow)."""
    return [f"{name} changed {times} times in {for_s:.0f} s, more than {most:.1f}"
            for name, times, most in _bounds(changes, rules, for_s) if times > most]


def _bounds(changes: Sequence[Change], rules: Rules, for_s: float) -> Iterator[tuple[str, int, float]]:
    levels = Counter(change.scope for change in changes if change.what == "level")
    for scope, times in levels.items():
        threshold = rules.thresholds.get(scope.partition("@")[0])
        if threshold is not None:
            yield f"the level of {scope}", times, 3 * (1 + for_s / (threshold.for_s + threshold.hold_s))
    yield "the share", sum(change.what == "share" for change in changes), 1 + for_s / rules.step_s
