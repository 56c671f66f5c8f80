"""How `celery -A workers route` writes values for people: tables, durations, numbers. What is not known is "unknown"."""

import textwrap
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

UNKNOWN = "unknown"
WIDTH = 100  # columns
_NAME = 10  # of the names in front of lines
_SMALL = 0.01  # of which two decimals would leave nothing
_IN_FULL = 100  # below which amounts have four digits
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def show(name: str, text: str) -> None:
    """Show a line under its name."""
    click.echo(f"{name:{_NAME}} {text}")


def show_wrapped(name: str, text: str, *, indent: int = 0) -> None:
    """Show a text under its name in as many lines as it takes; none for an empty one."""
    for index, line in enumerate(textwrap.wrap(text, WIDTH - _NAME - 1 - indent)):
        show("" if index else name, " " * indent + line)


def table(rows: Sequence[Sequence[str]]) -> None:
    """Show rows, the first of which is the head, in columns; the last one may be long."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [f"{cell:{width}}" for cell, width in zip(row[:-1], widths, strict=True)]
        click.echo("  ".join([*cells, row[-1]]).rstrip())


def number(value: float | None) -> str:
    """Write a number with at most two decimals, without needless zeros; a very small one with two digits."""
    if value is None:
        return UNKNOWN
    if 0 < abs(value) < _SMALL:
        return f"{value:.2g}"
    text = f"{value:.2f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def amount(value: float | None) -> str:
    """Write an amount of money, in full below 100: of small ones each digit counts."""
    return number(value) if value is None or abs(value) >= _IN_FULL else f"{value:.4g}"


def percent_of(name: str) -> str:
    """Return the unit of the values of a signal or an alert, where that is percent."""
    return " %" if name.endswith("_percent") or name == "spend-cap" else ""


def counted(count: int | None, noun: str) -> str:
    """Write how many there are of something."""
    return f"{UNKNOWN if count is None else count} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """Write how long something is, with one decimal below ten seconds."""
    if seconds is None:
        return UNKNOWN
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 2 * _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    return f"{seconds / _HOUR_S:.0f} h" if seconds < 2 * _DAY_S else f"{seconds / _DAY_S:.0f} d"


def exactly(seconds: float) -> str:
    """Write how long something is, to the second below two hours."""
    if not 2 * _MINUTE_S <= seconds < 2 * _HOUR_S:
        return duration(seconds)
    minutes, rest = divmod(round(seconds), _MINUTE_S)
    return f"{minutes} min {rest} s"


def lasting(seconds: float | None) -> str:
    """Write for how long something has been so; nothing where it always was."""
    return "" if seconds is None else f" for {duration(seconds)}"


def moment(at_s: float | None) -> str:
    """Write a time of the day, of this machine's zone, with the date where it is not today's."""
    if at_s is None:
        return UNKNOWN
    at = datetime.fromtimestamp(at_s).astimezone()
    today = datetime.fromtimestamp(time.time()).astimezone().date()
    return at.strftime("%H:%M:%S" if at.date() == today else "%Y-%m-%d %H:%M:%S")


def members(values: dict[str, Any]) -> str:
    """Write what a JSON object says, in a line."""
    return ", ".join(f"{name} {number(value) if value is None or _is_number(value) else value}"
                     for name, value in values.items())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
