"""How routing stands, in the form that operators are shown everywhere: `/v1/status`, `route status --json` and the console.
None stands for what is not known.

Promises: one round, with the mode, the alerts and the caps of the moment. Without a leader that speaks, only these are
there. Durations end in `_s`; times of the day are RFC 3339.
"""

from collections.abc import Iterable, Mapping

import msgspec

from app.job import timestamp
from app.routing_board import Mode, RoutingBoard
from app.routing_records import Alert, BreakerState, Change, Gauge, Level, Remembered, Shadow, Shed, Shown, Standing
from app.routing_rules import SIGNALS, Rules, Threshold
from app.signals import ServerSignals, Times

#: The one that is of the whole, and not of each server.
_OF_ALL, _ALL = SIGNALS[-1], "all"


class SignalView(msgspec.Struct, frozen=True, kw_only=True):
    """A signal against its threshold in effect. The level is null where nothing was ever above normal, and the value is not
    known now."""

    signal: str
    scope: str  # the server, or "all"
    value: float | None
    normal: float
    alert: float
    level: Level | None
    for_s: float | None


class ServerStanding(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a server takes new work, since when, and which signals keep it from that; the services of which it takes
    nothing new; how busy the CPUs behind each processor are; how long its gateway took in the last minute, for calls that
    wait for no job, and until the first word of answers that do. Null: not known."""

    server: str
    standing: Standing | None
    for_s: float | None
    why: list[str]
    held: list[str]
    cpu_percent: float | None
    memory_percent: float | None
    processors: dict[str, float]
    calls: Times | None
    answers: Times | None


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """A service's queue at home: `rate` is jobs that end in a second, `wait_s` is estimated for a job that comes last."""

    service: str
    waiting: int
    running: int
    slots: int
    oldest_s: float
    rate: float | None
    wait_s: float | None


class BreakerView(msgspec.Struct, frozen=True, kw_only=True):
    """The breaker before the cloud; while it is open, `tried_in_s` says when it is tried again."""

    state: BreakerState
    for_s: float | None
    tried_in_s: float | None
    failures: int


class FlowView(msgspec.Struct, frozen=True, kw_only=True):
    """What leaves for the cloud: the share of the excess in one round, or, while every server is saturated, all (`away`);
    jobs sent and recalled now, which happens only while the leader acts; and what is out there."""

    share: float
    away: bool
    sending: int
    recalling: int
    reason: str
    reachable: bool | None
    workers: int | None
    slots: int | None
    sent: int | None
    running: int | None


class SpendView(msgspec.Struct, frozen=True, kw_only=True):
    """What the cloud costs, against the caps in effect."""

    money_hour: float | None
    money_cap: float
    jobs_minute: int | None
    jobs_cap: int


class ShedView(msgspec.Struct, frozen=True, kw_only=True):
    """Lanes of which new jobs are refused."""

    lanes: list[str]
    retry_after_s: int
    why: str


class ScaleView(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the pools at home have their largest size, and how many cloud workers are wanted (none: as there are)."""

    grown: bool
    cloud_workers: int | None
    for_s: float | None


class AlertView(msgspec.Struct, frozen=True, kw_only=True):
    """An alert. `investigation` is the id of its report."""

    id: str
    name: str
    scope: str
    opened_at: str | None
    closed_at: str | None
    value: float | None
    threshold: float | None
    action: str
    detail: str
    investigation: str | None


class ChangeView(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the history."""

    at: str | None
    what: str
    scope: str
    before: str
    after: str
    why: str


class ShadowView(msgspec.Struct, frozen=True, kw_only=True):
    """What the second set of thresholds does otherwise: rounds since it was set, those of them in which it would have sent
    jobs, changes that it would have made, and how things would stand."""

    rounds: int
    rounds_sending: int
    changes: int
    share: float
    sending: int
    levels: dict[str, Level]  # of "<signal>@<scope>"
    standings: dict[str, Standing]
    reason: str


class LeaderView(msgspec.Struct, frozen=True, kw_only=True):
    """The queue worker that leads. `acting` is false while it is paused, or the setting `routing` is off."""

    worker: str
    epoch: int
    for_s: float | None
    at: str | None  # of its last round
    acting: bool


class ModeView(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an operator has paused routing."""

    paused: bool
    who: str
    why: str
    at: str | None


class RoutingView(msgspec.Struct, frozen=True, kw_only=True):
    """How routing stands. `leader`, and all that it says, is null or empty where none has spoken for 10 s."""

    leader: LeaderView | None
    mode: ModeView
    users: int | None
    signals: list[SignalView]
    servers: list[ServerStanding]
    queues: list[QueueView]
    flow: FlowView | None
    breaker: BreakerView | None
    spend: SpendView | None
    shed: ShedView | None
    scale: ScaleView | None
    alerts: list[AlertView]
    shadow: ShadowView | None


def read(board: RoutingBoard, base: Rules, servers: Iterable[str]) -> RoutingView:
    """Return how it stands, where the topology has these rules and servers. Raises `StoreUnavailable`."""
    shown, mode, alerts = board.shown(), board.mode(), board.open_alerts()
    if shown is None:
        return RoutingView(leader=None, mode=_mode(mode), users=None, signals=[], servers=[], queues=[], flow=None,
                           breaker=None, spend=None, shed=None, scale=None, alerts=list(map(of_alert, alerts)), shadow=None)
    return of_round(shown, board.rules(base), list(servers), mode=mode, alerts=alerts, led_since_s=board.led_since_s())


def of_round(shown: Shown, rules: Rules, servers: list[str], *, mode: Mode, alerts: list[Alert],
             led_since_s: float | None) -> RoutingView:
    """Return how it stood in a round."""
    now_s, remembered, cloud = shown.at_ms / 1000, shown.remembered, shown.signals.cloud
    shed = shown.decision.shed if shown.acting else Shed()
    return RoutingView(
        leader=LeaderView(worker=shown.leader, epoch=shown.epoch, for_s=_ago(led_since_s, now_s),
                          at=timestamp(shown.at_ms), acting=shown.acting),
        mode=_mode(mode), users=shown.signals.users, signals=_signals(remembered, rules, servers, now_s),
        servers=[_standing(name, shown, now_s) for name in servers],
        queues=[QueueView(service=name, waiting=queue.waiting, running=queue.running, slots=queue.slots,
                          oldest_s=queue.oldest_s, rate=queue.rate, wait_s=queue.wait_s)
                for name, queue in shown.signals.queues.items()],
        flow=_flow(shown), breaker=_breaker(remembered, now_s) if cloud else None,
        spend=SpendView(money_hour=cloud.money_hour, money_cap=rules.cloud_money_per_hour, jobs_minute=cloud.jobs_minute,
                        jobs_cap=rules.cloud_jobs_per_minute) if cloud else None,
        shed=ShedView(lanes=list(shed.lanes), retry_after_s=shed.retry_after_s, why=shed.why),
        scale=ScaleView(grown=remembered.scale.grown, cloud_workers=remembered.scale.cloud_workers,
                        for_s=_ago(remembered.scale.since_s, now_s)),
        alerts=list(map(of_alert, alerts)), shadow=_shadow(shown.shadow) if shown.shadow else None)


def of_alert(alert: Alert) -> AlertView:
    """Return an alert as it is shown."""
    return AlertView(id=alert.id, name=alert.name, scope=alert.scope, opened_at=_at(alert.opened_s),
                     closed_at=_at(alert.closed_s), value=alert.value, threshold=alert.threshold, action=alert.action,
                     detail=alert.detail, investigation=alert.investigation)


def of_change(change: Change) -> ChangeView:
    """Return a line of the history as it is shown."""
    return ChangeView(at=_at(change.at_s), what=change.what, scope=change.scope, before=change.before, after=change.after,
                      why=change.why)


def _signals(remembered: Remembered, rules: Rules, servers: list[str], now_s: float) -> list[SignalView]:
    each = [(name, scope) for scope in servers for name in rules.thresholds if name != _OF_ALL]
    whole = [(_OF_ALL, _ALL)] if _OF_ALL in rules.thresholds else []
    return [_signal(name, scope, remembered.gauges, rules.thresholds[name], now_s) for name, scope in each + whole]


def _signal(name: str, scope: str, gauges: Mapping[str, Gauge], threshold: Threshold, now_s: float) -> SignalView:
    gauge = gauges.get(f"{name}@{scope}", Gauge())
    known = gauge.value is not None or gauge.level is not Level.NORMAL
    return SignalView(signal=name, scope=scope, value=gauge.value, normal=threshold.normal, alert=threshold.alert,
                      level=gauge.level if known else None, for_s=_ago(gauge.since_s, now_s) if known else None)


def _standing(name: str, shown: Shown, now_s: float) -> ServerStanding:
    view, measured = shown.remembered.servers.get(name), shown.signals.servers.get(name)
    told = measured or ServerSignals(server=name, at_ms=0)
    return ServerStanding(
        server=name, standing=view.standing if view else None, for_s=_ago(view.since_s, now_s) if view else None,
        why=list(view.why) if view else [], held=list(told.held), cpu_percent=told.cpu_percent,
        memory_percent=told.memory_percent, processors=told.processors, calls=told.calls,
        answers=told.answers)


def _flow(shown: Shown) -> FlowView:
    cloud, decision = shown.signals.cloud, shown.decision
    return FlowView(share=shown.remembered.share, away=shown.remembered.away, sending=decision.send,
                    recalling=decision.recall, reason=decision.reason,
                    reachable=cloud.reachable if cloud else None, workers=cloud.workers if cloud else None,
                    slots=cloud.slots if cloud else None, sent=cloud.sent if cloud else None,
                    running=cloud.running if cloud else None)


def _breaker(remembered: Remembered, now_s: float) -> BreakerView:
    breaker = remembered.breaker
    waits = breaker.state is BreakerState.OPEN
    return BreakerView(state=breaker.state, for_s=_ago(breaker.since_s, now_s), failures=breaker.failures,
                       tried_in_s=round(max(breaker.until_s - now_s, 0.0), 1) if waits else None)


def _shadow(shadow: Shadow) -> ShadowView:
    remembered = shadow.remembered
    return ShadowView(
        rounds=shadow.rounds, rounds_sending=shadow.rounds_sending, changes=shadow.changes, share=remembered.share,
        sending=shadow.decision.send,
        levels={name: gauge.level for name, gauge in remembered.gauges.items()},
        standings={name: view.standing for name, view in remembered.servers.items()}, reason=shadow.decision.reason)


def _mode(mode: Mode) -> ModeView:
    return ModeView(paused=mode.paused, who=mode.who, why=mode.why, at=_at(mode.at_s))


def _ago(since_s: float | None, now_s: float) -> float | None:
    """How long ago it was; None where it is not known, which the records write as 0."""
    return round(max(now_s - since_s, 0.0), 1) if since_s else None


def _at(at_s: float | None) -> str | None:
    return timestamp(None if at_s is None else round(at_s * 1000))
