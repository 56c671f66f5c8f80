"""The history: one line for each thing that the policy does otherwise than before, with the values that led to it."""

from app.routing_records import BreakerState, Change, Level, Move, Remembered, Scale, ServerView, Standing
from routing.policy import hold, words
from routing.policy.alerts import Alerts
from routing.policy.breaker import cause
from routing.policy.flow import Flow
from routing.policy.round import Round
from routing.policy.shedding import LANES, Shedding, why
from routing.policy.spend import SPEND


def changes_of(this: Round, after: Remembered, flow: Flow, shedding: Shedding, alerts: Alerts) -> tuple[Change, ...]:
    """Return what changed in this round."""
    lines = [*_levels(this, after), *_servers(this, after), *_holds(this, after), *_cloud(this, after, flow),
             *_moves(this, after, flow), *_limits(this, after, shedding)]
    lines += [("alert", alert.scope, "none", "opened", f"{alert.name}: {alert.detail}") for alert in alerts.opened]
    lines += [("alert", alert.scope, "opened", "closed", f"{alert.name}: {alert.detail}") for alert in alerts.closed]
    return tuple(Change(at_s=this.now_s, what=what, scope=scope, before=before, after=now, why=reason)
                 for what, scope, before, now, reason in lines)


_Line = tuple[str, str, str, str, str]  # what, scope, before, after, why


def _levels(this: Round, after: Remembered) -> list[_Line]:
    lines = []
    for key, gauge in after.gauges.items():
        before = this.before.gauges.get(key)
        level = Level.NORMAL if before is None else before.level
        if gauge.level is not level:
            name, _, scope = key.partition("@")
            lines.append(("level", key, level.value, gauge.level.value,
                          words.standing(name, scope, gauge, this.rules.thresholds[name])))
    return lines


def _servers(this: Round, after: Remembered) -> list[_Line]:
    lines = []
    for name, view in after.servers.items():
        before = this.before.servers.get(name)
        standing = Standing.OPEN if before is None else before.standing
        if view.standing is not standing:
            lines.append(("server", name, standing.value, view.standing.value, _standing(this, standing, view)))
    return lines


def _standing(this: Round, before: Standing, view: ServerView) -> str:
    if view.standing is Standing.DOWN:
        return f"nothing has been heard of it for {words.number(this.rules.down_after_s)} s"
    again = "it is heard of again; " if before is Standing.DOWN else ""
    if view.standing is Standing.SATURATED:
        return f"{again}in alert: {', '.join(view.why)}"
    return f"{again}no signal of it that counts is in alert"


def _holds(this: Round, after: Remembered) -> list[_Line]:
    lines = []
    for name in dict.fromkeys([*this.before.hold, *after.hold]):
        before, now = this.before.hold.get(name, ()), after.hold.get(name, ())
        if before != now:
            view = after.servers.get(name)
            lines.append(("hold", name, _names(before), _names(now), _held(this, after, now, view)))
    return lines


def _names(each: tuple[str, ...]) -> str:
    return ", ".join(each) or "nothing"


def _held(this: Round, after: Remembered, now: tuple[str, ...], view: ServerView | None) -> str:
    if view is None:
        return "it is not in the topology any more"
    if now:
        return f"in alert: {', '.join(view.why)}; {'the cloud' if after.away else 'another server'} can do it"
    if this.before.away and after.away_again_s - this.now_s > hold.AGAIN_S:
        return "all of the model's jobs were left to the cloud, and it stayed as busy"
    return f"it is {view.standing.value}" + ("; nobody else has room for all of its work" if view.why else "")


def _cloud(this: Round, after: Remembered, flow: Flow) -> list[_Line]:
    lines = []
    before, now = this.before.breaker, after.breaker
    if now.state is not before.state:
        lines.append(("breaker", "cloud", before.state.value, now.state.value, _breaker(this, after)))
    if after.share != this.before.share:
        waiting = f"{_waiting(this)}, and {flow.excess} of these are the excess"
        lines.append(("share", "all", f"{this.before.share:.0%}", f"{after.share:.0%}",
                      waiting if now.state is BreakerState.CLOSED else "the breaker is not closed"))
    spend = after.spend
    if spend.level is not this.before.spend.level:
        lines.append(("level", "spend_percent@cloud", this.before.spend.level.value, spend.level.value,
                      f"{words.number(spend.value)} % of the cloud's caps is used; a warning comes above "
                      f"{words.number(SPEND.normal)} %, the alert when jobs are held back"))
    return lines


def _breaker(this: Round, after: Remembered) -> str:
    breaker = after.breaker
    if breaker.state is BreakerState.OPEN:
        return f"{cause(breaker)}; it is tried again in {words.number(breaker.until_s - this.now_s)} s"
    if breaker.state is BreakerState.HALF_OPEN:
        return "its time is over; one job at a time tries it"
    if breaker.successes:
        return f"{breaker.successes} jobs were begun in the cloud"
    return "MNS was reached for long, and there was no job to try it with"


def _moves(this: Round, after: Remembered, flow: Flow) -> list[_Line]:
    return [*_move("send", this.before.sending, after.sending, flow.send, this),
            *_move("recall", this.before.recalling, after.recalling, flow.recall, this)]


def _move(what: str, before: Move | None, now: Move | None, jobs: int, this: Round) -> list[_Line]:
    if before is None and now is not None:
        return [(what, "cloud", "none", "some", f"up to {jobs} at first; {_waiting(this)}")]
    if before is not None and now is None:
        return [(what, "cloud", "some", "none", f"up to {before.jobs} in {before.last_s - before.since_s:.0f} s, "
                                                f"then none for {words.number(this.rules.calm_s)} s")]
    return []


def _waiting(this: Round) -> str:
    return "the queue is not known" if this.queue is None else f"{this.queue.waiting} wait at home"


def wanted(scale: Scale) -> str:
    """Return how the history writes how many cloud workers are wanted."""
    return "as there are" if scale.cloud_workers is None else str(scale.cloud_workers)


def _scaled(this: Round, before: Scale, scale: Scale) -> str:
    if scale.cloud_workers is not None and scale.cloud_workers > (before.cloud_workers or 0):
        return "more would get work"
    if this.cloud is None:
        return "there is no cloud any more"
    if scale.cloud_workers is not None:
        return f"fewer have done for {words.number(this.rules.scale_down_s)} s, or are the most that may be asked for"
    return f"{this.cloud.workers} are there, and none that was asked for is needed any more"


def _limits(this: Round, after: Remembered, shedding: Shedding) -> list[_Line]:
    lines = []
    if after.shed != this.before.shed:
        lines.append(("shed", "all", _names(LANES[this.before.shed]), _names(LANES[after.shed]),
                      why(this, shedding)))
    before, scale = this.before.scale, after.scale
    if scale.grown is not before.grown:
        lines.append(("scale", "home", "grown" if before.grown else "as started", "grown" if scale.grown else "as started",
                      f"{'' if scale.grown else 'no '}signal that asks for more is in alert"))
    if scale.cloud_workers != before.cloud_workers:
        lines.append(("scale", "cloud", wanted(before), wanted(scale), _scaled(this, before, scale)))
    return lines
