"""Runs the model, for a batch that changes: prompts come in by chunks, then each step gives every running row a token more.

`RaggedRunner` runs all rows as one batch (`workers.engine.rows`). `SeparateRunner` runs row after row, each on a cache of
the model's own kind: slower, but right for every model, also those whose caches compress or forget (DeepSeek-V4,
state-space models). `choose_runner` decides by the model's configuration, and by trying whether padding changes what the
model says.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers.cache_utils import CacheLayerMixin, DynamicCache

from app import logs
from workers.engine.rows import Row, Rows, holds_ragged_rows

#: How far the logits of a row in a padded batch may be from those of the row alone, as a part of their size. Rounding
#: differs with the shape of a batch; a model that minds padding is off by more than a tenth.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 6e-2}


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

    def keep(self, at: int) -> Row | None:
        """A copy of what is held of a row, to begin another prompt with; None if that cannot be had."""
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


class RaggedRunner:
    """All rows as one batch."""

    def __init__(self, model: Any, *, most_rows: int) -> None:
        self._model = model
        self._device = model.device
        self._most_rows = most_rows
        self._rows = self._fresh(most_rows)

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

    def keep(self, at: int) -> Row:
        """Copy the row."""
        return self._rows.row(at).copy()

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


@dataclass(slots=True)
class _Own:
    """A row with a cache of its own: None after a failure, which may have left half a token in it. `logits` is what a step
    has computed for it, until all rows have had theirs."""

    tokens: list[int]
    cache: Any
    logits: torch.Tensor | None = None


class SeparateRunner:
    """Row after row. Nothing of a row can be kept for another."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._own: list[_Own] = []
        known = inspect.signature(model.forward).parameters
        self._positions = "position_ids" in known
        self._more: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self._cache_name = "past_key_values" if "past_key_values" in known else "cache_params"  # Mamba's
        #: A state of fixed size takes either a whole prompt or one token more.
        self._by_chunks = all(isinstance(layer, CacheLayerMixin) for layer in DynamicCache(config=model.config).layers)

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each running row."""
        return [len(row.tokens) for row in self._own]

    def fits_together(self, prompts: Sequence[Prompt]) -> bool:
        """One prompt at a time."""
        return len(prompts) == 1

    def read(self, prompts: Sequence[Prompt], most: int) -> torch.Tensor:
        """Read on."""
        logits = []
        for prompt in prompts:
            cache, done = prompt.held or self._fresh(), prompt.done
            tokens = prompt.tokens[done:done + (most if self._by_chunks else prompt.left)]
            prompt.held, prompt.done = None, 0  # from the start again, should the model fail
            logits.append(self._run(cache, tokens, done))
            prompt.held, prompt.done = cache, done + len(tokens)
        return torch.cat(logits)

    def join(self, prompt: Prompt) -> None:
        """Take over the prompt's cache."""
        self._own.append(_Own(list(prompt.tokens), prompt.held))

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """A pass for each row."""
        for row, token in zip(self._own, tokens, strict=True):
            if row.logits is None:  # else it has had its token, and another row's failed
                row.logits = self._next(row, token)
        logits = [row.logits for row in self._own]
        for row in self._own:
            row.logits = None
        return torch.cat([each for each in logits if each is not None])

    def _next(self, row: _Own, token: int) -> torch.Tensor:
        """One row's token; where a failure has cost its cache, all of its tokens are read again."""
        cache, row.cache = row.cache, None
        whole = [*row.tokens, token]
        fresh = whole if cache is None else [token]
        cache = self._fresh() if cache is None else cache
        logits = self._run(cache, fresh, len(whole) - len(fresh))
        row.cache, row.tokens = cache, whole
        return logits

    def keep(self, at: int) -> None:  # noqa: ARG002 - the protocol's
        """Nothing."""
        return

    def leave(self, at: int) -> None:
        """Drop the row's cache."""
        last = self._own.pop()
        if at < len(self._own):
            self._own[at] = last

    def clear(self) -> None:
        """Drop all."""
        self._own.clear()

    def nbytes(self) -> int:
        """Memory of the tensors in the caches."""
        caches = [cache for row in list(self._own) if (cache := row.cache) is not None]
        return sum(held.numel() * held.element_size() for cache in caches for layer in cache.layers
                   for held in list(vars(layer).values()) if isinstance(held, torch.Tensor))

    def _fresh(self) -> DynamicCache:
        return DynamicCache(config=self._model.config)

    def _run(self, cache: Any, tokens: Sequence[int], done: int) -> torch.Tensor:
        device = self._model.device
        more = {**self._more, self._cache_name: cache}
        if self._positions:
            more["position_ids"] = torch.arange(done, done + len(tokens), device=device).unsqueeze(0)
        output = self._model(input_ids=torch.tensor([tokens], device=device), use_cache=True, **more)
        logits: torch.Tensor = output.logits[:, -1]
        return logits


@torch.inference_mode()
def choose_runner(model: Any, *, most_rows: int) -> Runner:
    """Return the fastest runner that is right for the model; this runs the model a few times, which warms it, too."""
    why = ""
    known = inspect.signature(model.forward).parameters
    if not {"position_ids", "logits_to_keep"} <= set(known):
        why = "it takes no position_ids"
    elif not holds_ragged_rows(model.config):
        why = "its cache does not keep one entry a token"
    elif (error := padding_error(model)) > _TOLERANCE.get(model.dtype, 1e-3):
        why = f"padding changes its logits by {error:.2g} of their size"
    if not why:
        return RaggedRunner(model, most_rows=most_rows)
    logs.event("rows_run_separately", model=type(model).__name__, why=why)
    return SeparateRunner(model)


def padding_error(model: Any) -> float:
    """Return how far a short row's logits in a batch with a longer one are from those of the row alone, relative to their
    size: after reading, and after one step more."""
    vocabulary = int(model.config.get_text_config().vocab_size)
    texts = [[(7 * at + 3 * row) % vocabulary for at in range(length)] for row, length in enumerate((3, 8))]
    together = RaggedRunner(model, most_rows=2)
    prompts = [Prompt(tokens) for tokens in texts]
    read = together.read(prompts, 8)
    for prompt in prompts:
        together.join(prompt)
    stepped = together.step([5 % vocabulary, 6 % vocabulary])
    alone, cache = SeparateRunner(model), Prompt(texts[0])
    alone_read = alone.read([cache], 8)
    alone.join(cache)
    alone_stepped = alone.step([5 % vocabulary])
    return max(float((a[0].float() - b[0].float()).norm() / b[0].float().norm())
               for a, b in ((read, alone_read), (stepped, alone_stepped)))
