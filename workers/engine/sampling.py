"""Picks the next tokens of a batch from its logits, each row by its own request's parameters.

Order: penalties, what the model's makers forbid, then temperature, top_k, top_p, min_p; that of transformers and vLLM.
Each request has random numbers of its own, one a token, so what it gets for a seed does not depend on what else is in the
batch.

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
from workers.engine.constraints import Constraint

_COLDEST = 1e-5  # below it only the likeliest token is left anyway, and logits / temperature overflow float32
_FEW = 256  # likeliest tokens of a row; only where these do not decide is the whole vocabulary sorted, which costs far more


class Logprobs(NamedTuple):
    """Natural logarithms of the model's own distribution: of the token picked, and of the likeliest tokens, best first."""

    picked: float
    top: list[tuple[int, float]]


class Picker:
    """One request's way of picking: its parameters, its random numbers, and what it has said so far."""

    def __init__(self, wanted: Sampling, prompt: Sequence[int], defaults: Any = None,
                 constraints: Sequence[Constraint] = ()) -> None:
        """`defaults` is a model's generation_config, for what the request leaves out; what makes no sense there is
        neutral. `constraints` are what it forbids."""
        def given(name: str, neutral: float, least: float, most: float) -> float:
            value = getattr(wanted, name)
            if value is None:
                value = getattr(defaults, name, None)
                return float(value) if isinstance(value, int | float) and least <= value <= most else neutral
            return float(value)

        self.temperature = given("temperature", 1.0, 0.0, 100.0)
        self.top_k = max(int(given("top_k", 0.0, 0.0, 2.0**31)), 0)
        self.top_p = given("top_p", 1.0, _COLDEST, 1.0)
        self.min_p = given("min_p", 0.0, 0.0, 1.0)
        self.repetition = given("repetition_penalty", 1.0, _COLDEST, 100.0)
        self.presence, self.frequency = wanted.presence_penalty, wanted.frequency_penalty
        self.top_logprobs = wanted.top_logprobs if wanted.logprobs else None
        self._constraints = constraints
        self._said: Counter[int] = Counter()
        self._random = random.Random(wanted.seed)
        self._chance: float | None = None
        self._prompt = prompt
        self._tokens = list(prompt) if constraints else []  # and the answer's; kept for the constraints
        self._seen: torch.Tensor | None = None  # which tokens are in the prompt or were said

    @property
    def greedy(self) -> bool:
        """Whether it takes the likeliest token."""
        return self.temperature < _COLDEST

    @property
    def penalizes(self) -> bool:
        """Whether anything changes the logits, such as what was said before."""
        return self.repetition != 1 or self.presence != 0 or self.frequency != 0 or bool(self._constraints)

    @property
    def filters(self) -> bool:
        """Whether some tokens are ruled out."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0

    def take(self, token: int) -> None:
        """Note a token as said."""
        self._chance = None
        if self.presence or self.frequency:
            self._said[token] += 1
        if self._constraints:
            self._tokens.append(token)
        if self._seen is not None:
            self._seen[token] = True

    def chance(self) -> float:
        """The random number for the next token, in [0, 1); the same until it is taken."""
        if self._chance is None:
            self._chance = self._random.random()
        return self._chance

    def penalize(self, logits: torch.Tensor) -> None:
        """Change one row's logits, of shape (vocabulary,), in place."""
        if self.repetition != 1:
            if self._seen is None:
                self._seen = torch.zeros_like(logits, dtype=torch.bool)
                self._seen[torch.tensor(sorted(set(self._prompt)), dtype=torch.long, device=logits.device)] = True
            penalized = torch.where(logits > 0, logits / self.repetition, logits * self.repetition)
            logits.copy_(torch.where(self._seen, penalized, logits))
        if self._said:
            said = torch.tensor(list(self._said), device=logits.device)
            times = torch.tensor(list(self._said.values()), device=logits.device, dtype=logits.dtype)
            logits[said] -= self.presence + self.frequency * times
        if self._constraints:
            tokens, left = torch.tensor([self._tokens], device=logits.device), logits.unsqueeze(0)
            for constraint in self._constraints:
                left = constraint(tokens, left)
            logits.copy_(left[0])


def pick(logits: torch.Tensor, pickers: Sequence[Picker]) -> list[int | None]:
    """Return a token id for each row of logits of shape (rows, vocabulary); None for a row whose logits are no numbers."""
    penalizing = [(row, picker) for row, picker in enumerate(pickers) if picker.penalizes]
    if penalizing:
        logits = logits.to(torch.float32, copy=True)  # the caller's stay as the model gave them
    for row, picker in penalizing:
        picker.penalize(logits[row])
    highest, likeliest = logits.max(dim=-1)
    sound = highest.isfinite().tolist()
    tokens: list[int] = likeliest.tolist()
    drawing = [row for row, picker in enumerate(pickers) if not picker.greedy and sound[row]]
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
    return [token if good else None for token, good in zip(tokens, sound, strict=True)]


def logprobs(logits: torch.Tensor, pickers: Sequence[Picker], tokens: Sequence[int | None]) -> list[Logprobs | None]:
    """Return what the model thought of each row's token and of the likeliest, for the rows whose request asks."""
    answers: list[Logprobs | None] = [None] * len(tokens)
    for row, (picker, token) in enumerate(zip(pickers, tokens, strict=True)):
        if picker.top_logprobs is not None and token is not None:
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
    may_keep_more = [(last or picker.top_k > few) and few < odds.shape[-1]
                     for last, picker in zip(kept[:, -1].tolist(), pickers, strict=True)]
    drawn = tokens.gather(1, torch.tensor(_draw(likeliest * kept, pickers), device=odds.device).unsqueeze(1))
    answers = [int(token) for token in drawn.squeeze(1)]
    for row in (row for row, more in enumerate(may_keep_more) if more):
        likeliest, tokens = odds[row:row + 1].sort(dim=-1, descending=True)
        kept = _kept(likeliest, pickers[row:row + 1])
        answers[row] = int(tokens[0, _draw(likeliest * kept, pickers[row:row + 1])[0]])
    return answers


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
