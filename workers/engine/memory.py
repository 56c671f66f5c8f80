"""The memory for what a model keeps of tokens: who may take how much of it, and what is kept in it for later."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from app import logs
from workers.engine.decoding import Decoding
from workers.engine.failures import out_of_memory
from workers.engine.prefixes import SHORTEST, TOKEN_BYTES, Prefixes, common
from workers.engine.rows import Row
from workers.engine.runner import Runner

_T = TypeVar("_T")


class Memory:
    """A budget in bytes for the rows that run and, in what they leave of it, for beginnings that may be used again."""

    def __init__(self, runner: Runner, prefixes: Prefixes, budget: int) -> None:
        self._runner = runner
        self._prefixes = prefixes
        self._budget = budget
        self._shortages = 0

    def figures(self) -> dict[str, int | float]:
        """What is taken, and how often memory was short although the budget was kept."""
        return {"kv_bytes": self._runner.nbytes(), "kv_budget_bytes": self._budget, "prefixes": len(self._prefixes),
                "prefix_bytes": self._prefixes.nbytes, "out_of_memory": self._shortages}

    def fits(self, tokens: int) -> bool:
        """Whether a request of so many tokens, prompt and answer, fits when nothing else runs."""
        return self._runner.needs([tokens]) <= self._budget

    def left(self, decodings: Sequence[Decoding]) -> float:
        """What of the budget these leave, whatever they come to; below 0 where they are too much."""
        return self._budget - self._runner.needs([each.prompt.expected for each in decodings])

    def make_room(self, decodings: Sequence[Decoding]) -> None:
        """Forget of what is kept for later as much as these may need."""
        self._prefixes.shrink(round(self.left(decodings)))

    def beginning(self, decoding: Decoding, running: Sequence[Decoding]) -> Row | None:
        """Return what is held of a prompt's beginning, from one that has ended or is being answered. `running` are the
        runner's rows."""
        if not self._runner.token_bytes:
            return None
        row = self._prefixes.find(decoding.tokens)
        wanted = decoding.packed[:-TOKEN_BYTES]  # the last must be computed, for what comes after it
        shared, at = max(((common(other.packed, wanted), at) for at, other in enumerate(running)), default=(0, 0))
        if shared >= SHORTEST + (row.length if row else 0) and (copied := self._copied(at, shared)) is not None:
            return copied
        return row

    def remember(self, decoding: Decoding, running: Sequence[Decoding]) -> None:
        """Keep what is held of a request that has ended, if there is room beside those who run."""
        at = running.index(decoding)
        held = self._runner.lengths[at]
        size, room = held * self._runner.token_bytes, self.left(running)
        if size and size <= room and self._prefixes.wants(held, self._runner.token_bytes):
            self._prefixes.shrink(round(room - size))
            if (row := self._copied(at, held)) is not None:
                self._prefixes.keep((decoding.tokens + decoding.said)[:held], row)

    def provide(self, run: Callable[[], _T]) -> _T:
        """Run something; when memory is short, give up what is kept for later and run it again. That must be safe: what a
        model wrote before it failed is written again."""
        try:
            return run()
        except Exception as exc:
            if not out_of_memory(exc):
                raise
            self._shortages += 1
            logs.event("engine_out_of_memory", level=logging.WARNING, why=str(exc))
        self._prefixes.shrink(0)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return run()

    def _copied(self, at: int, length: int) -> Row | None:
        """A copy of what is held of a row's beginning, if there is memory for that."""
        try:
            return self.provide(lambda: self._runner.keep(at, length))
        except Exception as exc:
            if not out_of_memory(exc):
                raise
            return None
