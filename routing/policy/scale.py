"""How much more there should be: pools at home at their largest, and more workers in the cloud.

Home's pools are grown as long as a signal whose action is scale-up is in alert. Cloud workers are asked for one at a time,
while such a signal stays at its alert level, or because a full share of the excess leaves and there is no room for it; not
while a cap, the breaker or an unreachable MNS would leave them idle. One less is asked for when it has been needless for
`scale_down_s`, down to as many as there were before the first was asked for, which may be none.

Those who start cloud workers by hand keep them: where more live than are asked for, fewer are asked for only as long as a
step down is not done, and once one would be needless, nothing is asked for any more.
"""

import msgspec

from app.routing_records import BreakerState, CloudBreaker, Gauge, Level, Scale
from app.routing_rules import Action, Threshold
from app.signals import CloudSignals
from routing.policy import abroad
from routing.policy.flow import SHARES, Flow
from routing.policy.readings import readings
from routing.policy.round import Round, passed


def scale_after(this: Round, alarmed: frozenset[str], flow: Flow, breaker: CloudBreaker, spend: Gauge) -> Scale:
    """Return how much there should be."""
    before, cloud = this.before.scale, this.cloud
    grown = _crowded(this, alarmed)
    if cloud is None:
        return Scale(grown=grown, since_s=before.since_s)
    more = _useful(this, breaker, spend) and ((grown and _pressing(this, alarmed)) or _crammed(this, flow, breaker))
    after = _fitted(this, before, cloud)
    if more:
        after = _raised(this, after, cloud)
    elif not grown and not flow.share:
        after = _lowered(this, after, cloud)
    else:
        after = msgspec.structs.replace(after, needless_s=None)
    if after.cloud_workers is not None and max(after.cloud_workers, cloud.workers) <= after.base:
        after = Scale()
    since_s = before.since_s if after.cloud_workers == before.cloud_workers else this.now_s
    return msgspec.structs.replace(after, grown=grown, since_s=since_s)


def wish(this: Round, scale: Scale) -> int | None:
    """Return how many cloud workers there should be; None where there are enough, and none is to go."""
    wanted, cloud = scale.cloud_workers, this.cloud
    if cloud is None or wanted is None or (cloud.workers >= wanted and not scale.lowered):
        return None
    return wanted


def _fitted(this: Round, before: Scale, cloud: CloudSignals) -> Scale:
    """Return what was wanted, within what may be, with a step down that is done."""
    if before.cloud_workers is None:
        return before
    wanted = max(before.base, min(before.cloud_workers, this.rules.cloud_workers_most))
    lowered = cloud.workers > wanted and (before.lowered or wanted < before.cloud_workers)
    return msgspec.structs.replace(before, cloud_workers=wanted, lowered=lowered)


def _raised(this: Round, scale: Scale, cloud: CloudSignals) -> Scale:
    """Return it with one more, if it is time, and more may be."""
    scale = msgspec.structs.replace(scale, needless_s=None)
    live, wanted = cloud.workers, scale.cloud_workers
    there = max(wanted or 0, live)
    if there >= this.rules.cloud_workers_most or not passed(scale.since_s, this.now_s, this.rules.scale_step_s):
        return scale
    base = live if wanted is None else scale.base + (0 if scale.lowered else max(live - wanted, 0))  # more: by hand
    return msgspec.structs.replace(scale, cloud_workers=there + 1, base=base, lowered=False)


def _lowered(this: Round, scale: Scale, cloud: CloudSignals) -> Scale:
    """Return it with one less, if one has been needless for long."""
    wanted, now_s = scale.cloud_workers, this.now_s
    if wanted is None or wanted <= scale.base:
        return msgspec.structs.replace(scale, needless_s=None)
    needless_s = now_s if scale.needless_s is None else scale.needless_s
    if now_s - needless_s < this.rules.scale_down_s:
        return msgspec.structs.replace(scale, needless_s=needless_s)
    if cloud.workers > wanted and not scale.lowered:
        return Scale()  # somebody has started more by hand
    return msgspec.structs.replace(scale, cloud_workers=wanted - 1, lowered=cloud.workers > wanted - 1, needless_s=now_s)


def _crowded(this: Round, alarmed: frozenset[str]) -> bool:
    """Return whether a signal whose action is scale-up is in alert."""
    return any(_threshold(this, key).action is Action.SCALE_UP for key in alarmed)


def _pressing(this: Round, alarmed: frozenset[str]) -> bool:
    """Return whether such a signal is at its alert level now: an alert lasts on for a while when the crowd has gone."""
    values = readings(this.signals)
    return any(_threshold(this, key).action is Action.SCALE_UP and (values.get(key) or 0.0) >= _threshold(this, key).alert
               for key in alarmed)


def _threshold(this: Round, key: str) -> Threshold:
    return this.rules.thresholds[key.partition("@")[0]]


def _crammed(this: Round, flow: Flow, breaker: CloudBreaker) -> bool:
    """Return whether an excess stays for want of room in the cloud: a full share of it leaves, or the breaker waits for
    somebody to try the cloud with."""
    pressed = flow.share == SHARES[-1] or breaker.state is BreakerState.HALF_OPEN
    return pressed and bool(flow.excess) and abroad.room(this) == 0


def _useful(this: Round, breaker: CloudBreaker, spend: Gauge) -> bool:
    """Return whether another cloud worker would get anything to do."""
    return (this.cloud is not None and abroad.allowed(this) and this.cloud.reachable is not False
            and breaker.state is not BreakerState.OPEN and spend.level is not Level.ALERT)
