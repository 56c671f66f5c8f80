"""Which lanes' new jobs are refused: none, then batch, then also standard, then all.

By the wait that a job would have which comes last now: above `shed_wait_s` batch is refused, above twice it standard too,
above four times it all. A lane is taken again when the wait has been below half of its bound for `calm_s`; at most one step
in `step_s`. Where the rules say so, an excess that a cap keeps here goes up the same steps.

The wait is an estimate, and right after a burst a wrong one, so the first step up waits until it has been over the bound
for `calm_s`. Once nothing waits, there is nothing to estimate: all lanes are taken again at once.
"""

import math

import msgspec

from app.job import Lane
from app.routing_records import Gauge, Level, Shed
from app.routing_rules import AtCap
from app.signals import QueueSignals
from routing.policy import abroad
from routing.policy.flow import Flow
from routing.policy.home import rate
from routing.policy.round import MODEL, Round, passed

#: What each level refuses.
LANES = ((), (Lane.BATCH.value,), (Lane.BATCH.value, Lane.STANDARD.value),
         (Lane.BATCH.value, Lane.STANDARD.value, Lane.INTERACTIVE.value))

#: Callers come back neither in a rush nor after they gave up.
_SOONEST_S, _LATEST_S = 5, 60


class Shedding(msgspec.Struct, frozen=True, kw_only=True):
    """How much is refused, and by what wait."""

    level: int
    since_s: float
    eased_s: float | None
    wait_s: float | None  # None: not known
    capped: bool  # an excess is kept here by a cap, for which jobs are refused
    crowded_s: float | None  # since when the wait has been over the first bound
    idle: bool  # nothing waits, neither at home nor in the cloud


def bound_s(this: Round, level: int) -> float:
    """Return the wait above which this level is reached: each is twice the one before."""
    return float(this.rules.shed_wait_s * 2 ** (level - 1))


def shedding_after(this: Round, flow: Flow, spend: Gauge) -> Shedding:
    """Return what is refused from now on."""
    level, since_s = this.before.shed, this.before.shed_since_s
    wait_s = _worst_wait_s(this, flow, spend)
    capped = this.rules.at_cap is AtCap.SHED and spend.level is Level.ALERT and bool(flow.excess)
    idle, crowded_s = _idle(this), _crowded_s(this, wait_s)
    eased_s = None
    if idle:
        level = 0
    elif level and not capped and wait_s is not None and wait_s < bound_s(this, level) / 2:
        eased_s = this.now_s if this.before.eased_s is None else this.before.eased_s
    if not idle and passed(since_s, this.now_s, this.rules.step_s):
        over = wait_s is not None and wait_s > bound_s(this, level + 1) and (level > 0 or _lasts(this, crowded_s))
        if level < len(LANES) - 1 and (capped or over):
            level += 1
        elif eased_s is not None and this.now_s - eased_s >= this.rules.calm_s:
            level, eased_s = level - 1, None
    return Shedding(level=level, since_s=since_s if level == this.before.shed else this.now_s, eased_s=eased_s,
                    wait_s=wait_s, capped=capped, crowded_s=crowded_s, idle=idle)


def shed(this: Round, shedding: Shedding) -> Shed:
    """Return what gateways are told."""
    if not shedding.level:
        return Shed()
    over_s = (shedding.wait_s or 0.0) - bound_s(this, shedding.level) / 2
    return Shed(lanes=LANES[shedding.level], retry_after_s=math.ceil(max(_SOONEST_S, min(_LATEST_S, over_s))),
                why=why(this, shedding))


def why(this: Round, shedding: Shedding) -> str:
    """Return why it is so, as a sentence."""
    if shedding.idle:
        return "nothing waits any more"
    if shedding.capped:
        return "the cloud's cap is reached, and more waits than home can do in time"
    if shedding.wait_s is None:
        return "the wait is not known, so what was decided stays"
    bound = bound_s(this, max(1, shedding.level))
    return f"a job that comes last now waits {shedding.wait_s:.0f} s; jobs are refused above {bound:.0f} s"


def _idle(this: Round) -> bool:
    """Return whether it is known that nothing waits."""
    queues, cloud = this.signals.queues, this.cloud
    return bool(queues) and not any(queue.waiting for queue in queues.values()) and (cloud is None or cloud.sent <= 0)


def _crowded_s(this: Round, wait_s: float | None) -> float | None:
    if wait_s is None or wait_s <= bound_s(this, 1) or _idle(this):
        return None
    return this.now_s if this.before.crowded_s is None else this.before.crowded_s


def _lasts(this: Round, crowded_s: float | None) -> bool:
    """Return whether the wait has been over the first bound for long enough to be believed."""
    return crowded_s is not None and this.now_s - crowded_s >= this.rules.calm_s


def _worst_wait_s(this: Round, flow: Flow, spend: Gauge) -> float | None:
    """Return the longest wait of any service; None where no queue is known."""
    waits = [_helped_s(this, queue, flow, spend) if service == MODEL else _wait_s(queue)
             for service, queue in this.signals.queues.items()]
    return max(waits, default=None)


def _helped_s(this: Round, queue: QueueSignals, flow: Flow, spend: Gauge) -> float:
    """Return the model service's wait, with the cloud's help where it helps."""
    wait_s, cloud, away_s = _wait_s(queue), this.cloud, abroad.pace(this)
    if (cloud is None or away_s is None or not queue.pace_s or queue.pace_s < 0 or queue.wait_s is None or queue.slots <= 0
            or not (flow.takes and flow.share) or spend.level is Level.ALERT):
        return wait_s
    at_home = rate(queue.slots, queue.pace_s)
    return wait_s * at_home / (at_home + rate(cloud.slots, away_s))


def _wait_s(queue: QueueSignals) -> float:
    """Return the estimated wait, or, where nothing can be foretold, how long the first in line has waited."""
    return queue.oldest_s if queue.wait_s is None else queue.wait_s
