"""Signals in sentences, for alerts and the history."""

from app.routing_records import Gauge, Level
from app.routing_rules import Threshold

_NAMES = {"cpu_percent": ("CPU", " %"), "memory_percent": ("memory", " %"), "response_s": ("response time", " s"),
          "error_percent": ("error rate", " %"), "concurrent_users": ("concurrent users", "")}


def number(value: float | None) -> str:
    """Return a value as people write it."""
    return "unknown" if value is None else f"{value:.1f}".removesuffix(".0")


def place(scope: str) -> str:
    """Return "server-1" for a server, and "the whole" for all."""
    return "the whole" if scope == "all" else scope


def standing(name: str, scope: str, gauge: Gauge, threshold: Threshold) -> str:
    """Return how a signal stands with its threshold, as "CPU of server-1 is 93 %, at or above 80 % for 10 s"."""
    label, unit = _NAMES.get(name, (name, ""))
    if gauge.level is Level.ALERT:
        against = f"at or above {number(threshold.alert)}{unit} for {number(threshold.for_s)} s"
    elif gauge.level is Level.WARNING:
        against = f"above {number(threshold.normal)}{unit} for {number(threshold.for_s)} s"
    else:
        against = f"at or below {number(threshold.normal)}{unit} for {number(threshold.hold_s)} s"
    return f"{label} of {place(scope)} is {number(gauge.value)}{unit}, {against}"
