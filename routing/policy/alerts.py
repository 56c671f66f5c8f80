"""What operators should know of: one alert for each thing, from when it begins until it is over.

Promises: an alert opens once and closes once, under the same id, however often a round is done again; it is what is
remembered that counts. What is done about it is told anew in each round, as it may change; all else stays as it was when
it opened. Alerts that others open (`routing-held`) are left alone. A report is asked for when an alert opens
whose threshold says so, and not again for the same thing within `investigate_again_s`.
"""

from collections.abc import Callable
from functools import partial

import msgspec

from app.routing_records import Alert, BreakerState, Level, Remembered, Standing
from app.routing_rules import SIGNALS, Action, AtCap
from app.signals import CloudSignals
from routing.policy import abroad, servers, words
from routing.policy.breaker import cause
from routing.policy.flow import Flow
from routing.policy.round import Round
from routing.policy.scale import wish
from routing.policy.shedding import LANES, Shedding, bound_s, why
from routing.policy.spend import SPEND

SERVER_DOWN, CLOUD, CAP, SHEDDING = "server-down", "cloud-unreachable", "spend-cap", "shedding"
_CLOUD_KEY, _CAP_KEY, _SHED_KEY = f"{CLOUD}@cloud", f"{CAP}@cloud", f"{SHEDDING}@all"
_OURS = {*SIGNALS, SERVER_DOWN, CLOUD, CAP, SHEDDING}

#: What is done about an alert that is over.
_OVER = "nothing is done about it any more"


class Alerts(msgspec.Struct, frozen=True):
    """The alerts of a round."""

    all: dict[str, Alert]  # that are open now, by "<name>@<scope>"
    opened: tuple[Alert, ...]
    closed: tuple[Alert, ...]
    investigate: tuple[str, ...]
    reported: dict[str, float]


class _Facts(msgspec.Struct, frozen=True):
    """What an alert says."""

    value: float | None
    threshold: float | None
    action: str
    detail: str


def alerts_after(this: Round, after: Remembered, alarmed: frozenset[str], flow: Flow, shedding: Shedding) -> Alerts:
    """Return the alerts, given all else that `after` holds, and the signals in alert."""
    before, now_s = this.before.alerts, this.now_s
    facts: dict[str, Callable[[], _Facts]] = _present(this, after, alarmed, flow, shedding)
    still = {key: _refreshed(alert, facts[key]().action) if key in facts else alert
             for key, alert in before.items() if key in facts or alert.name not in _OURS}
    opened = {key: _opened(key, find(), now_s) for key, find in facts.items() if key not in before}
    closed = tuple(msgspec.structs.replace(alert, closed_s=now_s, action=_OVER,
                                          detail=_ending(this, after, key, shedding))
                   for key, alert in before.items() if key not in still)
    reported = {key: asked_s for key, asked_s in this.before.reported.items()
                if now_s - asked_s < this.rules.investigate_again_s}
    asked = {key: alert.id for key, alert in opened.items() if key not in reported and _asks(this, alert)}
    return Alerts(all={**still, **opened} if opened else still, opened=tuple(opened.values()), closed=closed,
                  investigate=tuple(asked.values()), reported={**reported, **dict.fromkeys(asked, now_s)})


def _opened(key: str, facts: _Facts, now_s: float) -> Alert:
    name, _, scope = key.partition("@")
    return Alert(id=f"{key}#{round(now_s * 1000)}", name=name, scope=scope, opened_s=now_s, value=facts.value,
                 threshold=facts.threshold, action=facts.action, detail=facts.detail)


def _refreshed(alert: Alert, action: str) -> Alert:
    return alert if alert.action == action else msgspec.structs.replace(alert, action=action)


def _asks(this: Round, alert: Alert) -> bool:
    threshold = this.rules.thresholds.get(alert.name)
    return threshold is not None and threshold.action is Action.INVESTIGATE


def _present(this: Round, after: Remembered, alarmed: frozenset[str], flow: Flow,
             shedding: Shedding) -> dict[str, Callable[[], _Facts]]:
    """Return what there is to know of now: for each, how to put it."""
    facts: dict[str, Callable[[], _Facts]] = {}
    for key in sorted(alarmed):
        facts[key] = partial(_of_signal, this, after, alarmed, key)
    for name, view in after.servers.items():
        if view.standing is Standing.DOWN:
            facts[f"{SERVER_DOWN}@{name}"] = partial(_of_server, this, name)
    if _cloud_is_out(this, after):
        facts[_CLOUD_KEY] = partial(_of_cloud, this, after)
    if after.spend.level is Level.ALERT:
        facts[_CAP_KEY] = partial(_of_cap, this, after, flow)
    if after.shed:
        facts[_SHED_KEY] = partial(_of_shedding, this, shedding)
    return facts


def _cloud_is_out(this: Round, after: Remembered) -> bool:
    """Return whether the cloud cannot be used: from when the breaker opens until it closes, or until MNS has been reached
    for a while with nothing to try it with."""
    if this.cloud is None or after.breaker.state is BreakerState.CLOSED:
        return False
    if after.breaker.state is BreakerState.OPEN:
        return True
    waited = this.now_s - after.breaker.since_s >= this.rules.breaker_open_s
    return _CLOUD_KEY in this.before.alerts and not (this.cloud.reachable is True and waited)


