"""One request on its way through the batcher."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from app.errors import EngineFailed, TandemError
from workers.engine.prefixes import packed
from workers.engine.runner import Prompt
from workers.engine.sampling import Logprobs, Picker
from workers.engine.text import Text


@dataclass(slots=True, eq=False)
class Decoding:
    """One request on its way through the batcher."""

    tokens: list[int]  # the prompt, one at least
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
    packed: bytes = field(init=False)  # the tokens, as `workers.engine.prefixes` compares them
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.packed = packed(self.tokens)
        self.prompt = Prompt(self.tokens, expected=len(self.tokens) + self.most)

    def take(self, token: int | None, its: Logprobs | None) -> None:
        """It says one token more; sets `reason` if that ends it. Raises `EngineFailed` for None, where the model gave no
        numbers."""
        if token is None:
            raise EngineFailed(f"the model's logits are no numbers after {len(self.tokens) + len(self.said)} tokens; a "
                               "model in float16 may need another dtype")
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
        self.prompt.held = None  # an error keeps its frames, and so all that they hold, for as long as it is looked at
        self.error = error
        self.ended.set()
