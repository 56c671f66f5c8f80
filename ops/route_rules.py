"""`route set` and `route shadow`: the thresholds and other rules in effect, where they come from, and their change."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import click
import msgspec

from app import routing_view, topology
from app.errors import SettingsError
from app.routing_board import Audited, RoutingBoard
from app.routing_rules import Rules
from app.settings import Settings
from app.store import open_redis
from ops.operator_command import with_settings
from ops.operator_name import operator_name
from ops.route_status import show_shadow
from ops.route_text import moment, table

EFFECT = "it takes effect with the next round, within a second"
_REST = "routing"  # the name of all rules that are no threshold's
_MEMBERS = ("normal", "alert", "for_s", "hold_s", "action")
_LOOKED_AT = 1000  # entries of the audit that are searched for who changed a value


@click.command("set")
@click.argument("name", required=False)
@click.argument("pairs", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--reset", "resets", metavar="NAME", multiple=True, help="Have the topology's values again under this name.")
@with_settings
def set_rules(settings: Settings, name: str | None, pairs: Sequence[str], resets: Sequence[str]) -> None:
    """Change a threshold, as `set cpu_percent alert=85 normal=75`, or another rule, as `set routing target_wait_s=3`; show
    them, with where they come from, without arguments, and one with its name alone."""
    _, plan = topology.load()
    board = RoutingBoard(open_redis(settings))
    if not pairs and not resets:
        _show(board, plan.rules, name)
        return
    if name is not None and not pairs:
        raise click.UsageError("say what to change, as `set cpu_percent alert=85`, or --reset NAME")
    _reset(board, plan.rules, resets, shadow=False)
    if name is not None:
        _set(board, plan.rules, name, pairs, shadow=False)


@click.group("shadow")
def shadow() -> None:
    """A second set of rules, evaluated beside the one in effect and never acted on: set, reset, show."""


@shadow.command("set")
@click.argument("name")
@click.argument("pairs", metavar="KEY=VALUE...", nargs=-1, required=True)
@with_settings
def set_shadow(settings: Settings, name: str, pairs: Sequence[str]) -> None:
    """Change a threshold or rule of the second set; what it does not say is as in effect."""
    _, plan = topology.load()
    _set(RoutingBoard(open_redis(settings)), plan.rules, name, pairs, shadow=True)


@shadow.command("reset")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@with_settings
def reset_shadow(settings: Settings, names: Sequence[str]) -> None:
    """Forget what the second set says under these names, or all of it; without any it is not evaluated any more."""
    _, plan = topology.load()
    board = RoutingBoard(open_redis(settings))
    names = names or sorted(board.own(shadow=True))
    if not names:
        click.echo("there is no shadow set")
    _reset(board, plan.rules, names, shadow=True)


@shadow.command("show")
@with_settings
def show_second(settings: Settings) -> None:
    """Show the second set, and what it would do otherwise."""
    _, plan = topology.load()
    board = RoutingBoard(open_redis(settings))
    second = board.own(shadow=True)
    if not second:
        click.echo("there is no shadow set; `route shadow set cpu_percent alert=85` begins one")
        return
    effective, theirs = board.rules(plan.rules), board.rules(plan.rules, shadow=True)
    table([("RULE", "IN EFFECT", "SHADOW"),
           *((f"{name} {key}", str(_value(effective, name, key)), str(_value(theirs, name, key)))
             for name, members in sorted(second.items()) for key in members)])
    click.echo()
    view = routing_view.read(board, plan.rules, [server.name for server in plan.servers])
    show_shadow(view)


def _set(board: RoutingBoard, rules: Rules, name: str, pairs: Sequence[str], *, shadow: bool) -> None:
    """Change rules. Raises `click.ClickException` with every fault; nothing is changed then."""
    faults: list[str] = []
    members: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (key and equals and text):
            faults.append(f"'{pair}' is not of the form key=value")
        elif key in members:
            faults.append(f"{key} is given twice")
        members[key] = _read(text)
    if fault := _unknown(rules, name):
        faults.append(fault)
    try:
        if not faults:
            board.set({name: members}, rules=rules, who=operator_name(), shadow=shadow)
    except SettingsError as exc:
        faults += exc.faults
    if faults:
        raise click.ClickException("nothing was changed; fix this:" + "".join(f"\n  - {fault}" for fault in faults))
    said = ", ".join(f"{key} {value}" for key, value in members.items())
    click.echo(f"{'in the shadow set' if shadow else 'set'}: {name} {said}; {EFFECT}")


def _unknown(rules: Rules, name: str) -> str:
    """Return what is wrong with a name of rules; empty where there are some."""
    if name == _REST or name in rules.thresholds:
        return ""
    return f"there is no '{name}'; there are: {', '.join([*sorted(rules.thresholds), _REST])}"


def _read(text: str) -> int | float | str:
    """Return a number where the text is one."""
    for kind in (int, float):
        try:
            number = kind(text)
            return number if math.isfinite(number) else text
        except (ValueError, OverflowError):  # no number, or a whole one beyond all that a number may be
            continue
    return text


def _reset(board: RoutingBoard, rules: Rules, names: Sequence[str], *, shadow: bool) -> None:
    known = {*rules.thresholds, _REST, *board.own(shadow=shadow)}
    if strange := [name for name in names if name not in known]:
        raise click.ClickException(f"nothing was changed: there is no {', '.join(map(repr, strange))}; there are: "
                                   f"{', '.join(sorted(known))}")
    gone = board.unset(names, who=operator_name(), shadow=shadow)
    for name in names:
        fact = "reset" if name in gone else "nothing had been set"
        click.echo(f"{'in the shadow set: ' if shadow else ''}{name}: {fact}{f'; {EFFECT}' if name in gone else ''}")


def _show(board: RoutingBoard, base: Rules, only: str | None) -> None:
    """Show the rules in effect, or those under one name."""
    if only is not None and (fault := _unknown(base, only)):
        raise click.ClickException(fault)
    effective, own, audit = board.rules(base), board.own(shadow=False), board.audit(_LOOKED_AT)
    table([("RULE", "TOPOLOGY", "IN EFFECT", "CHANGED BY"),
           *((f"{name} {key}", str(_value(base, name, key)), str(_value(effective, name, key)),
              _changer(audit, name, key) if key in own.get(name, {}) else "-")
             for name, key in _every(base) if only in (None, name))])


def _every(rules: Rules) -> Iterator[tuple[str, str]]:
    yield from ((name, key) for name in rules.thresholds for key in _MEMBERS)
    yield from ((_REST, each.name) for each in fields(rules) if each.name != "thresholds")


def _value(rules: Rules, name: str, key: str) -> Any:
    holder = rules if name == _REST else rules.thresholds.get(name)
    value = getattr(holder, key, "not known here")
    return f"{value:g}" if isinstance(value, int | float) else value


def _changer(audit: Sequence[Audited], name: str, key: str) -> str:
    """Return who gave a value last, and when."""
    for each in audit:
        if each.what == f"set {name}" and _member(each.before, key) != _member(each.after, key):
            return f"{each.who}, {moment(each.at_s)}"
    return "long ago"


def _member(text: str, key: str) -> Any:
    return (msgspec.json.decode(text) or {}).get(key)
