"""What `route status` and `route shadow show` print: how routing stands, for people."""

from collections.abc import Iterator
from datetime import datetime

import click

from app.routing_records import Level
from app.routing_view import AlertView, FlowView, RoutingView, ServerStanding, ShadowView, SignalView
from ops.route_text import (
    UNKNOWN,
    amount,
    counted,
    duration,
    lasting,
    moment,
    number,
    percent_of,
    show,
    show_wrapped,
    table,
)

NOBODY = "no queue worker has led for 10 s: look at `route history`, and whether the queue workers live"


def show_status(view: RoutingView) -> None:
    """Show all of it."""
    for name, text in _who(view):
        show(name, text)
    if view.leader is not None:
        _show_round(view)
    for alert in view.alerts:
        show_wrapped("alert", told(alert))
    if not view.alerts:
        show("alert", "none is open")


def show_shadow(view: RoutingView) -> None:
    """Show what the second set does otherwise, beside what is done."""
    shadow = view.shadow
    if shadow is None:
        click.echo("no round with the shadow set has been made yet; it comes with the next one, in a second")
        return
    rows = [("", "now", "shadow")]
    for signal in view.signals:
        name = f"{signal.signal}@{signal.scope}"
        rows.append((f"level {name}", _level(signal), shadow.levels.get(name, UNKNOWN)))
    for server in view.servers:
        rows.append((f"standing {server.server}", server.standing or UNKNOWN,
                     shadow.standings.get(server.server, UNKNOWN)))
    if view.flow:
        rows += [("share", number(view.flow.share), number(shadow.share)),
                 ("sends in this round", str(view.flow.sending), str(shadow.sending))]
    table(rows)
    click.echo(f"since it was set it {_would(shadow)}")
    if shadow.reason:
        click.echo(f"its reason now: {shadow.reason}")


def told(alert: AlertView) -> str:
    """Say an alert in one line."""
    unit = percent_of(alert.name)
    value = number(alert.value) if alert.value is None else number(alert.value) + unit
    against = "" if alert.threshold is None else f" {value} against {number(alert.threshold)}{unit},"
    report = f"; report {alert.investigation}" if alert.investigation else ""
    return f"{alert.name} of {alert.scope}:{against} since {_local(alert.opened_at)}; {alert.action}{report}"


def _who(view: RoutingView) -> Iterator[tuple[str, str]]:
    leader, mode = view.leader, view.mode
    if leader is None:
        yield "leader", NOBODY
    else:
        yield "leader", f"{leader.worker}, for {duration(leader.for_s)} (epoch {leader.epoch})"
    if mode.paused:
        yield "mode", f"PAUSED by {mode.who or UNKNOWN} at {_local(mode.at)}: {mode.why}"
    elif leader is not None:
        yield "mode", "acting" if leader.acting else "not acting: the setting `routing` is off; nothing is moved"


def _show_round(view: RoutingView) -> None:
    show("users", UNKNOWN if view.users is None else str(view.users))
    click.echo()
    table([("SERVER", "STANDING", "FOR", "CPU %", "MEMORY %", "HELD", "WHY"),
           *((server.server, server.standing or UNKNOWN, duration(server.for_s), number(server.cpu_percent),
              number(server.memory_percent), ",".join(server.held) or "-", _why(server)) for server in view.servers)])
    click.echo()
    table([("SIGNAL", "SCOPE", "VALUE", "NORMAL", "ALERT", "LEVEL", "FOR"),
           *((signal.signal, signal.scope, number(signal.value), number(signal.normal), number(signal.alert),
              _level(signal), duration(signal.for_s)) for signal in view.signals)])
    click.echo()
    table([("QUEUE", "WAITING", "RUNNING", "SLOTS", "OLDEST", "ENDED/S", "WAIT AHEAD"),
           *((queue.service, str(queue.waiting), str(queue.running), str(queue.slots), duration(queue.oldest_s),
              number(queue.rate), duration(queue.wait_s)) for queue in view.queues)])
    click.echo()
    for name, text in _flow(view):
        show_wrapped(name, text)


def _flow(view: RoutingView) -> Iterator[tuple[str, str]]:
    flow = view.flow
    if flow and view.breaker:
        part = "all jobs of the model" if flow.away else f"{number(100 * flow.share)} % of the excess"
        yield "flow", f"{_if_acting(view)}{part} to the cloud; {counted(flow.sending, 'job')} in this round"
    if flow:
        yield "" if view.breaker else "flow", flow.reason
    if view.breaker and flow:
        breaker = view.breaker
        again = "" if breaker.tried_in_s is None else f", tried again in {duration(breaker.tried_in_s)}"
        yield "cloud", f"breaker {breaker.state}{lasting(breaker.for_s)}{again}; {_reached(flow)}"
        yield "", (f"{counted(flow.workers, 'worker')} with {counted(flow.slots, 'slot')}; {counted(flow.sent, 'job')} "
                   f"sent and not begun, {_known(flow.running)} running")
    else:
        yield "cloud", "there is none"
    if spend := view.spend:
        yield "spend", (f"this hour {amount(spend.money_hour)} of {amount(spend.money_cap)}; this minute "
                        f"{_known(spend.jobs_minute)} of {spend.jobs_cap} jobs")
    yield from _room(view)


def _room(view: RoutingView) -> Iterator[tuple[str, str]]:
    if view.shed:
        lanes = ", ".join(view.shed.lanes)
        yield "shed", f"new jobs of {lanes} are refused: {view.shed.why}" if lanes else "no lane is refused"
    if view.scale:
        pools = "at their largest" if view.scale.grown else "as they started"
        wanted = "as many as there are" if view.scale.cloud_workers is None else str(view.scale.cloud_workers)
        yield "scale", f"{_if_acting(view)}pools {pools}; cloud workers wanted: {wanted}"
    if view.shadow:
        yield "shadow", f"{_would(view.shadow)}; `route shadow show` compares"


def _if_acting(view: RoutingView) -> str:
    return "" if view.leader and view.leader.acting else "would, if it were acting: "


def _would(shadow: ShadowView) -> str:
    return (f"would have sent jobs in {shadow.rounds_sending} of {counted(shadow.rounds, 'round')} and made "
            f"{counted(shadow.changes, 'change')}")


def _why(server: ServerStanding) -> str:
    return ", ".join(server.why) or "-"


def _level(signal: SignalView) -> str:
    if signal.level is None:
        return UNKNOWN
    text = signal.level.upper() if signal.level is Level.ALERT else str(signal.level)
    return f"{text} (value unknown)" if signal.value is None else text


def _reached(flow: FlowView) -> str:
    if flow.reachable is None:
        return "whether MNS is reached is unknown"
    return "MNS is reached" if flow.reachable else "MNS is NOT reached"


def _known(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)


def _local(at: str | None) -> str:
    return moment(datetime.fromisoformat(at).timestamp() if at else None)
