"""The command line of the simulator."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from app import topology
from app.errors import SettingsError, TandemError
from app.topology import Topology
from ops.simulate import picture, scale, seconds_file, text, trace
from ops.simulate.simulation import simulate
from ops.simulate.world import World

_TOPOLOGY, _SET = "the topology's rules", "with --set"


def main(arguments: Sequence[str]) -> int:
    """Simulate; return the exit status."""
    try:
        if arguments[:1] == ["scale"]:
            return scale.main(arguments[1:])
        return _simulate(_parser().parse_args(_with_rules(arguments)))
    except TandemError as exc:
        print(exc, file=sys.stderr)
    except OSError as exc:
        print(f"cannot write {exc.filename}: {exc.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was written", file=sys.stderr)
    return 1


def _simulate(chosen: argparse.Namespace) -> int:
    changes = _changes(chosen.set)
    if chosen.compare and not changes:
        raise SettingsError(["--compare needs something to compare with: --set cpu_percent.alert=85"])
    found, plan, world = trace.read(chosen.trace), *_world(chosen)
    rules = [(_TOPOLOGY, plan.rules)] if chosen.compare or not changes else []
    rules += [(_SET, plan.rules.changed(changes))] if changes else []
    runs = [(name, simulate(found, plan, rules=each, world=world), each) for name, each in rules]
    written = text.report([(name, run) for name, run, _ in runs], rules[0][1])
    print(written, end="")
    if chosen.out:
        chosen.out.write_text(written, encoding="utf-8")
    if chosen.csv:
        seconds_file.write(runs[-1][1], chosen.csv)
    if chosen.png:
        picture.draw(runs, chosen.png)
    return 0


def _world(chosen: argparse.Namespace) -> tuple[Topology, World]:
    environ = {**os.environ, **({"TANDEM_TOPOLOGY": str(chosen.topology)} if chosen.topology else {})}
    settings, plan = topology.load(environ, embedded=False)
    options = {each.name: getattr(chosen, each.name) for each in fields(World) if each.name != "settings"}
    faults = [f"--{name.replace('_', '-')} must be a number, 0 or above; got {value}" for name, value in options.items()
              if not 0 <= value < float("inf")]
    if faults:
        raise SettingsError(faults)
    return plan, World(settings=settings, **options)


def _with_rules(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with --cpu_percent.alert=85 as --set cpu_percent.alert=85."""
    found: list[str] = []
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        found += ["--set", argument[2:]] if equals and name.startswith("--") and "." in name else [argument]
    return found


def _changes(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return an operator's changes as `Rules.changed` takes them. Raises `SettingsError`."""
    changes: dict[str, dict[str, Any]] = {}
    for each in given:
        name, equals, value = each.partition("=")
        signal, dot, member = name.partition(".")
        if not (equals and dot and member and value):
            raise SettingsError([f"--set {each}: must be as cpu_percent.alert=85 or routing.target_wait_s=3"])
        changes.setdefault(signal, {})[member] = _number(value)
    return changes


def _number(text: str) -> float | str:
    try:
        return int(text) if text.lstrip("-").isdecimal() else float(text)
    except ValueError:
        return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ops.simulate", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run the routing policy over a load trace in virtual time, with modelled servers and a modelled "
        "cloud.\n`python -m ops.simulate scale` writes the page on scale.", epilog=trace.__doc__)
    parser.add_argument("trace", type=Path, help="a CSV file; see below, and ops/simulate/traces")
    parser.add_argument("--topology", type=Path, help="default: TANDEM_TOPOLOGY, or the checkout's topology.toml")
    parser.add_argument("--set", action="append", default=[], metavar="NAME.MEMBER=VALUE",
                        help="another threshold or rule, as cpu_percent.alert=85 or routing.target_wait_s=3; "
                        "--routing.target_wait_s=3 means the same")
    parser.add_argument("--compare", action="store_true", help="the topology's rules and those of --set, side by side")
    parser.add_argument("--png", type=Path, metavar="FILE", help="write a picture")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the text that is printed also there")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write every second of the (last) run")
    world = parser.add_argument_group("the world, as you guess it")
    for each in fields(World):
        if each.name != "settings":
            world.add_argument("--" + each.name.replace("_", "-"), type=type(each.default), default=each.default,
                               metavar="N", help=f"{each.metadata['meaning']}; default {each.default}".replace("%", "%%"))
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
