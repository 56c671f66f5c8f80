"""Runs all rows as one batch, in one rectangle (`workers.engine.rows`)."""

from collections.abc import Sequence
from typing import Any

import torch

from workers.engine.rows import SLACK, Row, Rows, row_room
from workers.engine.runner import TRIAL_TOKENS, Prompt


class RaggedRunner:
    """All rows as one batch."""

    def __init__(self, model: Any, *, most_rows: int) -> None:
        self._model = model
        self._device = model.device
        self._most_rows = most_rows
        self._rows = self._fresh(most_rows)
        self.token_bytes = 0.0

    @property
    def lengths(self) -> Sequence[int]:
        """Entries of each running row."""
        return self._rows.lengths

    def _fresh(self, most_rows: int) -> Rows:
        return Rows(self._model.config, self._device, most_rows=most_rows)

    def fits_together(self, prompts: Sequence[Prompt]) -> bool:
        """Any prompts can be read together, unless padding in the middle of a row would count."""
        return self._rows.gaps_allowed or len(prompts) == 1 or all(prompt.done == 0 for prompt in prompts)

    def read(self, prompts: Sequence[Prompt], most: int) -> torch.Tensor:
        """Read on, in one pass. A prompt alone keeps its rectangle between passes; from several, each takes its row."""
        fresh = [prompt.tokens[prompt.done:prompt.done + most] for prompt in prompts]
        if len(prompts) == 1 and isinstance(prompts[0].held, Rows):
            rows = prompts[0].held
        else:
            rows = self._fresh(len(prompts))
            for prompt in prompts:
                rows.join(_row(prompt), expected=len(prompt.tokens))
        logits = self._run(rows, fresh)
        for at, (prompt, tokens) in enumerate(zip(prompts, fresh, strict=True)):
            prompt.done += len(tokens)
            prompt.held = rows if len(prompts) == 1 else rows.row(at)
        return logits

    def join(self, prompt: Prompt) -> None:
        """Copy the prompt's row into the rectangle."""
        self._rows.join(_row(prompt), expected=prompt.expected)

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """One pass for all rows."""
        return self._run(self._rows, [[token] for token in tokens])

    def keep(self, at: int, length: int) -> Row:
        """Copy the row's beginning."""
        return self._rows.row(at).first(length).copy()

    def needs(self, expected: Sequence[int]) -> float:
        """A rectangle that is as wide as the longest row may get."""
        return row_room(len(expected), self._most_rows) * max(expected) * SLACK * self.token_bytes

    def measure(self) -> None:
        """Measure what the model keeps of a token."""
        trial = Prompt([1] * TRIAL_TOKENS)
        self.read([trial], TRIAL_TOKENS)
        row = _row(trial)
        assert row is not None, "it has been read"
        self.token_bytes = row.nbytes / row.length

    def leave(self, at: int) -> None:
        """Remove the row from the rectangle."""
        self._rows.leave(at)

    def clear(self) -> None:
        """Begin with a new rectangle."""
        self._rows = self._fresh(self._most_rows)

    def nbytes(self) -> int:
        """Memory of the rectangle."""
        return self._rows.nbytes()

    def _run(self, rows: Rows, fresh: Sequence[Sequence[int]]) -> torch.Tensor:
        lengths = [len(tokens) for tokens in fresh]
        most = max(lengths)
        mask = rows.open(lengths)
        padded = torch.tensor([[0] * (most - len(tokens)) + list(tokens) for tokens in fresh], device=self._device)
        positions = torch.tensor([[max(held + at - (most - length), 0) for at in range(most)]
                                  for held, length in zip(rows.lengths, lengths, strict=True)], device=self._device)
        output = self._model(input_ids=padded, position_ids=positions, past_key_values=rows, use_cache=True,
                              attention_mask=None if mask is None else mask.long(), logits_to_keep=1)
        rows.close(lengths)
        logits: torch.Tensor = output.logits[:, -1]
        return logits


def _row(prompt: Prompt) -> Row | None:
    return prompt.held.row(0) if isinstance(prompt.held, Rows) else prompt.held
