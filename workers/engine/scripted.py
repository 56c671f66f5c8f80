"""An engine that plays a script: for tests and load, where a model would only be in the way.

The last user message, or the prompt, is the script. Its words are echoed, a word a token; directives stand in brackets:

    [stall 200ms] [stall 1.5s]      wait
    [repeat 50 word]                say a word 50 times
    [error transient] [error out-of-memory] [error permanent]
    [think] ... [answer]            what stands between is reasoning; a word a token like the rest

Where JSON is asked for, a script that begins with no brace is the member `text` of an object, told at the end.
"""

import json
import re
import time
from collections.abc import Callable, Iterator

from app.errors import EngineFailed, EngineOutOfMemory, EngineTransient, JobStopped
from app.inputs import ModelInput
from app.messages import JsonObjectFormat, JsonSchemaFormat
from app.model_card import ModelCard
from workers.engine import Channel, Generation, Tell, Usage, nobody

_PART = re.compile(r"\[([^\]]*)\]|(\S+)")
_STALL = re.compile(r"stall (\d+(?:\.\d+)?)(ms|s)")
_REPEAT = re.compile(r"repeat (\d{1,6}) (\S+)")
_ERRORS = {"error transient": EngineTransient, "error out-of-memory": EngineOutOfMemory, "error permanent": EngineFailed}

_CHANNELS = {"think": Channel.REASONING, "answer": Channel.CONTENT}

_LOOK_S = 0.01  # how often a stall asks whether to stop


class ScriptedEngine:
    """Plays scripts; any number at once."""

    name = "scripted"

    def figures(self) -> dict[str, int | float]:
        """Nothing is counted."""
        return {}

    def card(self) -> tuple[ModelCard, bytes] | None:
        """None: there is no model."""
        return None

    def generate(self, request: ModelInput, stopped: Callable[[], bool], tell: Tell = nobody) -> Generation:
        """Play the request's script. Raises what the script says, `EngineFailed` for a directive that is none."""
        script = request.prompt if request.prompt is not None else (request.messages or [])[-1].text
        said: dict[Channel, str] = {Channel.REASONING: "", Channel.CONTENT: ""}
        words, reason = 0, "stop"
        tells_content = not (request.stop_strings or request.response_format)  # what is told may not be changed afterwards
        for channel, word in _words(script, stopped):
            if stopped():
                raise JobStopped("stopped between two words of the script")
            if words == request.max_tokens:
                reason = "length"
                break
            words += 1
            piece = f" {word}" if said[channel] else word
            if channel is Channel.CONTENT and (cut := _cut(said[channel] + piece, request.stop_strings)) is not None:
                said[channel] = cut
                break
            said[channel] += piece
            if channel is Channel.REASONING or tells_content:
                tell(channel, piece)
        usage = Usage(prompt_tokens=_prompt_words(request), completion_tokens=words)
        text = _in_format(said[Channel.CONTENT], request)
        return Generation(text=text, reasoning=said[Channel.REASONING] or None, usage=usage,
                          finish_reason="stop" if reason == "stop" else "length", model="scripted")


def _in_format(text: str, request: ModelInput) -> str:
    """Return the text as JSON where that is asked for and it is none."""
    if not isinstance(request.response_format, JsonObjectFormat | JsonSchemaFormat) or text.startswith("{"):
        return text
    return json.dumps({"text": text})


def _words(script: str, stopped: Callable[[], bool]) -> Iterator[tuple[Channel, str]]:
    channel = Channel.CONTENT
    for directive, word in _PART.findall(script):
        if word:
            yield channel, word
        elif directive in _CHANNELS:
            channel = _CHANNELS[directive]
        else:
            for played in _play(directive, stopped):
                yield channel, played


def _play(directive: str, stopped: Callable[[], bool]) -> Iterator[str]:
    if stall := _STALL.fullmatch(directive):
        _stall(float(stall[1]) / (1000 if stall[2] == "ms" else 1), stopped)
    elif repeat := _REPEAT.fullmatch(directive):
        yield from [repeat[2]] * int(repeat[1])
    elif directive in _ERRORS:
        raise _ERRORS[directive](f"the script says [{directive}]")
    else:
        raise EngineFailed(f"[{directive[:40]}] is no directive; there are [stall 200ms], [repeat 50 word] and "
                           + ", ".join(f"[{name}]" for name in (*_CHANNELS, *_ERRORS)))


def _stall(seconds: float, stopped: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while (left_s := end - time.monotonic()) > 0:
        if stopped():
            raise JobStopped("stopped in a stall of the script")
        time.sleep(min(left_s, _LOOK_S))


def _cut(text: str, stops: list[str]) -> str | None:
    """Return the text up to the first stop string, or None where there is none in it."""
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    return text[:min(ends)] if ends else None


def _prompt_words(request: ModelInput) -> int:
    texts = [request.prompt] if request.prompt is not None else [turn.text for turn in request.messages or []]
    return sum(len(text.split()) for text in texts)
