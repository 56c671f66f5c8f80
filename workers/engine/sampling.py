"""Picks the next tokens of a batch from its logits, each row by its own request's parameters.

Order: penalties, then temperature, top_k, top_p, min_p; that of transformers and vLLM. Each request has random numbers of
its own, one a token, so what it gets for a seed does not depend on what else is in the batch.

Sources: repetition penalty, Keskar et al. 2019 (CTRL), 4.1; presence and frequency penalty, OpenAI's API reference ("logits
are lowered by ..."); min_p, Nguyen et al. 2024; drawing by the inverse of the distribution function.
"""

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from app.inputs import Sampling

_COLDEST = 1e-5  # below it only the likeliest token is left anyway, and logits / temperature overflow float32
_FEW = 256  # likeliest tokens of a row; only where these do not decide is the whole vocabulary sorted, which costs far more


class Logprobs(NamedTuple):
    """Natural logarithms of the model's own distribution: of the token picked, and of the likeliest tokens, best first."""

    picked: float
    top: list[tuple[int, float]]


class Picker:
    """One request's way of picking: its parameters, its random numbers, and what it has said so far."""

    def __init__(self, wanted: Sampling, prompt: Sequence[int], defaults: Any = None) -> None:
        """`defaults` is a model's generation_config, for what the request leaves out."""
        def given(name: str, neutral: float) -> float:
            value = getattr(wanted, name)
            if value is None and defaults is not None:
                value = getattr(defaults, name, None)
            return float(neutral if value is None else value)

        self.temperature = given("temperature", 1.0)
        self.top_k = int(given("top_k", 0))
        self.top_p = given("top_p", 1.0)
        self.min_p = given("min_p", 0.0)
        self.repetition = given("repetition_penalty", 1.0)
        self.presence, self.frequency = wanted.presence_penalty, wanted.frequency_penalty
        self.top_logprobs = wanted.top_logprobs if wanted.logprobs else None
        self.said: Counter[int] = Counter()
        self._random = random.Random(wanted.seed)
        self._seen = set(prompt) if self.repetition != 1 else set()

    @property
    def greedy(self) -> bool:
        """Whether it takes the likeliest token."""
        return self.temperature < _COLDEST

    @property
    def penalizes(self) -> bool:
        """Whether what was said before changes the logits."""
        return self.repetition != 1 or self.presence != 0 or self.frequency != 0

    @property
    def filters(self) -> bool:
        """Whether some tokens are ruled out."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0

    def take(self, token: int) -> None:
        """Note a token as said."""
        if self.penalizes:
            self.said[token] += 1
            self._seen.add(token)

    def chance(self) -> float:
        """The next random number, in [0, 1)."""
        return self._random.random()

    def penalize(self, logits: torch.Tensor) -> None:
        """Change one row's logits, of shape (vocabulary,), in place."""
        if self.repetition != 1 and self._seen:
            seen = torch.tensor(sorted(self._seen), device=logits.device)
            held = logits[seen]
            logits[seen] = torch.where(held > 0, held / self.repetition, held * self.repetition)
        if (self.presence or self.frequency) and self.said:
            said = torch.tensor(list(self.said), device=logits.device)
            times = torch.tensor(list(self.said.values()), device=logits.device, dtype=logits.dtype)
            logits[said] -= self.presence + self.frequency * times


def pick(logits: torch.Tensor, pickers: Sequence[Picker]) -> list[int]:
    """Return a token id for each row of logits of shape (rows, vocabulary)."""
    if any(picker.penalizes for picker in pickers):
        logits = logits.float().clone()
        for row, picker in enumerate(pickers):
            picker.penalize(logits[row])
    tokens: list[int] = logits.argmax(dim=-1).tolist()
    drawing = [row for row, picker in enumerate(pickers) if not picker.greedy]
    for filtering in (False, True):
        rows = [row for row in drawing if pickers[row].filters is filtering]
        if rows:
            chosen = [pickers[row] for row in rows]
            temperatures = torch.tensor([picker.temperature for picker in chosen], device=logits.device)
            odds = torch.softmax(logits[rows].float() / temperatures.unsqueeze(1), dim=-1)
            drawn = _draw_among_likeliest(odds, chosen) if filtering else _draw(odds, chosen)
            for row, token in zip(rows, drawn, strict=True):
                tokens[row] = token
    for picker, token in zip(pickers, tokens, strict=True):
        picker.take(token)
    return tokens


def logprobs(logits: torch.Tensor, pickers: Sequence[Picker], tokens: Sequence[int]) -> list[Logprobs | None]:
    """Return what the model thought of each row's token and of the likeliest, for the rows whose request asks."""
    answers: list[Logprobs | None] = [None] * len(tokens)
    for row, (picker, token) in enumerate(zip(pickers, tokens, strict=True)):
        if picker.top_logprobs is not None:
            all_of_them = torch.log_softmax(logits[row].float(), dim=-1)
            best = all_of_them.topk(min(picker.top_logprobs, len(all_of_them)))
            answers[row] = Logprobs(float(all_of_them[token]),
                                    list(zip(best.indices.tolist(), best.values.tolist(), strict=True)))
    return answers


def _draw(odds: torch.Tensor, pickers: Sequence[Picker]) -> list[int]:
    """Draw a column of each row by odds of shape (rows, columns), which need not sum to 1."""
    below = odds.double().cumsum(dim=-1)
    chances = torch.tensor([[picker.chance()] for picker in pickers], device=odds.device, dtype=below.dtype)
    drawn = torch.searchsorted(below, chances * below[:, -1:], right=True)
    return [int(column) for column in drawn.clamp(max=odds.shape[-1] - 1).squeeze(1)]


def _draw_among_likeliest(odds: torch.Tensor, pickers: Sequence[Picker]) -> list[int]:
    """Draw where some tokens are ruled out; the likeliest always stays."""
    few = min(_FEW, odds.shape[-1])
    likeliest, tokens = odds.topk(few, dim=-1)
    kept = _kept(likeliest, pickers)
    more = any(picker.top_k > few for picker in pickers) or bool(kept[:, -1].any())  # some row may keep more than the few
    if more and few < odds.shape[-1]:
        likeliest, tokens = odds.sort(dim=-1, descending=True)
        kept = _kept(likeliest, pickers)
    drawn = torch.tensor(_draw(likeliest * kept, pickers), device=odds.device)
    return [int(token) for token in tokens.gather(1, drawn.unsqueeze(1)).squeeze(1)]


def _kept(best: torch.Tensor, pickers: Sequence[Picker]) -> torch.Tensor:
    """Return which of the likeliest tokens, best first, stay; shape (rows, tokens)."""
    columns = best.shape[-1]

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, device=best.device).unsqueeze(1)

    rank = torch.arange(columns, device=best.device)
    kept = rank < column([picker.top_k or columns + 1 for picker in pickers])
    whole = (best * kept).sum(dim=-1, keepdim=True)  # for top_p: what top_k leaves, else everything
    whole = torch.where(column([float(picker.top_k) for picker in pickers]) > 0, whole, 1.0)
    # those before it are not enough for top_p; the likeliest always stays
    top_p = column([picker.top_p if picker.top_p < 1 else math.inf for picker in pickers])
    kept &= ((best.cumsum(dim=-1) - best) / whole < top_p) | (rank == 0)
    kept &= best >= column([picker.min_p for picker in pickers]) * best[:, :1]
    return kept
