"""What was computed for earlier prompts and answers, kept for prompts that begin in the same way.

A conversation's next turn begins with its last one, and many conversations with one system prompt: what the model holds of
such a beginning need not be computed again. The least recently used goes first when memory is short.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from workers.engine.rows import Row

#: A shorter beginning costs about as much to copy and keep as to compute.
SHORTEST = 16
TOKEN_BYTES = 4  # of a packed token


@dataclass(frozen=True, slots=True)
class Kept:
    """A row with the tokens that it was computed from."""

    tokens: bytes
    row: Row
    nbytes: int


class Prefixes:
    """Rows by their tokens, within a memory budget in bytes. Not for several threads."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._kept: list[Kept] = []  # the least recently used first
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, tokens: Sequence[int]) -> Row | None:
        """Return the longest beginning held of these tokens, one short of the whole at most: the last one must be computed,
        for what comes after it."""
        wanted = packed(tokens[:-1])
        length, best = max(((common(kept.tokens, wanted), at) for at, kept in enumerate(self._kept)), default=(0, 0))
        if length < SHORTEST:
            return None
        self._kept.append(self._kept.pop(best))
        return self._kept[-1].row.first(length)

    def keep(self, tokens: Sequence[int], row: Row) -> None:
        """Keep a row, which must have memory of its own; those that it continues are not needed any more. A row over the
        budget is not kept."""
        fresh, size = packed(tokens), row.nbytes
        if len(tokens) < SHORTEST or size > self._budget or any(kept.tokens.startswith(fresh) for kept in self._kept):
            return
        self._kept = [kept for kept in self._kept if not fresh.startswith(kept.tokens)] + [Kept(fresh, row, size)]
        self.nbytes = sum(kept.nbytes for kept in self._kept)
        self.shrink(self._budget)

    def wants(self, length: int, token_bytes: float) -> bool:
        """Whether a row of so many tokens would be kept."""
        return length >= SHORTEST and length * token_bytes <= self._budget

    def shrink(self, most: int) -> None:
        """Forget until no more than so many bytes are held."""
        while self._kept and self.nbytes > most:
            self.nbytes -= self._kept.pop(0).nbytes


def packed(tokens: Sequence[int]) -> bytes:
    """Return token ids as bytes, four each, which compare fast."""
    return array("i", tokens).tobytes()


def common(one: bytes, other: bytes) -> int:
    """Return how many tokens two packed sequences have in common at their beginning."""
    if one[:TOKEN_BYTES] != other[:TOKEN_BYTES]:  # most have nothing in common
        return 0
    low, high = 0, min(len(one), len(other)) // TOKEN_BYTES
    while low < high:
        middle = (low + high + 1) // 2
        if one[:TOKEN_BYTES * middle] == other[:TOKEN_BYTES * middle]:
            low = middle
        else:
            high = middle - 1
    return low
