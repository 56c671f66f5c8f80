"""The seam between the model service and whatever holds the model.

`Engine` is what the model service calls. Two engines stand behind it: `torch` (transformers, the default) and
`scripted` (plays a script of tokens, stalls and errors, for tests and load). torch and transformers are imported only
below this package, and only when the torch engine is asked for.
"""

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from app.errors import SettingsError
from app.inputs import ModelInput
from app.settings import Settings


class Usage(msgspec.Struct, frozen=True):
    """Tokens read and written for one request. `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


class Generation(msgspec.Struct, frozen=True):
    """What a model answered."""

    text: str
    finish_reason: Literal["stop", "length"]  # stop: end of turn or a stop string; length: max_tokens or the context
    usage: Usage
    model: str


class Engine(Protocol):
    """Holds one model. Safe to call from several threads; how many run at once is the engine's affair."""

    name: str

    def generate(self, request: ModelInput, stopped: Callable[[], bool]) -> Generation:
        """Answer one request.

        `stopped` is asked between tokens; once it says true the engine gives up within a token.

        Raises `JobStopped` then, `PromptTooLong` when the prompt leaves no room for an answer, `EngineOutOfMemory`,
        `EngineTransient` or `EngineFailed` when the model's side fails.
        """
        ...


def load_engine(settings: Settings) -> Engine:
    """Load the engine that the settings name, ready to answer. Takes seconds for the torch engine."""
    if settings.engine == "scripted":
        from workers.engine.scripted import ScriptedEngine

        return ScriptedEngine()
    if settings.engine == "torch":
        from workers.engine.transformers_engine import TransformersEngine

        return TransformersEngine.load(settings)
    raise SettingsError([f"engine '{settings.engine}' is not known"])
