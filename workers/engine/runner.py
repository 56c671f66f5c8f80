"""What runs the model, for a batch that changes: prompts come in by chunks, then each step gives every running row a token.

`workers.engine.ragged` runs all rows as one batch; `workers.engine.separate` runs row after row: slower, but right for
every model. `workers.engine.choice` decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from workers.engine.rows import Row

#: Tokens of the text that a model's memory and speed are measured with.
TRIAL_TOKENS = 64


@dataclass(slots=True)
class Prompt:
    """A prompt on its way through the model: `tokens` in all, of which `done` have been read. `held` is what the model
    keeps of those, in the runner's own form, or a `Row` to begin with."""

    tokens: list[int]
    done: int = 0
    held: Any = None
    expected: int = 0  # entries that the row may have in the end

    @property
    def left(self) -> int:
        """Tokens not read yet."""
        return len(self.tokens) - self.done


class Runner(Protocol):
    """Holds the running rows, in the order in which they joined, but for `leave`."""

    #: What is kept of a token of a row that another prompt may begin with, in bytes; 0 where nothing can be kept.
    token_bytes: float

    @property
    def lengths(self) -> Sequence[int]:
        """Entries of each running row."""
        ...

    def read(self, prompts: Sequence[Prompt], most: int) -> torch.Tensor:
        """Read up to `most` tokens more of each prompt; return logits of shape (prompts, vocabulary) after the last."""
        ...

    def fits_together(self, prompts: Sequence[Prompt]) -> bool:
        """Whether these prompts can be read in one go."""
        ...

    def join(self, prompt: Prompt) -> None:
        """Make a prompt that has been read the last of the running rows."""
        ...

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Give each row its next token; return logits of shape (rows, vocabulary)."""
        ...

    def keep(self, at: int, length: int) -> Row | None:
        """A copy of what is held of a row's first tokens, to begin another prompt with; None if that cannot be had."""
        ...

    def needs(self, expected: Sequence[int]) -> float:
        """Memory in bytes for rows that may have so many entries each, when they run together."""
        ...

    def leave(self, at: int) -> None:
        """Remove a row; the last takes its place."""
        ...

    def clear(self) -> None:
        """Remove all rows, in whatever state a failure has left them."""
        ...

    def nbytes(self) -> int:
        """Memory that the running rows take. May be asked from any thread."""
        ...
