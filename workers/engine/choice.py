"""Decides how a model's rows are run: by its configuration, and by trying whether padding changes what it says."""

import inspect
from typing import Any

import torch

from app import logs
from app.errors import SettingsError
from workers.engine.failures import out_of_memory
from workers.engine.ragged import RaggedRunner
from workers.engine.rows import holds_ragged_rows
from workers.engine.runner import Prompt, Runner
from workers.engine.separate import SeparateRunner

#: How far the logits of a row in a padded batch may be from those of the row alone, as a part of their size. Rounding
#: differs with the shape of a batch; a model that minds padding is off by much more.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 0.12}


@torch.inference_mode()
def choose_runner(model: Any, *, most_rows: int) -> Runner:
    """Return the fastest runner that is right for the model; this runs the model a few times, which warms it, too.

    Raises `SettingsError` where none is.
    """
    known = set(inspect.signature(model.forward).parameters)
    if not known & {"past_key_values", "cache_params"}:
        raise SettingsError([f"a {type(model).__name__} keeps nothing between two tokens in a way that is known here"])
    why = _why_not_together(model, known)
    runner: RaggedRunner | SeparateRunner
    if why:
        logs.event("rows_run_separately", model=type(model).__name__, why=why)
        runner = SeparateRunner(model, whole=_turns_by_length(model.config))
        if not (error := keeping_error(model)) <= _tolerance(model):
            raise SettingsError([f"a {type(model).__name__} says something else from its cache than without one: its "
                                 f"logits are off by {error:.2g} of their size"])
    else:
        runner = RaggedRunner(model, most_rows=most_rows)
    runner.measure()
    return runner


def _tolerance(model: Any) -> float:
    return _TOLERANCE.get(model.dtype, 1e-3)


def _why_not_together(model: Any, known: set[str]) -> str:
    """Say what keeps a model from running ragged rows as one batch; "" for nothing."""
    if not {"position_ids", "logits_to_keep", "past_key_values"} <= known:
        return "it takes no position_ids"
    if not holds_ragged_rows(model.config):
        return "its cache does not keep one entry a token"
    if _turns_by_length(model.config):
        return "its positions turn by the longest row's length"
    try:
        error = padding_error(model)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError) as exc:
        if out_of_memory(exc):
            raise
        return f"a padded batch makes it fail ({type(exc).__name__}: {str(exc)[:200]})"
    return "" if error <= _tolerance(model) else f"padding changes its logits by {error:.2g} of their size"


def _turns_by_length(config: Any) -> bool:
    """Whether a model's rotary frequencies depend on how long the whole batch has got (transformers, modeling_rope_utils,
    `dynamic_rope_update`): then rows change each other, and chunks of a prompt do not agree. The kind "dynamic" changes
    only past max_position_embeddings, and so past the context that is served."""
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    each = [parameters, *(part for part in parameters.values() if isinstance(part, dict))]
    return any(part.get("rope_type") == "longrope" for part in each)


def padding_error(model: Any) -> float:
    """Return how far a short row's logits in a batch with a longer one are from those of the row alone, relative to their
    size: after reading, and after one step more."""
    vocabulary = int(model.config.get_text_config().vocab_size)
    texts = [_a_text(vocabulary, row, length) for row, length in enumerate((3, 8))]
    together = RaggedRunner(model, most_rows=2)
    prompts = [Prompt(tokens) for tokens in texts]
    read = together.read(prompts, 8)
    for prompt in prompts:
        together.join(prompt)
    stepped = together.step([5 % vocabulary, 6 % vocabulary])
    alone, cache = SeparateRunner(model), Prompt(texts[0])
    alone_read = alone.read([cache], 8)
    alone.join(cache)
    return max(_off(read, alone_read), _off(stepped, alone.step([5 % vocabulary])))


def keeping_error(model: Any) -> float:
    """Return how far a row's logits after a step are from those of the whole row read at once, relative to their size."""
    text = _a_text(int(model.config.get_text_config().vocab_size), 0, 8)
    stepping, kept, whole = SeparateRunner(model), Prompt(text[:-1]), Prompt(text)
    stepping.read([kept], 8)
    stepping.join(kept)
    return _off(stepping.step(text[-1:]), SeparateRunner(model).read([whole], 8))


def _a_text(vocabulary: int, row: int, length: int) -> list[int]:
    return [(7 * at + 3 * row) % vocabulary for at in range(length)]


def _off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found[0].float() - wanted[0].float()).norm() / wanted[0].float().norm())
