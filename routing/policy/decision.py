"""The decision of a round: each part in turn, and what is remembered of it."""

import math
from typing import Any

import msgspec

from app.routing_records import CloudBreaker, Decision, Remembered, ServerView, Standing
from app.routing_rules import Rules
from app.signals import Signals
from routing.policy import abroad, hold, words
from routing.policy.alerts import alerts_after
from routing.policy.breaker import breaker_after
from routing.policy.changes import changes_of
from routing.policy.flow import MOST_A_ROUND, Flow, flow_after, move_after
from routing.policy.gauges import alarmed, gauges_after
from routing.policy.readings import readings
from routing.policy.round import Round, begun
from routing.policy.scale import scale_after, wish
from routing.policy.servers import servers_after
from routing.policy.shedding import shed, shedding_after
from routing.policy.spend import spend_after


def decide(signals: Signals, rules: Rules, before: Remembered, now_s: float) -> tuple[Remembered, Decision]:
    """Return what is remembered for the next round, and what is to be done now.

    `before` is what the round before returned; `Remembered()` where there was none. `now_s` is above 0: 0 is "never".
    """
    this = begun(signals, rules, before, now_s)
    gauges = gauges_after(this, readings(signals))
    alarms = alarmed(gauges)
    views = servers_after(this, alarms)
    breaker = breaker_after(this)
    done = hold.doable(this, views)
    pressed = hold.is_pressed(views, done)
    away_since_s, away_again_s = hold.away_after(this, views, gauges, breaker, pressed=pressed)
    away = away_since_s is not None
    flow = flow_after(this, breaker, pressed=pressed, away=away)
    spend = spend_after(this, flow)
    shedding = shedding_after(this, flow, spend)
    after = Remembered(
        at_s=now_s, gauges=gauges, servers=views, breaker=breaker, hold=hold.holds(this, views, done, away=away), away=away,
        away_since_s=away_since_s, away_again_s=away_again_s, share=flow.share, share_since_s=flow.share_since_s,
        calm_since_s=flow.calm_since_s,
        spend=spend, shed=shedding.level, shed_since_s=shedding.since_s, eased_s=shedding.eased_s,
        crowded_s=shedding.crowded_s, scale=scale_after(this, alarms, flow, breaker, spend),
        sending=move_after(this.before.sending, flow.send, this),
        recalling=move_after(this.before.recalling, flow.recall, this))
    alerts = alerts_after(this, after, alarms, flow, shedding)
    after = msgspec.structs.replace(after, alerts=alerts.all, reported=alerts.reported)
    return after, Decision(
        hold=after.hold, send=flow.send, probe=flow.probe, recall=flow.recall, shed=shed(this, shedding),
        grow=after.scale.grown, cloud_workers=wish(this, after.scale), opened=alerts.opened, closed=alerts.closed,
        investigate=alerts.investigate, changes=changes_of(this, after, flow, shedding, alerts),
        why=_why(this, flow, breaker, pressed=pressed) if flow.send else {}, reason=_reason(this, views, flow, breaker))


def _why(this: Round, flow: Flow, breaker: CloudBreaker, *, pressed: bool) -> dict[str, Any]:
    """Return why jobs are sent: rule, values and thresholds, which each of them keeps."""
    queue = this.queue
    rule = "probe" if flow.probe else "failover" if pressed else "overflow"
    target = words.number(this.rules.target_wait_s)
    detail = {
        "probe": "the cloud had failed; this job is to show whether it works again",
        "failover": f"every server at home is saturated, and {flow.excess} of the jobs that wait cannot begin at once; "
                    f"{_leaving(this, flow)}",
        "overflow": f"of the jobs that wait, {flow.excess} would wait about {target} s or longer at home; "
                    f"{_leaving(this, flow)}"}[rule]
    values: dict[str, Any] = {"rule": rule, "detail": detail, "target_wait_s": this.rules.target_wait_s,
                              "excess": flow.excess, "share": flow.share, "cloud_room": abroad.room(this),
                              "breaker": breaker.state.value}
    if queue is not None:
        values |= {"waiting": queue.waiting, "running": queue.running, "slots": queue.slots, "pace_s": queue.pace_s,
                   "wait_s": queue.wait_s, "oldest_s": queue.oldest_s}
    return values


def _leaving(this: Round, flow: Flow) -> str:
    """Return how many of the excess leave, and what keeps the others."""
    leave = f"up to {flow.send} of them leave in this round"
    if flow.excess is None or flow.send >= flow.excess:
        return leave
    if flow.send < flow.wanted and this.cloud is not None:
        return f"{leave}, as the cap on {abroad.tighter(this.cloud)} allows no more"
    if flow.send >= math.ceil(flow.share * flow.excess):
        return f"{leave}, as {flow.share:.0%} of the excess may leave in one round for now"
    most = flow.send == MOST_A_ROUND
    return f"{leave}, as " + ("no more may leave in one round" if most else "the cloud has room for no more")


def _reason(this: Round, views: dict[str, ServerView], flow: Flow, breaker: CloudBreaker) -> str:
    """Return how it stands, as one sentence."""
    standing = [view.standing for view in views.values()]
    parts = [f"{standing.count(Standing.OPEN)} of {len(standing)} servers open"]
    parts += [f"{standing.count(each)} {each.value}" for each in (Standing.SATURATED, Standing.DOWN) if each in standing]
    queue = this.queue
    if queue is None:
        parts.append("the queue is not known")
    else:
        target = words.number(this.rules.target_wait_s)
        wait = "not known" if queue.wait_s is None else f"{queue.wait_s:.1f} s of {target} s"
        parts.append(f"{queue.waiting} waiting, wait {wait}")
    parts.append(_movement(this, flow, breaker))
    return "; ".join(parts)


def _movement(this: Round, flow: Flow, breaker: CloudBreaker) -> str:
    if flow.send:
        return f"{flow.send} of an excess of {flow.excess} leave for the cloud"
    if flow.recall:
        return f"{flow.recall} come home from the cloud"
    if not flow.excess:
        return "nothing need leave"
    if this.cloud is None:
        return f"an excess of {flow.excess} waits, as there is no cloud"
    if flow.wanted:
        return f"an excess of {flow.excess} waits, as the cap on {abroad.tighter(this.cloud)} is reached"
    if not abroad.takes(this, breaker):
        return f"an excess of {flow.excess} waits, as {abroad.lack(this, breaker)}"
    if not flow.share:
        return f"an excess of {flow.excess} waits, as the next step of what may leave is not due yet"
    return f"an excess of {flow.excess} waits, as the cloud has no room"
