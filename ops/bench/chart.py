"""results.svg: each ratio as a bar to its median, with the spread of the rounds and the aim. Differences have a scale of
their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ops.bench.figures import Figures, Spread
from ops.bench.rows import Ratio, Row

_LABELS, _BARS, _VALUES = 460, 420, 230  # widths of the three columns, in px
_LINE, _TOP = 34, 46
_COLOURS = {True: "#2f7d5b", False: "#c2571a", None: "#7a7f87"}


@dataclass(frozen=True, slots=True)
class _Bar:
    """A ratio to draw."""

    row: Row
    ratio: Ratio
    spread: Spread


def svg(rows: Sequence[Row], figures: Figures) -> str:
    """Return the picture."""
    bars = [_Bar(row, ratio, figures.ratio(row, ratio)) for row in rows for ratio in row.ratios]
    width, height = _LABELS + _BARS + _VALUES, _TOP + _LINE * len(bars) + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="13" fill="#24292f">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        '<text x="14" y="24" font-weight="bold">Ratios: median of the rounds, lowest to highest; dashed: the aim</text>']
    for number, bar in enumerate(bars):
        longest = max(max(other.spread.highest, other.ratio.at_least or 0, other.ratio.at_most or 0)
                      for other in bars if type(other.ratio) is type(bar.ratio))
        parts += _drawn(bar, _TOP + _LINE * number, _BARS / longest if longest > 0 else 0)
    return "\n".join([*parts, "</svg>", ""])


def _drawn(bar: _Bar, top: float, scale: float) -> list[str]:
    spread, middle = bar.spread, top + _LINE / 2
    low, end, high = (_LABELS + max(value, 0) * scale for value in (spread.lowest, spread.median, spread.highest))
    colour = _COLOURS[bar.ratio.met(spread.median)]
    label = f"{bar.ratio.name}  {bar.row.title}: {bar.ratio.says.removeprefix('Tandem ').replace('`', '')}"
    aim = f" (aim {bar.ratio.aim})" if bar.ratio.aim else ""
    parts = [
        f'<text x="{_LABELS - 10}" y="{middle + 4:.1f}" text-anchor="end">{escape(label)}</text>',
        f'<rect x="{_LABELS}" y="{middle - 8:.1f}" width="{end - _LABELS:.1f}" height="16" fill="{colour}"/>',
        f'<path d="M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {middle - 5:.1f}v10M{high:.1f} {middle - 5:.1f}v10" '
        'stroke="#24292f" fill="none"/>',
        f'<text x="{_LABELS + _BARS + 14}" y="{middle + 4:.1f}">{escape(bar.ratio.text(spread.median) + aim)}</text>']
    level = bar.ratio.at_least or bar.ratio.at_most
    if level:
        x = _LABELS + level * scale
        parts.append(f'<path d="M{x:.1f} {middle - 13:.1f}v26" stroke="#24292f" stroke-width="2" stroke-dasharray="4 2"/>')
    return parts
