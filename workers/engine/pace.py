"""How much of the prompts is read at a time: enough to keep the device busy, little enough that those who are being
answered hardly notice."""

from dataclasses import dataclass

_STALL_S = 0.1  # what a pass over prompts may add to the time between two tokens, where a step takes less than that
_LONGEST_PASS_S = 0.5  # what it may take when nobody is being answered, so that a prompt can be stopped
_STALL_STEPS = 6  # how many steps' time passes may take between two steps, where as many are read as answered
_LONGEST_STALL_S = 1.0  # and at most, however few are answered
_WORTH_IT = 3  # what reading takes of a pass, over what a pass takes whatever it reads: with less, reading takes too long
_LEAST, _MOST = 16, 4096  # tokens of a pass, padding included
_SMOOTHING = 0.2
_MOST_OFF = 2.0  # a hiccup tells nothing about the model


@dataclass(slots=True)
class Pace:
    """What a pass costs: `pass_s`, whatever it reads, and `token_s` for each token; `step_s` is what a step takes."""

    pass_s: float
    token_s: float
    step_s: float = 0.0

    def tokens(self, *, reading: int, running: int) -> int:
        """Return how many tokens a pass may have, padding included, while so many prompts are to be read and so many rows
        are being answered. The more wait in proportion, the longer the others do."""
        allowed_s = _LONGEST_PASS_S
        if running:
            allowed_s = min(max(_STALL_S, self.step_s) * (1 + reading / running), _LONGEST_PASS_S)
        worth_it = _WORTH_IT * self.pass_s / self.token_s
        return int(min(max((allowed_s - self.pass_s) / self.token_s, worth_it, _LEAST), _MOST))

    def step_is_due(self, stalled_s: float, *, reading: int, running: int) -> bool:
        """Return whether the rows that are being answered, and have waited so long, get a token before the next pass over
        prompts. A step of a few rows takes almost as long as one of many: so few wait for many, for as long as some steps
        take."""
        return stalled_s >= min(_STALL_STEPS * max(self.step_s, self.pass_s) * reading / running, _LONGEST_STALL_S)

    def learn_pass(self, tokens: int, took_s: float) -> None:
        """Take in how long a pass took: both costs are off by as much as their sum was."""
        off = min(took_s / (self.pass_s + self.token_s * tokens), _MOST_OFF)
        self.pass_s *= 1 + _SMOOTHING * (off - 1)
        self.token_s *= 1 + _SMOOTHING * (off - 1)

    def learn_step(self, took_s: float) -> None:
        """Take in how long a step took."""
        self.step_s += _SMOOTHING * (took_s - self.step_s)