def _of_signal(this: Round, after: Remembered, alarmed: frozenset[str], key: str) -> _Facts:
    name, _, scope = key.partition("@")
    gauge, threshold = after.gauges[key], this.rules.thresholds[name]
    return _Facts(gauge.value, threshold.alert, _action(this, after, alarmed, name, scope),
                  words.standing(name, scope, gauge, threshold))


def _action(this: Round, after: Remembered, alarmed: frozenset[str], name: str, scope: str) -> str:
    """Return what is done about a signal in alert."""
    action = this.rules.thresholds[name].action
    if action is Action.INVESTIGATE:
        return _reported(this, f"{name}@{scope}")
    if action is Action.SCALE_UP:
        asked = wish(this, after.scale) is not None and not after.scale.lowered
        return "the pools at home grow" + (", and another cloud worker is asked for" if asked else "")
    living = {server for server, view in after.servers.items() if view.standing is not Standing.DOWN}
    if name == servers.ERRORS and servers.fails_everywhere(alarmed, living):
        return "nothing is moved: every server that lives fails, so a release or an input is at fault, and no server"
    if scope not in living:
        return f"nothing: nothing is heard of {scope}"
    held = after.hold.get(scope, ())
    if held:
        return f"{scope} takes nothing new of {', '.join(held)}"
    return f"{scope} goes on: nobody else has room for all of its work"


def _reported(this: Round, key: str) -> str:
    """Return what is done about something slow: a report is asked for when its alert opens, unless one was lately."""
    asked_s = this.before.reported.get(key)
    lately = asked_s is not None and this.now_s - asked_s < this.rules.investigate_again_s
    if key in this.before.alerts or lately:
        return "a report of what is slow was asked for"
    return "a report of what is slow is written"


def _of_server(this: Round, name: str) -> _Facts:
    down_s = this.rules.down_after_s
    return _Facts(None, down_s, "its jobs go to others as their leases run out",
                  f"nothing has been heard of {name} for {words.number(down_s)} s or longer; look at its queue worker")


def _of_cloud(this: Round, after: Remembered) -> _Facts:
    breaker = after.breaker
    action = ("one job at a time tries it, and all others stay at home" if breaker.state is BreakerState.HALF_OPEN
              else "jobs stay at home, and those not begun in the cloud come home")
    return _Facts(float(max(breaker.failures, breaker.unreached, breaker.faults)), float(this.rules.breaker_failures),
                  action, f"{cause(breaker)}; the cloud is tried again in "
                          f"{words.number(max(0.0, breaker.until_s - this.now_s))} s")


def _of_cap(this: Round, after: Remembered, flow: Flow) -> _Facts:
    refused = this.rules.at_cap is AtCap.SHED
    action = ("nothing is held back at the moment" if flow.send >= flow.wanted
              else "new jobs are refused while there is an excess" if refused else "the excess waits")
    used = "" if this.cloud is None else _used(this, this.cloud, flow)
    return _Facts(after.spend.value, SPEND.alert, action,
                  f"{words.number(after.spend.value)} % of the caps is used: {used}")


def _used(this: Round, cloud: CloudSignals, flow: Flow) -> str:
    """Return which cap holds jobs back, and what it has let go, this round's included."""
    cap, rules = abroad.tighter(cloud), this.rules
    if cap == abroad.JOBS:
        used = f"{cloud.jobs_minute} jobs in the last minute"
        more, most = f"{flow.send}", f"{rules.cloud_jobs_per_minute}"
    else:
        used = f"{_money(cloud.money_hour)} spent or reserved in the last hour"
        more = f"up to {_money(flow.send * cloud.job_cost)}"
        most = f"{_money(rules.cloud_money_per_hour)}, where a job costs up to {_money(cloud.job_cost)}"
    sent = f", and {more} in this round" if flow.send else ""
    return f"the cap on {cap} holds back what would leave for the cloud, with {used}{sent}, of {most}"


def _money(value: float) -> str:
    return words.number(value, digits=4)


def _of_shedding(this: Round, shedding: Shedding) -> _Facts:
    return _Facts(shedding.wait_s, bound_s(this, max(1, shedding.level)),
                  f"new jobs are refused: {', '.join(LANES[shedding.level])}", why(this, shedding))


def _ending(this: Round, after: Remembered, key: str, shedding: Shedding) -> str:
    """Return how it ended, as a sentence."""
    name, _, scope = key.partition("@")
    gauge, threshold = after.gauges.get(key), this.rules.thresholds.get(name)
    if gauge is not None and threshold is not None:
        return words.standing(name, scope, gauge, threshold)
    if name == SERVER_DOWN:
        return f"{scope} is heard of again" if scope in after.servers else f"{scope} is not in the topology any more"
    if name == CLOUD:
        closed = after.breaker.state is BreakerState.CLOSED
        return "jobs were begun in the cloud again" if closed else "MNS is reached again"
    if name == CAP:
        return f"less than {words.number(SPEND.normal)} % of the caps is used"
    if name == SHEDDING:
        return f"{why(this, shedding)}; all lanes are taken again" if shedding.idle else "all lanes are taken again"
    return f"{words.of(name, scope)} is not watched any more"
