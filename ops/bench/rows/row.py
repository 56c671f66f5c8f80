"""What a row is: a question put to some subjects, and the ratios that its figures are quoted as."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple


class Series(NamedTuple):
    """One figure of one subject, over the rounds. The figure's name holds its unit: "submits/s"."""

    subject: str
    figure: str

    def __str__(self) -> str:
        return f"{self.subject} {self.figure}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """One series over another, taken round by round. An aim of None: reported, no more."""

    name: str
    says: str
    over: Series
    under: Series
    at_least: float | None = None
    at_most: float | None = None

    @property
    def aim(self) -> str:
        """The aim in words, "" without one."""
        if self.at_least is not None:
            return f">= {self.at_least:g}x"
        return "" if self.at_most is None else f"<= {self.at_most:g}x"

    def of(self, over: float, under: float) -> float:
        """Return what is quoted of two figures."""
        return over / under

    def text(self, value: float) -> str:
        """Return a value as it is quoted."""
        return f"{value:.2f}x"

    def met(self, value: float) -> bool | None:
        """Say whether a value meets the aim; None without one."""
        short = self.short(value)
        return None if short is None else short <= 0

    def short(self, value: float) -> float | None:
        """Return by what part of the aim a value misses it: 0.1 for 2.7x of 3x; 0 or less where it is met."""
        if self.at_least is not None:
            return 1 - value / self.at_least
        return None if self.at_most is None else value / self.at_most - 1


    def missed_by(self, value: float) -> str:
        """Say by how much a value that is not good enough misses the aim."""
        return f"{self.short(value):.1%} short"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Ratio):
    """One series less another, in ms, where what is added matters and not by what factor."""

    @property
    def aim(self) -> str:
        """The aim in words, "" without one."""
        return "" if self.at_most is None else f"<= {self.at_most:+g} ms"

    def of(self, over: float, under: float) -> float:
        """Return what is quoted of two figures."""
        return over - under

    def text(self, value: float) -> str:
        """Return a value as it is quoted."""
        return f"{value:+.1f} ms"

    def short(self, value: float) -> float | None:
        """Return by how many ms a value misses the aim."""
        return None if self.at_most is None else value - self.at_most

    def missed_by(self, value: float) -> str:
        """Say by how much a value that is not good enough misses the aim."""
        return f"{self.short(value):.1f} ms too long"


#: Asks a running subject, for about so many seconds where the row is one of seconds; returns its figures by name. Raises
#: `NotAsPromised`. Which kind of subject it takes, a `JobServer` or a `Writer`, is the row's affair.
Measure = Callable[[Any, float], dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A question. `how` is one sentence for the reader of the results."""

    name: str
    title: str
    how: str
    subjects: tuple[str, ...]
    measure: Measure
    ratios: tuple[Ratio, ...]
