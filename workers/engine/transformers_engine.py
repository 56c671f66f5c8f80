"""The torch engine: any causal language model that transformers can load, one request at a time.

Tokens are picked here, not by `generate`, so that a request can stop between two tokens and has a seed of its own. Greedy
output equals `generate`'s, token for token, where the model's generation_config asks for no penalties.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from app.errors import EngineFailed, EngineOutOfMemory, JobStopped, PromptTooLong, SettingsError
from app.inputs import ModelInput
from app.settings import Settings
from workers.engine import Generation, Tell, Usage, nobody
from workers.engine.demo_model import demo_model_folder

_LOOK_S = 0.05  # how often a request that waits for its turn asks whether to stop
_CONTEXT_UNKNOWN = 4096  # tokens, for a model whose configuration names no limit
_COLDEST = 1e-5  # below it only the likeliest token is left anyway, and logits / temperature overflow float32
_WHAT_IS_NAMED = ("TANDEM_MODEL names a folder with config.json, a tokenizer and *.safetensors, a .gguf file, or a hub "
                  "name")


@dataclass(slots=True)
class TransformersEngine:
    """A loaded model with its tokenizer."""

    model: Any
    tokenizer: Any
    name: str
    context: int  # tokens that prompt and answer may have together
    _turn: threading.Lock

    @classmethod
    def load(cls, settings: Settings) -> "TransformersEngine":
        """Load the settings' model and warm it up. Raises `SettingsError` naming what is wrong with the model."""
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
        source, name = _source(settings)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        try:
            tokenizer = AutoTokenizer.from_pretrained(**source, trust_remote_code=settings.trust_remote_code)
            model, report = AutoModelForCausalLM.from_pretrained(
                **source, dtype=dtype, trust_remote_code=settings.trust_remote_code, output_loading_info=True,
                **({} if "gguf_file" in source else {"use_safetensors": True}))
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as exc:
            raise _unusable(name, f"{type(exc).__name__}: {exc}") from exc
        if missing := sorted(report["missing_keys"]):  # transformers would fill them with random numbers
            raise _unusable(name, f"{len(missing)} weights are missing, {missing[0]} among them")
        engine = cls(model.to(device).eval(), tokenizer, name, _context(model.config), threading.Lock())
        engine.generate(ModelInput(prompt="Hello", max_tokens=1, temperature=0.0), lambda: False)
        return engine

    def figures(self) -> dict[str, int | float]:
        """Nothing is counted."""
        return {}

    def generate(self, request: ModelInput, stopped: Callable[[], bool], tell: Tell = nobody) -> Generation:  # noqa: ARG002
        """Answer one request; others wait for their turn. Raises as `Engine.generate` says."""
        prompt = self._prompt(request)
        if len(prompt) >= self.context:
            raise PromptTooLong(f"the prompt has {len(prompt)} tokens; {self.name} takes {self.context} with the answer")
        while not self._turn.acquire(timeout=_LOOK_S):
            if stopped():
                raise JobStopped("stopped while waiting for the model")
        try:
            return self._answer(request, prompt, stopped)
        except torch.OutOfMemoryError as exc:
            raise EngineOutOfMemory(f"no memory for {len(prompt)} tokens of prompt; {exc}") from exc
        except RuntimeError as exc:
            if "alloc" not in str(exc):
                raise EngineFailed(f"the model failed: {exc}") from exc
            raise EngineOutOfMemory(f"no memory for {len(prompt)} tokens of prompt; {exc}") from exc
        finally:
            self._turn.release()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _prompt(self, request: ModelInput) -> list[int]:
        """Return the prompt's token ids."""
        if request.prompt is not None:
            return list(self.tokenizer(request.prompt)["input_ids"])
        if not self.tokenizer.chat_template:
            raise EngineFailed(f"{self.name} has no chat template, so it takes no `messages`; send a `prompt`")
        messages = [{"role": turn.role, "content": turn.content} for turn in request.messages or []]
        try:
            text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except Exception as exc:
            raise EngineFailed(f"the model's chat template refuses these messages: {exc}") from exc
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @torch.inference_mode()
    def _answer(self, request: ModelInput, prompt: list[int], stopped: Callable[[], bool]) -> Generation:
        pick = _Picker(request, self.model.device)
        room = min(request.max_tokens, self.context - len(prompt))
        ends = self._ends()
        fresh, cache = torch.tensor([prompt], device=self.model.device), None
        said: list[int] = []
        text, reason = "", "length"
        while len(said) < room:
            if stopped():
                raise JobStopped(f"stopped after {len(said)} tokens")
            output = self.model(input_ids=fresh, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
            token = pick(output.logits[0, -1])
            said.append(token)
            if token in ends:
                reason = "stop"
                break
            fresh = torch.tensor([[token]], device=self.model.device)
            if request.stop is not None:
                text = self._text(said)
                if any(stop in text for stop in request.stop_strings):
                    reason = "stop"
                    break
        text = _before(self._text(said), request.stop_strings)
        usage = Usage(prompt_tokens=len(prompt), completion_tokens=len(said))
        return Generation(text=text, finish_reason="stop" if reason == "stop" else "length", usage=usage, model=self.name)

    def _text(self, tokens: list[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def _ends(self) -> set[int]:
        """The token ids that end an answer."""
        ends = self.model.generation_config.eos_token_id
        listed = ends if isinstance(ends, list) else [ends]
        return {token for token in [*listed, self.tokenizer.eos_token_id] if token is not None}


class _Picker:
    """Picks the next token from logits: greedy at temperature 0, else sampled with a generator of the request's own."""

    def __init__(self, request: ModelInput, device: torch.device) -> None:
        self._temperature = 1.0 if request.temperature is None else request.temperature
        self._top_p = 1.0 if request.top_p is None else request.top_p
        self._random = torch.Generator(device=device)
        if request.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(request.seed)

    def __call__(self, logits: torch.Tensor) -> int:
        """Return a token id for logits of shape (vocabulary,)."""
        if self._temperature < _COLDEST:
            return int(logits.argmax())
        probabilities = torch.softmax(logits.float() / self._temperature, dim=-1)
        if self._top_p < 1:
            ordered, order = probabilities.sort(descending=True)
            ordered[ordered.cumsum(-1) - ordered > self._top_p] = 0  # the most likely token always stays
            return int(order[torch.multinomial(ordered, 1, generator=self._random)])
        return int(torch.multinomial(probabilities, 1, generator=self._random))


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


def _before(text: str, stops: list[str]) -> str:
    """Return the text up to the first stop string."""
    return text[:min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]
