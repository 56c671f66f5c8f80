"""The torch engine: any causal language model that transformers can load, answering many requests at once.

A request's own thread reads its prompt and waits; the batcher's thread does the rest. Greedy output is what transformers'
`generate` gives, token for token, but for near-ties: rounding differs a little with the shape of a batch.
"""

import atexit
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import torch

from app import logs
from app.errors import EngineFailed, PromptTooLong, SettingsError
from app.inputs import ModelInput
from app.model_card import ModelCard
from app.settings import Settings
from workers.engine import Channel, Generation, Tell, Usage, nobody
from workers.engine.batcher import Batcher
from workers.engine.card import card_of
from workers.engine.choice import choose_runner
from workers.engine.constraints import Constraints
from workers.engine.decoding import Decoding
from workers.engine.host_memory import free_memory
from workers.engine.loading import Loaded, load_model
from workers.engine.memory import Memory
from workers.engine.pace import Pace
from workers.engine.prefixes import Prefixes
from workers.engine.prompts import Prompts, ReadPrompt
from workers.engine.reasoning import ReasoningSplitter
from workers.engine.runner import TRIAL_TOKENS, Prompt, Runner
from workers.engine.sampling import Picker
from workers.engine.text import Text

_CUDA_SHARE, _CPU_SHARE = 0.8, 0.25  # of the memory that is free once the model is loaded; a CPU's is others', too
_PREFIX_SHARE = 0.5  # of the budget at most, for what may be used again; the running rows can take it all


class TorchEngine:
    """A loaded model with its tokenizer, and the thread that runs it."""

    def __init__(self, loaded: Loaded, settings: Settings, *, rows: int) -> None:
        """`rows` is how many requests run at once."""
        self.model, self.tokenizer, self.name = loaded.model, loaded.tokenizer, loaded.name
        self._prompts = Prompts(loaded.tokenizer, loaded.name)
        self._defaults = getattr(loaded.model, "generation_config", None)
        self._ends = self._end_tokens()
        self._constraints = Constraints(self._defaults, self._ends, loaded.model.device,
                                        loaded.model.config.get_text_config().vocab_size)
        runner = choose_runner(loaded.model, most_rows=rows)
        budget = _budget(settings, loaded.model.device)
        self._memory = Memory(runner, Prefixes(round(budget * _PREFIX_SHARE)), budget)
        self._batcher = Batcher(runner, self._memory, _pace(runner), most_rows=rows, broken=_end_process)
        self.context = self._context(loaded.context, budget)

    @classmethod
    def load(cls, settings: Settings, *, rows: int = 16) -> "TorchEngine":
        """Load the settings' model, warm it up, and begin to answer. Raises `SettingsError` naming what is wrong."""
        engine = cls(load_model(settings), settings, rows=rows)
        engine._batcher.start()
        atexit.register(engine.close)  # a thread that is in torch when the interpreter ends would crash it
        engine.generate(ModelInput(prompt="Hello", max_tokens=2, temperature=0.0), lambda: False)
        return engine

    def close(self) -> None:
        """End the thread."""
        self._batcher.close()

    def figures(self) -> dict[str, int | float]:
        """The batcher's."""
        return self._batcher.figures()

    def card(self) -> tuple[ModelCard, bytes] | None:
        """What the gateway needs to count a prompt's tokens."""
        return card_of(self.tokenizer, self.name, self.context)

    def generate(self, request: ModelInput, stopped: Callable[[], bool], tell: Tell = nobody) -> Generation:
        """Answer one request, together with others. Raises as `Engine.generate` says."""
        prompt = self._prompts.read(request)
        if not prompt.tokens:
            raise EngineFailed("the prompt has no tokens; send some text")
        if len(prompt.tokens) >= self.context:
            raise PromptTooLong(f"the prompt has {len(prompt.tokens)} tokens; {self.name} takes {self.context} with the "
                                "answer")
        decoding = self._decoding(request, prompt, stopped, tell)
        self._batcher.answer(decoding)
        said = decoding.text.said
        usage = Usage(prompt_tokens=len(prompt.tokens), completion_tokens=len(decoding.said), cached_tokens=decoding.cached)
        return Generation(
            text=said[Channel.CONTENT], reasoning=said[Channel.REASONING] or None, usage=usage, model=self.name,
            finish_reason="stop" if decoding.reason == "stop" else "length",
            logprobs=[self._prompts.logprob(*each) for each in decoding.logprobs] if request.logprobs else None)

    def _decoding(self, request: ModelInput, prompt: ReadPrompt, stopped: Callable[[], bool], tell: Tell) -> Decoding:
        splitter = ReasoningSplitter(thinking=prompt.thinking) if prompt.chat else None
        return Decoding(
            tokens=prompt.tokens, most=min(request.max_tokens, self.context - len(prompt.tokens)),
            ends=self._ends | frozenset(request.stop_token_ids), stopped=stopped,
            picker=Picker(request, prompt.tokens, self._defaults, self._constraints.of(prompt.tokens)),
            text=Text(self._prompts.decode, request.stop_strings, tell, splitter))

    def _end_tokens(self) -> frozenset[int]:
        """The token ids that end an answer."""
        ends = self._defaults.eos_token_id if self._defaults else None
        listed = ends if isinstance(ends, list) else [ends]
        return frozenset(token for token in [*listed, self.tokenizer.eos_token_id] if token is not None)

    def _context(self, context: int, budget: int) -> int:
        """The model's context, or what of it fits the memory."""
        if self._memory.fits(context):
            return context
        low, high = 0, context
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._memory.fits(middle) else (low, middle - 1)
        if low < 2:
            raise SettingsError([f"the {budget / 2**20:.0f} MiB for keys and values do not hold a token of {self.name}; "
                                 "raise kv_memory_mb, or free memory"])
        logs.event("context_cut", model=self.name, context=low, of=context, kv_budget_bytes=budget)
        return low


@torch.inference_mode()
def _pace(runner: Runner) -> Pace:
    """Measure how fast the model reads; once before, so that it is warm."""
    times = {}
    for tokens in (1, TRIAL_TOKENS, 1, TRIAL_TOKENS):
        trial = Prompt([1] * tokens)
        began_s = time.perf_counter()
        runner.read([trial], tokens).cpu()
        times[tokens] = time.perf_counter() - began_s
    token_s = max(times[TRIAL_TOKENS] - times[1], 1e-2 * times[TRIAL_TOKENS]) / (TRIAL_TOKENS - 1)
    return Pace(pass_s=times[1], token_s=token_s)


def _budget(settings: Settings, device: Any) -> int:
    """Return the bytes there are for what the model keeps of tokens."""
    if settings.kv_memory_mb:
        return settings.kv_memory_mb * 2**20
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return round(int(free) * _CUDA_SHARE)
    return round(free_memory() * _CPU_SHARE)


def _end_process() -> None:
    """The device is lost to this process: end it, so that its supervisor starts a fresh one."""
    logs.event("device_lost", pid=os.getpid())
    os.kill(os.getpid(), signal.SIGTERM)
