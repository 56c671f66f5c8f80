"""RESULTS.md: the ratios with their aims, the figures behind them, and what they were measured on."""

from collections.abc import Iterable, Sequence

from ops.bench.figures import Figures
from ops.bench.rows import Ratio, Row
from ops.bench.subjects import SUBJECTS

CHART = "results.svg"

_HEAD = """# Measured

`make bench` writes this file; it is the only place figures are quoted from. Each ratio is of two things measured in turn in
one round on the same machine; the median of the rounds is given, with the lowest and the highest. Where what is added
matters, and not by what factor, it is a difference in ms instead. Absolute figures, further down, mean little elsewhere.
"""


def text(rows: Sequence[Row], figures: Figures, machine: Iterable[tuple[str, str]], hot_path: str) -> str:
    """Return the whole file. `hot_path` tells where the time goes, "" to leave that out."""
    parts = [_HEAD, *(f"- {name}: {value}" for name, value in machine), "", "## Ratios", "",
             *_ratios(rows, figures), "", f"![the ratios and their aims]({CHART})", "",
             "## How, and the figures behind", ""]
    for row in rows:
        parts += [f"**{row.name}, {row.title}**: {row.how}", ""]
    parts += [*_figures(rows, figures), "", "## What was measured", ""]
    parts += [f"- **{name}**: {subject.form}." for name, subject in SUBJECTS.items()
              if any(name in row.subjects for row in rows)]
    return "\n".join(parts + (["", "## Where the time goes", "", hot_path] if hot_path else [])) + "\n"


def _ratios(rows: Sequence[Row], figures: Figures) -> list[str]:
    lines = ["| | what | aim | median | lowest to highest | met |", "|---|---|---|---|---|---|"]
    for row in rows:
        for ratio in row.ratios:
            spread = figures.ratio(row, ratio)
            median, lowest, highest = (ratio.text(value) for value in (spread.median, spread.lowest, spread.highest))
            lines.append(f"| {ratio.name} | {row.title}: {ratio.says} | {ratio.aim} | **{median}** | {lowest} to {highest} "
                         f"| {_verdict(ratio, spread.median)} |")
    return lines


def _verdict(ratio: Ratio, value: float) -> str:
    met = ratio.met(value)
    if met is None:
        return "reported"
    return "yes" if met else f"**no**, {ratio.missed_by(value)}"


def _figures(rows: Sequence[Row], figures: Figures) -> list[str]:
    lines = ["| | subject | figure | median | lowest to highest |", "|---|---|---|---|---|"]
    for row in rows:
        for series, spread in figures.of(row).items():
            lines.append(f"| {row.name} | {series.subject} | {series.figure} | {_number(spread.median)} | "
                         f"{_number(spread.lowest)} to {_number(spread.highest)} |")
    return lines


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"
