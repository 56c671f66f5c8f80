"""Loads a model with its tokenizer: from a folder, a GGUF file, a hub name, or the demo model.

Weights are read from safetensors (or GGUF) only, never from pickles, and code that comes with a model is not run unless the
setting `trust_remote_code` says so.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from app import logs
from app.errors import SettingsError
from app.settings import Settings
from workers.engine.demo_model import demo_model_folder
from workers.engine.packing import pack

_CONTEXT_UNKNOWN = 4096  # tokens, for a model whose configuration names no limit
_WHAT_IS_NAMED = ("TANDEM_MODEL names a folder with config.json, a tokenizer and *.safetensors, a .gguf file, or a hub "
                  "name")
_TRIAL_ROWS = (1, 16)  # batch sizes at which types are compared: a lone request, and many
_TRIAL_SHAPE = (2048, 1024)  # of the weights: large enough not to fit the nearest cache
_TRIAL_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model on its device. `context` is how many tokens prompt and answer may have together."""

    model: Any
    tokenizer: Any
    name: str
    context: int


def load_model(settings: Settings) -> Loaded:
    """Load the settings' model. Raises `SettingsError` naming what is wrong with it."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    source, name = _source(settings)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = _dtype(settings, device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source, trust_remote_code=settings.trust_remote_code)
        model, report = AutoModelForCausalLM.from_pretrained(
            **source, dtype=dtype, trust_remote_code=settings.trust_remote_code, output_loading_info=True,
            **({} if "gguf_file" in source else {"use_safetensors": True}))
        model = model.to(device).eval()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError, SafetensorError) as exc:
        raise _unusable(name, f"{type(exc).__name__}: {exc}") from exc
    if missing := sorted(report["missing_keys"]):  # transformers would fill them with random numbers
        raise _unusable(name, f"{len(missing)} weights are missing, {missing[0]} among them")
    pack(model)
    logs.event("model_loaded", model=name, device=device, dtype=str(dtype).removeprefix("torch."),
               threads=torch.get_num_threads())
    return Loaded(model, tokenizer, name, _context(model.config))


def _unusable(name: str, why: str) -> SettingsError:
    return SettingsError([f"the model '{name}' cannot be loaded ({why}); {_WHAT_IS_NAMED}"])


def _source(settings: Settings) -> tuple[dict[str, Any], str]:
    """Return where to load from, as transformers takes it, and the model's name."""
    if not settings.model:
        folder = demo_model_folder(settings.data_dir)
        return {"pretrained_model_name_or_path": folder}, folder.name
    path = Path(settings.model)
    if path.suffix == ".gguf":
        return {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}, path.stem
    if path.exists():
        return {"pretrained_model_name_or_path": path}, path.name
    if path.is_absolute() or settings.model.startswith("."):
        raise SettingsError([f"the model '{path}' is not there; {_WHAT_IS_NAMED}"])
    return {"pretrained_model_name_or_path": settings.model}, settings.model


def _context(config: Any) -> int:
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or _CONTEXT_UNKNOWN)


def _dtype(settings: Settings, device: str) -> torch.dtype:
    """Return the type to compute in: the one that is set, else bfloat16 where the device is fast at it."""
    if settings.dtype != "auto":
        chosen: torch.dtype = getattr(torch, settings.dtype)
        return chosen
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if _cpu_is_faster_in_bfloat16() else torch.float32


@torch.inference_mode()
def _cpu_is_faster_in_bfloat16() -> bool:
    """Measure: some CPUs have instructions for bfloat16, others emulate it at a quarter of the speed."""
    times = {dtype: sum(_trial_s(dtype, rows) for rows in _TRIAL_ROWS) for dtype in (torch.float32, torch.bfloat16)}
    logs.event("types_compared", float32_s=round(times[torch.float32], 5), bfloat16_s=round(times[torch.bfloat16], 5))
    return times[torch.bfloat16] < times[torch.float32]


def _trial_s(dtype: torch.dtype, rows: int) -> float:
    """Return the seconds of the fastest of some multiplications as a model makes them."""
    weights, batch = torch.ones(_TRIAL_SHAPE, dtype=dtype), torch.ones((rows, _TRIAL_SHAPE[1]), dtype=dtype)
    fastest = float("inf")
    for _ in range(_TRIAL_ROUNDS):
        began_s = time.perf_counter()
        torch.nn.functional.linear(batch, weights)
        fastest = min(fastest, time.perf_counter() - began_s)
    return fastest
