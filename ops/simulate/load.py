"""What comes in, second by second: drawn from a trace, or given job by job."""

import math
import random
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from app.job import Lane
from ops.simulate.trace import Event, Row, Trace
from ops.simulate.world import World


class Arrival(NamedTuple):
    """A job that comes in."""

    t_s: float  # from the beginning
    service_s: float  # its run time at home
    tokens: float  # of its prompt and answer
    worst_tokens: float | None = None  # that it may cost; None: as many as it does
    lane: Lane = Lane.STANDARD


class Moment(NamedTuple):
    """A second."""

    arrivals: list[Arrival]
    users: int | None
    events: tuple[Event, ...]


def of_trace(trace: Trace, world: World) -> Iterator[Moment]:
    """Yield each second of the trace. The count of jobs is the trace's; when in the second they come, how long they run
    and in which lane they are is drawn."""
    draw = _Draw(world)
    users = None
    for row in _without_gaps(trace):
        users = row.users
        for second in range(row.second, row.second + row.for_s):
            yield Moment(draw.arrivals(second, row), users, row.events if second == row.second else ())


def of_arrivals(arrivals: Iterable[tuple[float, float, float] | Arrival]) -> Iterator[Moment]:
    """Yield each second up to the last arrival. They may come in any order."""
    ordered = sorted((Arrival(*each) for each in arrivals), key=lambda each: each.t_s)
    position = 0
    for second in range(math.floor(ordered[-1].t_s) + 1 if ordered else 0):
        begin = position
        while position < len(ordered) and ordered[position].t_s < second + 1:
            position += 1
        yield Moment(ordered[begin:position], None, ())


def _without_gaps(trace: Trace) -> Iterator[Row]:
    end, users = 0, None
    for row in trace.rows:
        if row.second > end:
            yield Row(second=end, for_s=row.second - end, users=users)
        yield row
        end, users = row.second + row.for_s, row.users


class _Draw:
    """The random part of a trace."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = random.Random(world.seed)
        # of a lognormal distribution with mean 1 and this standard deviation
        self._sigma = math.sqrt(math.log(1 + world.spread ** 2))
        self._mu = -self._sigma ** 2 / 2
        self._due = 0.0

    def arrivals(self, second: int, row: Row) -> list[Arrival]:
        self._due += row.jobs
        count = math.floor(self._due + 1e-9)  # ten times a tenth is one
        self._due -= count
        if not count:
            return []
        world, draw = self._world, self._random.random
        mean_s = world.service_s if row.service_s is None else row.service_s
        tokens = world.tokens if row.tokens is None else row.tokens
        found = []
        for _ in range(count):
            size = self._random.lognormvariate(self._mu, self._sigma) if self._sigma else 1.0
            used = tokens * size
            found.append(Arrival(second + draw(), mean_s * size, used, max(used, tokens * world.worst_tokens),
                                 self._lane(row)))
        found.sort()
        return found

    def _lane(self, row: Row) -> Lane:
        if not row.interactive and not row.batch:
            return Lane.STANDARD
        at = self._random.random()
        if at < row.interactive:
            return Lane.INTERACTIVE
        return Lane.BATCH if at < row.interactive + row.batch else Lane.STANDARD
