"""What operators set over the topology's rules: how two sets are laid over each other, and whether they fit the rules."""

from collections.abc import Mapping
from typing import Any

from app.errors import SettingsError
from app.routing_rules import Rules

#: What an operator set: by signal, members of its threshold; under "routing", other rules.
Overlay = dict[str, dict[str, Any]]


def merged(under: Mapping[str, Mapping[str, Any]], over: Mapping[str, Mapping[str, Any]]) -> Overlay:
    """Return one set with another over it."""
    return {name: {**under.get(name, {}), **over.get(name, {})} for name in {**under, **over}}


def check_shadow(rules: Rules, mine: Overlay, shadow: Overlay) -> None:
    """Refuse what the second set would not fit any more. Raises `SettingsError`."""
    try:
        rules.changed(merged(mine, shadow))
    except SettingsError as exc:
        raise SettingsError([f"the shadow set over it: {fault}" for fault in exc.faults]) from exc


def fitting(base: Rules, overlay: Overlay) -> Rules:
    """Return the rules with each part of an overlay that they take."""
    for name, members in overlay.items():
        try:
            base = base.changed({name: members})
        except SettingsError:
            continue
    return base
