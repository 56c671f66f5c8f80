"""The stories told last, row by row, beside RESULTS.md: so a row can be drilled again by itself, and the file still shows
all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ops.drill.story import Story

FILE = Path(__file__).parent / "results.json"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A story as it is kept; `run` is when and of which commit it was told."""

    name: str
    run: str
    steps: dict[str, float]
    figures: dict[str, str]
    faults: list[str]

    @classmethod
    def of(cls, story: Story, run: str) -> "Told":
        """Return a story's, of that run."""
        return cls(name=story.name, run=run, steps=dict(story.steps), figures=dict(story.figures),
                   faults=list(story.faults))


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept in a file, in the order of `names`. Others are forgotten."""

    names: Sequence[str]
    file: Path = FILE

    def read(self) -> list[Told]:
        """Return what is kept."""
        return msgspec.json.decode(self.file.read_bytes(), type=list[Told]) if self.file.exists() else []

    def add(self, told: Sequence[Told]) -> list[Told]:
        """Keep these in place of what was told of the same rows before; return all."""
        known = {each.name: each for each in [*self.read(), *told]}
        ordered = [known[name] for name in self.names if name in known]
        self.file.write_bytes(msgspec.json.format(msgspec.json.encode(ordered)) + b"\n")
        return ordered
