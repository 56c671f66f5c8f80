"""What became of an attempt at a message."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt went. `error` may hold what the receiver says, so it may repeat the hook's secret."""

    error: str = ""  # empty: the message is delivered
    refused: bool = False  # the receiver will not have it, and another try is likely to be refused, too
    retry_after_s: float | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver has it."""
        return not self.error
