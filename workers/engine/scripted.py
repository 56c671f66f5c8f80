"""An engine that plays a script: for tests and load, where a model would only be in the way.

The last user message, or the prompt, is the script. Its words are echoed, a word a token; directives stand in brackets:

    [stall 200ms] [stall 1.5s]      wait
    [repeat 50 word]                say a word 50 times
    [error transient] [error out-of-memory] [error permanent]
"""

import re
import time
from collections.abc import Callable, Iterator

from app.errors import EngineFailed, EngineOutOfMemory, EngineTransient, JobStopped
from app.inputs import ModelInput
from workers.engine import Generation, Usage

_PART = re.compile(r"\[([^\]]*)\]|(\S+)")
_STALL = re.compile(r"stall (\d+(?:\.\d+)?)(ms|s)")
_REPEAT = re.compile(r"repeat (\d{1,6}) (\S+)")
_ERRORS = {"error transient": EngineTransient, "error out-of-memory": EngineOutOfMemory, "error permanent": EngineFailed}

_LOOK_S = 0.01  # how often a stall asks whether to stop


class ScriptedEngine:
    """Plays scripts; any number at once."""

    name = "scripted"

    def generate(self, request: ModelInput, stopped: Callable[[], bool]) -> Generation:
        """Play the request's script. Raises what the script says, `EngineFailed` for a directive that is none."""
        script = request.prompt if request.prompt is not None else (request.messages or [])[-1].content
        said: list[str] = []
        finish_reason = "stop"
        for word in _words(script, stopped):
            if stopped():
                raise JobStopped("stopped between two words of the script")
            if len(said) == request.max_tokens:
                finish_reason = "length"
                break
            said.append(word)
        text, cut = _until_stop(" ".join(said), request.stop_strings)
        usage = Usage(prompt_tokens=_prompt_words(request), completion_tokens=len(said))
        return Generation(text=text, finish_reason="stop" if cut or finish_reason == "stop" else "length", usage=usage,
                          model="scripted")


def _words(script: str, stopped: Callable[[], bool]) -> Iterator[str]:
    for directive, word in _PART.findall(script):
        if word:
            yield word
        else:
            yield from _play(directive, stopped)


def _play(directive: str, stopped: Callable[[], bool]) -> Iterator[str]:
    if stall := _STALL.fullmatch(directive):
        _stall(float(stall[1]) / (1000 if stall[2] == "ms" else 1), stopped)
    elif repeat := _REPEAT.fullmatch(directive):
        yield from [repeat[2]] * int(repeat[1])
    elif directive in _ERRORS:
        raise _ERRORS[directive](f"the script says [{directive}]")
    else:
        raise EngineFailed(f"[{directive[:40]}] is no directive; there are [stall 200ms], [repeat 50 word] and "
                           + ", ".join(f"[{name}]" for name in _ERRORS))


def _stall(seconds: float, stopped: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while (left_s := end - time.monotonic()) > 0:
        if stopped():
            raise JobStopped("stopped in a stall of the script")
        time.sleep(min(left_s, _LOOK_S))


def _until_stop(text: str, stops: list[str]) -> tuple[str, bool]:
    """Return the text up to the first stop string, and whether there was one."""
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    return (text[:min(ends)], True) if ends else (text, False)


def _prompt_words(request: ModelInput) -> int:
    texts = [request.prompt] if request.prompt is not None else [turn.content for turn in request.messages or []]
    return sum(len(text.split()) for text in texts)
