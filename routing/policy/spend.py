"""How much of the cloud's caps is used: a gauge in percent, of the tighter of jobs a minute and money an hour.

A warning comes at four fifths; the alert when a cap holds back what would be sent, and it lasts until less than four
fifths have been used for a minute. So it does not come and go while jobs leave as fast as the cap allows.
"""

from app.routing_records import Gauge
from app.routing_rules import Action, Threshold
from routing.policy.flow import Flow
from routing.policy.gauges import gauge_after
from routing.policy.round import Round

#: Held for the window of the cap on jobs.
SPEND = Threshold(normal=80.0, alert=100.0, for_s=0.0, hold_s=60.0, action=Action.INVESTIGATE)

#: Used up to the last job, but nothing is held back.
_USED_UP = 99.9


def spend_after(this: Round, flow: Flow) -> Gauge:
    """Return the gauge after this round."""
    if this.cloud is None:
        return Gauge(since_s=this.now_s) if this.before.spend.value is not None else this.before.spend
    value = 100.0 if flow.send < flow.wanted else min(_used_percent(this), _USED_UP)
    return gauge_after(this.before.spend, value, SPEND, this.now_s)


def _used_percent(this: Round) -> float:
    cloud = this.cloud
    if cloud is None:
        return 0.0
    return max(_percent(cloud.jobs_minute, cloud.jobs_left), _percent(cloud.money_hour, cloud.money_left))


def _percent(used: float, left: float | None) -> float:
    return 0.0 if left is None or used <= 0 else 100.0 * used / (used + max(0.0, left))
