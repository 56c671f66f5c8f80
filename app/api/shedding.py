"""Refuses new jobs while there are too many: before acceptance, so that nothing is promised and nothing written.

Which lanes are refused, and for how long to stay away, says the routing task (`routing:shed`). The gateway reads that once
a second (`refresh`); what was not confirmed for `BELIEVED_S`, since Redis was away, counts no more.
"""

import time
from collections.abc import Callable

import msgspec
import redis

from app import logs
from app.errors import ReducedCapacity
from app.job import Lane
from app.routing_records import Shed

KEY = "routing:shed"

#: How long what was read is believed: ten readings.
BELIEVED_S = 10.0


class Shedding:
    """What is refused at the moment. Safe to share between threads; `clock` is monotonic."""

    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._shed = Shed()
        self._until_s = 0.0

    def refresh(self) -> None:
        """Read what is to be refused. Raises redis-py's errors; what was read before then counts for a while."""
        text: bytes | None = self._client.get(KEY)
        try:
            shed = msgspec.json.decode(text, type=Shed) if text else Shed()
        except msgspec.MsgspecError as exc:  # a newer Tandem's; refusing for a reason that is not understood helps nobody
            logs.event("shed_unreadable", why=str(exc))
            shed = Shed()
        if shed.lanes != self._shed.lanes:
            logs.event("shedding", lanes=shed.lanes, why=shed.why)
        self._shed, self._until_s = shed, self._clock() + BELIEVED_S

    def refuses(self, lane: Lane) -> bool:
        """Whether new jobs of a lane are refused."""
        return lane.value in self._shed.lanes and self._clock() < self._until_s

    def check(self, lane: Lane) -> None:
        """Raise `ReducedCapacity` where new jobs of a lane are refused."""
        if self.refuses(lane):
            shed = self._shed
            raise ReducedCapacity(f"there is more to do than can be done soon, so new {lane} jobs are not taken "
                                  f"for the moment; try again in {shed.retry_after_s} s", retry_after_s=shed.retry_after_s)
