"""`celery -A workers route ...`: how work is routed, why, and what operators change about it."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import click
import msgspec
import redis

from app import routing_view, topology
from app.errors import JobGone, JobUnknown, TandemError
from app.job import Service, is_job_id, model_part
from app.ledger import Ledger
from app.routing_board import RoutingBoard
from app.routing_records import Change
from app.settings import Settings
from app.store import open_redis
from ops import route_now, route_rules, route_story
from ops.operator_command import reason, with_settings
from ops.operator_name import operator_name
from ops.route_investigations import investigate, investigation
from ops.route_status import NOBODY, show_status, told
from ops.route_text import UNKNOWN, moment

_LOOK_EVERY_S = 1.0  # while following: a round is made each second
_SCOPE = 24  # columns: "memory_percent@server-10"
_COMPLETION = "chatcmpl-"  # stands before a job's id where OpenAI's clients see it
_AT_ONCE = 1000  # changes that are shown of one look, while following


class RouteError(TandemError):
    """What was asked for cannot be shown."""


@click.group(name="route")
def route() -> None:
    """Routing: status, explain, history, alerts, audit, set, shadow, pause, resume, investigate, investigation."""


route.add_command(route_rules.set_rules)
route.add_command(route_rules.shadow)
route.add_command(investigate)
route.add_command(investigation)


@route.command("status")
@click.option("--json", "as_json", is_flag=True, help="As `/v1/status` has it under `routing`, for programs.")
@with_settings
def status(settings: Settings, as_json: bool) -> None:
    """Show signals, servers, queues, what leaves for the cloud and what that costs, alerts, and who leads."""
    _, plan = topology.load()
    board = RoutingBoard(open_redis(settings))
    view = routing_view.read(board, plan.rules, [server.name for server in plan.servers])
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(view)).decode())
        return
    show_status(view)


@route.command("explain")
@click.argument("job_id", metavar="JOB")
@with_settings
def explain(settings: Settings, job_id: str) -> None:
    """Tell where a job is, why, how it moved between here and the cloud, and where its time went."""
    job_id = job_id.removeprefix(_COMPLETION)
    if not is_job_id(job_id):
        raise RouteError(f"'{job_id[:60]}' is no id of a job: those are as 0198c0de-0000-7000-8000-000000000000")
    client = open_redis(settings)
    ledger = Ledger(client, settings)
    _tell(client, ledger, job_id, "job")
    if ledger.read(job_id).service is not Service.CHAT:
        return
    click.echo()
    try:
        _tell(client, ledger, model_part(job_id), "model part")
    except JobUnknown:
        click.echo("model part it has not asked the model")
    except JobGone:
        click.echo("model part its record is past retention")


def _tell(client: redis.Redis, ledger: Ledger, job_id: str, name: str) -> None:
    job = ledger.read(job_id)
    seconds, micros = client.time()
    moved = route_story.moves(client.hget(f"job:{job_id}", "moves"))
    board = RoutingBoard(client)
    now = route_now.stands(job, board.shown(), board.mode())
    route_story.tell(job, moved, int(seconds) * 1000 + int(micros) // 1000, name=name, now=now)


@route.command("history")
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many.")
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@with_settings
def history(settings: Settings, count: int, follow: bool) -> None:
    """Show what the routing task changed, oldest first, and why."""
    board = RoutingBoard(open_redis(settings))
    found = board.history(count)
    for _, change in reversed(found):
        click.echo(_line(change))
    if not found and not follow:
        click.echo("nothing has changed yet")
    if follow:
        with suppress(KeyboardInterrupt):  # that is how it ends
            for change in followed(board, found[0][0] if found else "0-0"):
                click.echo(_line(change))


def followed(board: RoutingBoard, after: str, *, pause: Callable[[float], object] = time.sleep) -> Iterator[Change]:
    """Yield changes as they come, after an id. Raises `StoreUnavailable`."""
    while True:
        for entry_id, change in reversed(board.history(_AT_ONCE, after=after)):
            after = entry_id
            yield change
        pause(_LOOK_EVERY_S)


def _line(change: Change) -> str:
    step = f"{change.before or '-'} -> {change.after or '-'}"
    return f"{moment(change.at_s)}  {change.what:6} {change.scope:{_SCOPE}}  {step}: {change.why}"


@route.command("alerts")
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many past ones.")
@with_settings
def alerts(settings: Settings, count: int) -> None:
    """Show the alerts that are open, then those that opened and closed, newest first."""
    board = RoutingBoard(open_redis(settings))
    found = board.open_alerts()
    for alert in found:
        click.echo(f"OPEN    {told(routing_view.of_alert(alert))}")
        click.echo(f"        {alert.detail}")
    if not found:
        click.echo("no alert is open")
    for _, event in board.alerts(count):
        at_s = event.alert.closed_s if event.event == "closed" else event.alert.opened_s
        click.echo(f"{moment(at_s)}  {event.event:7} {event.alert.name} of {event.alert.scope}: {event.alert.detail}")


@route.command("audit")
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many.")
@with_settings
def audit(settings: Settings, count: int) -> None:
    """Show what operators changed, newest first: who, what, from what to what."""
    found = RoutingBoard(open_redis(settings)).audit(count)
    for each in found:
        click.echo(f"{moment(each.at_s)}  {each.who}  {each.what}: {_value(each.before)} -> {_value(each.after)}")
    if not found:
        click.echo("nothing was changed yet")


def _value(text: str) -> str:
    return "-" if text == "null" else text


@route.command("pause")
@click.option("--why", required=True, callback=reason, help="Kept, and shown to whoever looks.")
@with_settings
def pause(settings: Settings, why: str) -> None:
    """Move nothing any more; signals, levels and alerts go on. What is in the cloud stays there, and ends."""
    board = RoutingBoard(open_redis(settings))
    mode = board.mode()
    board.pause(operator_name(), why)
    if mode.paused:
        click.echo(f"it is paused already, by {mode.who or UNKNOWN} since {moment(mode.at_s)}: {mode.why}; now: {why}")
    else:
        click.echo(f"paused; {_effect(board)}")


@route.command("resume")
@with_settings
def resume(settings: Settings) -> None:
    """Move work again."""
    board = RoutingBoard(open_redis(settings))
    if not board.mode().paused:
        click.echo("it is not paused")
        return
    board.resume(operator_name())
    click.echo(f"resumed; {_effect(board)}")


def _effect(board: RoutingBoard) -> str:
    """Say when it takes effect."""
    return route_rules.EFFECT if board.shown() else f"it takes effect when one leads; {NOBODY}"

