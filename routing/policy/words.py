"""Signals in sentences, for alerts and the history."""

import math

from app.routing_records import Gauge, Level
from app.routing_rules import Threshold

_NAMES = {"cpu_percent": ("CPU", " %"), "memory_percent": ("memory", " %"), "response_s": ("response time", " s"),
          "error_percent": ("error rate", " %"), "concurrent_users": ("concurrent users", "")}


def number(value: float | None, *, digits: int = 3) -> str:
    """Return a value as people write it: to a tenth, and a small one with so many digits that count."""
    if value is None:
        return "unknown"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(1, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}".rstrip("0").removesuffix(".")


def of(label: str, scope: str) -> str:
    """Return "CPU of server-1" for a server, and the label alone for the whole."""
    return label if scope == "all" else f"{label} of {scope}"


def standing(name: str, scope: str, gauge: Gauge, threshold: Threshold) -> str:
    """Return how a signal stands with its threshold, as "CPU of server-1 is 93 %, at or above 80 % for 10 s"."""
    label, unit = _NAMES.get(name, (name, ""))
    if gauge.level is Level.ALERT:
        against = f"at or above {number(threshold.alert)}{unit} for {number(threshold.for_s)} s"
    elif gauge.level is Level.WARNING:
        against = f"above {number(threshold.normal)}{unit} for {number(threshold.for_s)} s"
    else:
        against = f"at or below {number(threshold.normal)}{unit} for {number(threshold.hold_s)} s"
    is_ = "are" if name == "concurrent_users" else "is"
    return f"{of(label, scope)} {is_} {number(gauge.value)}{unit}, {against}"
