"""What the process of a `Writer` is told to do and what it says about it: a line of JSON each way, on its standard input
and output. What the libraries in it print goes to its log.
"""

import os
import random
import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from app.inputs import ModelInput


class Timed(NamedTuple):
    """A request, and how long its caller pauses before it."""

    pause_s: float
    request: ModelInput


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Callers at work at the same time, each with requests that it makes one after another. `listening`: each piece of text
    is to be noted as it comes. `profiled`: so is where the time goes. `longest_pause_s`: a caller pauses before each
    request, for up to so long, the same time whoever answers."""

    callers: list[list[ModelInput]]
    listening: bool = False
    profiled: bool = False
    longest_pause_s: float = 0.0

    def timed(self) -> list[list[Timed]]:
        """Return the requests with the pauses before them."""
        draw = random.Random(len(self.callers))
        return [[Timed(draw.uniform(0, self.longest_pause_s), request) for request in requests]
                for requests in self.callers]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a request. `told_s` has the moment of each piece of text, from when the request was made."""

    prompt_tokens: int
    tokens: int
    cached_tokens: int = 0
    text: str = ""
    told_s: list[float] = []


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """The answers, in the order of the load, and the seconds from the first request to the last answer."""

    answers: list[list[Answer]]
    took_s: float
    profile: str = ""

    @property
    def all_answers(self) -> list[Answer]:
        """The answers of all callers."""
        return [answer for answers in self.answers for answer in answers]

    @property
    def tokens_per_s(self) -> float:
        """Tokens that were written, of all callers together."""
        return sum(answer.tokens for answer in self.all_answers) / self.took_s


#: Does what a load says. The load it is first given is a small one, to warm up with.
Write = Callable[[Load], Written]

WARM_UP = Load(callers=[[ModelInput(prompt="Good morning. What is new?", max_tokens=4, temperature=0.0)]] * 2)


def serve(write: Write) -> None:
    """Say that all is ready, then do what each line of standard input says, to its end."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for load in _loads():
            answers.write(msgspec.json.encode(write(load)).decode() + "\n")
            answers.flush()


def _loads() -> Iterable[Load]:
    yield WARM_UP  # answering it is how it says that it is ready
    for line in sys.stdin:
        yield msgspec.json.decode(line, type=Load)
