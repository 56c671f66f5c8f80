"""What a model's generation_config forbids its answers, by transformers' own processors: so it is what `generate` does.

No request can ask for these; a model's makers set them, for tokens that it is never to say or endings that come too soon.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers.generation.logits_process import (
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from app import logs

#: Takes the tokens so far, shape (1, tokens), and the logits of the next, shape (1, vocabulary); returns what is left.
Constraint = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

#: What else a generation_config can say that would change what `generate` answers, with the values that mean nothing.
_IGNORED: Mapping[str, tuple[Any, ...]] = {
    "num_beams": (1,), "guidance_scale": (1,), "typical_p": (1,), "epsilon_cutoff": (0,), "eta_cutoff": (0,), "top_h": (),
    "sequence_bias": (), "exponential_decay_length_penalty": (), "forced_bos_token_id": (), "forced_eos_token_id": (),
    "watermarking_config": (), "stop_strings": ()}


class Constraints:
    """What one model's generation_config forbids. `ends` are the tokens that end its answers."""

    def __init__(self, defaults: Any, ends: frozenset[int], device: torch.device, vocabulary: int) -> None:
        """`vocabulary` is how many logits the model gives. What cannot be applied to them is left out, and told."""
        self._device = device
        self._ends = sorted(ends)
        self._values = {name: value for name in _MADE if (value := getattr(defaults, name, None))}
        for name in list(self._values):
            try:
                self._make(name, 1)(torch.zeros(1, 1, dtype=torch.long, device=device),
                                    torch.zeros(1, vocabulary, device=device))
            except (TypeError, ValueError, IndexError, RuntimeError) as exc:  # at a step it would fail every request
                logs.event("generation_config_wrong", item=name, value=str(self._values.pop(name)), why=str(exc)[:300])
        if ignored := sorted(name for name, neutral in _IGNORED.items()
                             if (value := getattr(defaults, name, None)) is not None and value not in neutral):
            logs.event("generation_config_ignored", names=ignored)

    def of(self, prompt: Sequence[int]) -> list[Constraint]:
        """Return what holds for an answer to the prompt."""
        return [self._make(name, len(prompt)) for name in self._values]

    def _make(self, name: str, prompt_tokens: int) -> Constraint:
        return _MADE[name](self._values[name], prompt_tokens, self._ends, self._device)


#: By the name in generation_config, in the order that transformers applies them in.
_MADE: Mapping[str, Callable[[Any, int, list[int], torch.device], Constraint]] = {
    "no_repeat_ngram_size": lambda size, _prompt, _ends, _device: NoRepeatNGramLogitsProcessor(size),
    "bad_words_ids": lambda words, _prompt, ends, _device: NoBadWordsLogitsProcessor(words, ends),
    "min_length": lambda least, _prompt, ends, device: MinLengthLogitsProcessor(least, ends, device=device),
    "min_new_tokens": lambda least, prompt, ends, device: MinNewTokensLengthLogitsProcessor(
        prompt, least, ends, device=device),
    "suppress_tokens": lambda tokens, _prompt, _ends, device: SuppressTokensLogitsProcessor(tokens, device=device),
    "begin_suppress_tokens": lambda tokens, prompt, _ends, device: SuppressTokensAtBeginLogitsProcessor(
        tokens, prompt, device=device),
}
