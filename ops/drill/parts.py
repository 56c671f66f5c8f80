"""Which rows there are, and on which stacks they are played."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ops.drill.rows.cpu import cpu
from ops.drill.rows.errors import errors
from ops.drill.rows.leaders import leaders
from ops.drill.rows.memory import memory
from ops.drill.rows.outage import frozen, unwell
from ops.drill.rows.overload import HOME_EDITS, baseline, capped, overload
from ops.drill.rows.slow import slow
from ops.drill.rows.users import users
from ops.drill.scene import Scene
from ops.drill.story import Story

Tell = Callable[[Scene, Story], None]


@dataclass(frozen=True, slots=True)
class Part:
    """Rows on one stack, which differs from the shipped one by `edits`."""

    name: str
    rows: Sequence[Mapping[str, Tell]]  # one group after another; those of a group at the same time
    edits: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The rows, in order."""
        return [name for group in self.rows for name in group]

    @property
    def books(self) -> str:
        """The last story: whether the stack's books balance."""
        return f"books after {self.name}"


#: The threshold table, row by row. Errors and users take long to return, and have nothing to do with each other.
SIGNALS = Part("the threshold table", (
    {"error_percent": errors, "concurrent_users": users}, {"response_s": slow}, {"memory_percent": memory},
    {"cpu_percent": cpu}))

#: Load above what home can serve, and what goes wrong then.
OVERLOAD = Part("the overload", (
    {"overload": overload}, {"overflow off": baseline}, {"cap": capped}, {"MNS frozen": frozen},
    {"MNS answers 503": unwell}, {"leader killed": leaders}), HOME_EDITS)
