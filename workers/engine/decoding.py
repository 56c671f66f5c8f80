"""One request on its way through the batcher, and what the model's errors mean for it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from app.errors import TandemError
from workers.engine.runner import Prompt
from workers.engine.sampling import Logprobs, Picker
from workers.engine.text import Text


@dataclass(slots=True, eq=False)
class Decoding:
    """One request on its way through the batcher."""

    tokens: list[int]  # the prompt
    most: int  # tokens that the answer may have
    ends: frozenset[int]  # tokens that end it
    picker: Picker
    text: Text
    stopped: Callable[[], bool]
    said: list[int] = field(default_factory=list)
    logprobs: list[tuple[int, Logprobs]] = field(default_factory=list)
    cached: int = 0  # tokens of the prompt that were not computed again
    reason: str = ""  # stop or length, once it has ended
    error: TandemError | None = None
    alone: bool = False  # whether its prompt is to be read by itself, after a pass with others failed
    prompt: Prompt = field(init=False)
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.prompt = Prompt(self.tokens, expected=len(self.tokens) + self.most)

    def take(self, token: int, its: Logprobs | None) -> None:
        """It says one token more; sets `reason` if that ends it."""
        self.said.append(token)
        if token in self.ends:
            self.reason = "stop"
            return
        if its is not None:
            self.logprobs.append((token, its))
        self.text.add(token)
        if self.text.stopped:
            self.reason = "stop"
        elif len(self.said) >= self.most:
            self.reason = "length"

    def fail(self, error: TandemError) -> None:
        """It ends without an answer."""
        self.error = error
        self.ended.set()


def out_of_memory(exc: Exception) -> bool:
    """Whether an error of torch says that memory ran out. On a CPU that is a RuntimeError like any other."""
    return isinstance(exc, torch.OutOfMemoryError | MemoryError) or (
        isinstance(exc, RuntimeError) and ("can't allocate memory" in str(exc) or "not enough memory" in str(exc)))


def device_lost(exc: Exception) -> bool:
    """Whether the device cannot be used by this process any more."""
    return isinstance(exc, torch.AcceleratorError) and not out_of_memory(exc)
