"""The seam between the model service and whatever holds the model.

`Engine` is what the model service calls. Three engines stand behind it: `torch` (a continuous batcher over transformers,
the default), `openai` (any server that speaks OpenAI's protocol) and `scripted` (plays a script of tokens, stalls and
errors, for tests and load). torch and transformers are imported only below this package, and only when the torch engine is
asked for.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Literal, Protocol

import msgspec

from app.errors import SettingsError
from app.inputs import ModelInput
from app.model_card import ModelCard
from app.settings import Settings


class Channel(StrEnum):
    """Which part of an answer a piece of text belongs to. An answer's reasoning, if any, comes before its content."""

    REASONING = "reasoning"
    CONTENT = "content"


#: Takes the pieces of an answer as they come, in order, from whichever thread has them; must return at once.
Tell = Callable[[Channel, str], None]


def nobody(channel: Channel, text: str) -> None:
    """Stand for a caller who does not listen."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens read and written for one request. `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


class TopLogprob(msgspec.Struct, frozen=True):
    """A token that could have been picked. `bytes` are its text's bytes in UTF-8."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct, frozen=True):
    """A token that was picked, in OpenAI's form. `logprob` is of the model's own distribution, before any sampling
    parameter."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class Generation(msgspec.Struct, frozen=True):
    """What a model answered. `text` is the content; `reasoning` what it thought before, None where it does not think."""

    text: str
    finish_reason: Literal["stop", "length"]  # stop: end of turn or a stop string; length: max_tokens or the context
    usage: Usage
    model: str
    reasoning: str | None = None
    logprobs: list[TokenLogprob] | None = None

    def as_result(self) -> dict[str, Any]:
        """Return it as a job's result: `text`, `finish_reason` and `model`; `reasoning_content` where the model thought
        first, `logprobs` where they were asked for."""
        result: dict[str, Any] = {"text": self.text, "finish_reason": self.finish_reason, "model": self.model}
        if self.reasoning is not None:
            result["reasoning_content"] = self.reasoning
        if self.logprobs is not None:
            result["logprobs"] = {"content": self.logprobs}
        return result


class Engine(Protocol):
    """Holds one model. Safe to call from several threads; how many run at once is the engine's affair."""

    name: str

    def generate(self, request: ModelInput, stopped: Callable[[], bool], tell: Tell = nobody) -> Generation:
        """Answer one request, telling the text as it comes.

        What was told of a channel is always a beginning of that channel's text in the answer returned; the rest of it may
        be told or not. `stopped` is asked between tokens; once it says true the engine gives up within a token.

        Raises `JobStopped` then, `PromptTooLong` when the prompt leaves no room for an answer, `EngineOutOfMemory`,
        `EngineTransient` or `EngineFailed` when the model's side fails.
        """
        ...

    def figures(self) -> dict[str, int | float]:
        """What the engine counts, by name, for operators."""
        ...

    def card(self) -> tuple[ModelCard, bytes] | None:
        """The model's card with the JSON of its tokenizer, or None where prompts can only be counted by the engine."""
        ...


def load_engine(settings: Settings, slots: int) -> Engine:
    """Load the engine that the settings name, ready to answer `slots` requests at once. Takes seconds for torch."""
    if settings.engine == "scripted":
        from workers.engine.scripted import ScriptedEngine

        return ScriptedEngine()
    if settings.engine == "openai":
        from workers.engine.openai_engine import OpenAIEngine

        return OpenAIEngine.load(settings, slots=slots)
    if settings.engine == "torch":
        from workers.engine.torch_engine import TorchEngine

        return TorchEngine.load(settings, rows=slots)
    raise SettingsError([f"engine '{settings.engine}' is not known"])
