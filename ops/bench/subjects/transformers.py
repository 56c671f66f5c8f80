"""transformers without Tandem, in the ways there are to use it."""

from pathlib import Path
from typing import ClassVar

from ops.bench.subjects.writer import PinnedWriter

_PROGRAM = Path(__file__).parents[1] / "peers" / "transformers" / "write.py"


class _Transformers(PinnedWriter):
    """One of the ways, named as `write.py` names it."""

    way: ClassVar[str]

    def command(self) -> list[str]:
        """The peer's program; it has the packages that Tandem has."""
        return [str(_PROGRAM), str(self.model), self.way]


class OneByOne(_Transformers):
    """A request at a time."""

    name: ClassVar[str] = "generate"
    form: ClassVar[str] = "transformers' `generate`, one request after another; attention by SDPA"
    way: ClassVar[str] = "one-by-one"


class Continuous(_Transformers):
    """transformers' own continuous batching."""

    name: ClassVar[str] = "transformers cb"
    form: ClassVar[str] = (
        "transformers' continuous batching (`init_continuous_batching`), its manager running throughout; attention by "
        "SDPA, pages of 256 tokens, 2,048 tokens a pass at most, prefixes shared: its defaults, but for the size of the "
        "cache and of a pass, which it would take from the memory there is. Smaller pages, shorter passes and "
        "`paged|eager` were tried and are no faster")
    way: ClassVar[str] = "continuous"


class Static(_Transformers):
    """The ceiling: all requests begin and end together."""

    name: ClassVar[str] = "static batch"
    form: ClassVar[str] = (
        "transformers' `generate` with all requests in one batch, padded on the left; attention by SDPA. They begin and "
        "end together, so this is a ceiling, not a server")
    way: ClassVar[str] = "static"
