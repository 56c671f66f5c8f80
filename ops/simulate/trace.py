"""Load traces: what comes in, second by second, and what happens to the servers meanwhile.

A trace is a CSV file with a header; lines that begin with # are comments. Columns, of which the first is needed:

    second       when the row begins, counted from 0; rows in order
    for_s        how many seconds it lasts (1)
    jobs         that arrive in each of these seconds; parts of one add up over the seconds (0)
    users        concurrent users at that time (nobody knows)
    service_s    mean run time of a job at home (the world's)
    tokens       of prompt and answer, mean (the world's)
    interactive  share of the jobs in this lane, 0 to 1 (0); the rest is standard
    batch        share of the jobs in this lane (0)
    event        what happens at its beginning; several with ';' between

A second that no row covers has no arrivals. An empty cell means the value in brackets for `for_s` and `jobs`, and for all
others what the row before said. Events: fail:SERVER, back:SERVER, cpu:SERVER=PERCENT, memory:SERVER=PERCENT,
errors:SERVER=PERCENT of its attempts fail, calls:SERVER=SECONDS that its gateway takes to answer (for these four `=off`
ends it), mns-down, mns-up, cloud-down and cloud-up (its workers).
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from app.errors import TandemError

COLUMNS = ("second", "for_s", "jobs", "users", "service_s", "tokens", "interactive", "batch", "event")

#: Events of the whole, and of a server with and without a value.
WHOLE = ("mns-down", "mns-up", "cloud-down", "cloud-up")
PLAIN = ("fail", "back")
VALUED = ("cpu", "memory", "errors", "calls")

_LONGEST_S = 31 * 86_400  # a month: longer is a slip of the pen
_MOST_JOBS = 1_000_000  # in a second, for the same reason
_MOST_FAULTS = 20  # that are listed


class BadTrace(TandemError):
    """The trace cannot be read; the message lists every fault with its line."""

    code = "bad-trace"
    title = "Bad trace"

    def __init__(self, name: str, faults: list[str]) -> None:
        more = [f"and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else []
        super().__init__(f"{name} is no trace; fix this (columns: `python -m ops.simulate --help`):"
                         + "".join(f"\n  - {fault}" for fault in [*faults[:_MOST_FAULTS], *more]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something happens to a server, or to the cloud."""

    what: str
    server: str = ""
    value: float | None = None  # None: none is needed, or it is over


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Some seconds that are alike."""

    second: int
    for_s: int = 1
    jobs: float = 0.0
    users: int | None = None
    service_s: float | None = None
    tokens: float | None = None
    interactive: float = 0.0
    batch: float = 0.0
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Rows in order, none over another."""

    name: str
    rows: tuple[Row, ...]

    @property
    def duration_s(self) -> int:
        """The second after the last one."""
        return self.rows[-1].second + self.rows[-1].for_s

    def check(self, servers: set[str]) -> None:
        """Raises `BadTrace` where an event names a server that is none of these."""
        faults = [f"second {row.second}: there is no server '{event.server}'; there are: {', '.join(sorted(servers))}"
                  for row in self.rows for event in row.events if event.server and event.server not in servers]
        if faults:
            raise BadTrace(self.name, faults)


def read(path: Path) -> Trace:
    """Return the trace of a file. Raises `BadTrace`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise BadTrace(str(path), [str(exc)]) from exc
    return parse(text, name=path.name)


def parse(text: str, *, name: str = "the trace") -> Trace:
    """Return the trace that the text is. Raises `BadTrace`."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1)
             if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise BadTrace(name, ["it is empty"])
    header = [column.strip() for column in next(csv.reader([lines[0][1]]))]
    faults = [f"line {lines[0][0]}: there is no column '{column}'; there are: {', '.join(COLUMNS)}"
              for column in header if column not in COLUMNS]
    if "second" not in header or len(set(header)) < len(header):
        faults.append(f"line {lines[0][0]}: the header must have the column second, and each column once")
    if faults:
        raise BadTrace(name, faults)
    rows = _Rows(faults)
    for number, line in lines[1:]:
        rows.add(number, header, next(csv.reader([line])))
    if not lines[1:]:
        faults.append("there is no row under the header")
    if faults:
        raise BadTrace(name, faults)
    return Trace(name=name, rows=tuple(rows.rows))


@dataclass(slots=True)
class _Rows:
    """Reads rows one after the other, collecting faults instead of stopping at the first."""

    faults: list[str]
    rows: list[Row] = field(default_factory=list)

    def add(self, number: int, header: list[str], cells: list[str]) -> None:
        where = f"line {number}"
        if len(cells) != len(header):
            self.faults.append(f"{where}: {len(cells)} cells under {len(header)} columns")
            return
        found = {column: cell.strip() for column, cell in zip(header, cells, strict=True) if cell.strip()}
        before = self.rows[-1] if self.rows else Row(second=-1)
        row = replace(before, **self.values(found, where), events=self.events(found.get("event", ""), where))
        if "second" not in found:
            self.faults.append(f"{where}: second is missing")
        elif self.rows and row.second < before.second + before.for_s:
            self.faults.append(f"{where}: second {row.second} is before the end of the row above, "
                               f"{before.second + before.for_s}")
        if row.interactive + row.batch > 1:
            self.faults.append(f"{where}: interactive and batch together must be at most 1")
        self.rows.append(row)

    def values(self, found: Mapping[str, str], where: str) -> dict[str, Any]:
        values: dict[str, Any] = {"for_s": 1, "jobs": 0.0}
        for column, least, most, whole in _NUMBERS:
            if column in found and (value := self.number(found[column], f"{where}: {column}", least, most)) is not None:
                values[column] = int(value) if whole else value
                if whole and value != int(value):
                    self.faults.append(f"{where}: {column} must be a whole number; got '{found[column]}'")
        return values

    def events(self, text: str, where: str) -> tuple[Event, ...]:
        events = []
        for part in (part.strip() for part in text.split(";")):
            if not part:
                continue
            match = re.fullmatch(r"([a-z-]+)(?::([a-z0-9-]+))?(?:=(.*))?", part)
            what, server, value = match.groups() if match else ("", None, None)
            if value is None and (what in PLAIN if server else what in WHOLE):
                events.append(Event(what=what, server=server or ""))
            elif what in VALUED and server and value is not None:
                most = 3600 if what == "calls" else 100
                number = None if value == "off" else self.number(value, f"{where}: {part}", 0, most)
                events.append(Event(what=what, server=server, value=number))
            else:
                self.faults.append(f"{where}: the event '{part}' is not known; there are: "
                                   f"{', '.join(f'{each}:SERVER' for each in PLAIN)}, "
                                   f"{', '.join(f'{each}:SERVER=VALUE' for each in VALUED)}, {', '.join(WHOLE)}")
        return tuple(events)

    def number(self, text: str, where: str, least: float, most: float) -> float | None:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            self.faults.append(f"{where} must be a number from {least:g} to {most:g}; got '{text}'")
            return None
        return value


#: Columns of numbers: the least, the most, and whether only whole ones.
_NUMBERS = (("second", 0, _LONGEST_S, True), ("for_s", 1, _LONGEST_S, True), ("jobs", 0, _MOST_JOBS, False),
            ("users", 0, 100_000_000, True), ("service_s", 0.001, 86_400, False), ("tokens", 0, 10_000_000, False),
            ("interactive", 0, 1, False), ("batch", 0, 1, False))
