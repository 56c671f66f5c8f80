"""Runs row after row, each on a cache of the model's own kind: for models whose caches compress or forget (DeepSeek-V4,
state-space models), or whose rows would change each other."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import CacheLayerMixin, DynamicCache, LinearAttentionCacheLayerMixin

from workers.engine.runner import Prompt

_BLOCK = 128  # tokens; DeepSeek-V4 compresses so many at a time, and holds most of a row just before


@dataclass(slots=True)
class _Own:
    """A row with a cache of its own: None after a failure, which may have left half a token in it. `logits` is what a step
    has computed for it, until all rows have had theirs."""

    tokens: list[int]
    cache: Any
    logits: torch.Tensor | None = None


class SeparateRunner:
    """Row after row. Nothing of a row can be kept for another."""

    token_bytes = 0.0

    def __init__(self, model: Any, *, whole: bool = False) -> None:
        """`whole`: prompts are read in one pass."""
        self._model = model
        self._own: list[_Own] = []
        self._row_bytes = self._entry_bytes = 0.0
        known = inspect.signature(model.forward).parameters
        self._positions = "position_ids" in known
        self._more: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self._cache_name = "past_key_values" if "past_key_values" in known else "cache_params"  # Mamba's
        #: A state of fixed size takes either a whole prompt or one token more.
        self._by_chunks = not whole and all(
            isinstance(layer, CacheLayerMixin) for layer in DynamicCache(config=model.config).layers)

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

    def keep(self, at: int, length: int) -> None:  # noqa: ARG002 - the protocol's
        """Nothing."""
        return

    def needs(self, expected: Sequence[int]) -> float:
        """For each row what it is as large as, whatever it holds, and what it holds."""
        return sum(self._row_bytes + self._entry_bytes * each for each in expected)

    def measure(self) -> None:
        """Measure what the model keeps of a row, and of a token."""
        short, long = _BLOCK - 1, 3 * _BLOCK - 1
        sizes = {}
        for length in (short, long):
            trial = Prompt([1] * length)
            self.read([trial], length)
            sizes[length] = _held_bytes(vars(trial.held))
        self._entry_bytes = max(sizes[long] - sizes[short], 0) / (long - short)
        self._row_bytes = max(sizes[short] - self._entry_bytes * short, 0.0)

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
        return sum(_held_bytes(vars(cache)) for row in list(self._own) if (cache := row.cache) is not None)

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


def _held_bytes(held: Any) -> int:
    """Memory of the tensors in a cache, however it is built."""
    if isinstance(held, torch.Tensor):
        return held.nbytes
    if isinstance(held, dict):
        return sum(map(_held_bytes, list(held.values())))
    if isinstance(held, list | tuple):
        return sum(map(_held_bytes, list(held)))
    return _held_bytes(vars(held)) if isinstance(held, CacheLayerMixin | LinearAttentionCacheLayerMixin) else 0
