"""The figures of a run, by row and series, and what is quoted from them."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ops.bench.rows import Ratio, Row, Series


@dataclass(frozen=True, slots=True)
class Spread:
    """The values of several rounds in short."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


class Figures:
    """Collects what the rows measured, a value for each round."""

    def __init__(self) -> None:
        self._values: dict[str, dict[Series, list[float]]] = {}
        #: How busy the machine was, in per cent of all processors, each time when nothing of ours was running.
        self.busy_percent: list[float] = []

    def add(self, row: Row, subject: str, figures: Mapping[str, float]) -> None:
        """Take up one round's figures of a row and subject."""
        series = self._values.setdefault(row.name, {})
        for figure, value in figures.items():
            series.setdefault(Series(subject, figure), []).append(value)

    def of(self, row: Row) -> dict[Series, Spread]:
        """Return the row's series."""
        return {series: Spread.of(values) for series, values in self._values[row.name].items()}

    def ratio(self, row: Row, ratio: Ratio) -> Spread:
        """Return a ratio, made round by round, so that what slowed a whole round down cancels out."""
        series = self._values[row.name]
        pairs = zip(series[ratio.over], series[ratio.under], strict=True)
        return Spread.of([ratio.of(over, under) for over, under in pairs])
