"""Faults on purpose: rules that bend chosen requests, set in-process or through the admin port, with a seed.

What each kind does to a request that it hits:
    status        nothing is done; the answer is `status` with `code`
    drop_before   nothing is done; the connection closes without an answer
    drop_after    it is done, and lasts; then the connection closes without an answer
    html502       nothing is done; the answer is a proxy's 502 in HTML
    latency       it waits `seconds`, then goes on
    duplicate     a send stores a second copy; what a receive hands out can be received again at once
    reorder       a receive picks at random instead of in order
    short_batch   a receive hands out fewer than it was asked for and could have (never fewer than one)
"""

import fnmatch
import random
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from ops.mns_server.queue import Twist

Kind = Literal["status", "drop_before", "drop_after", "html502", "latency", "duplicate", "reorder", "short_batch"]

#: The kinds of which at most one takes effect: they decide what the answer is.
_DECISIVE = ("status", "drop_before", "drop_after", "html502")


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule. `operation` is a name of the service's API, or `*`; a name without `Batch` stands for the batch form, too.
    `queue` is a name, or a pattern with `*`. It hits with `probability`, at most `times` times (None: no end)."""

    operation: str = "*"
    queue: str = "*"
    kind: Kind = "status"
    status: int = 500
    code: str = "InternalError"
    seconds: float = 0.0
    probability: float = 1.0
    times: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"a fault's kind is one of {', '.join(get_args(Kind))}; got {self.kind!r}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"a fault's probability is from 0 to 1; got {self.probability!r}")

    def is_for(self, operation: str, queue: str) -> bool:
        """Return whether the request is one that this can hit."""
        return (self.operation in ("*", operation, operation.removeprefix("Batch"))
                and fnmatch.fnmatchcase(queue, self.queue))


@dataclass(frozen=True, slots=True)
class Hit:
    """What befalls one request: the fault that decides its answer, if any; how long it waits first; and whether its
    messages are doubled, shaken, or fewer."""

    decisive: Fault | None = None
    latency_s: float = 0.0
    duplicate: bool = False
    reorder: bool = False
    short_batch: bool = False


NO_HIT = Hit()


class Faults:
    """The rules in force. Threads may share it."""

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._rules: list[Fault] = []
        self._hits: list[int] = []
        self.random = random.Random(seed)

    def add(self, fault: Fault) -> None:
        """Put a rule in force, after those that are."""
        with self._lock:
            self._rules.append(fault)
            self._hits.append(0)

    def clear(self) -> None:
        """Lift all rules."""
        with self._lock:
            self._rules.clear()
            self._hits.clear()

    def seed(self, seed: int) -> None:
        """Begin the dice anew."""
        with self._lock:
            self.random.seed(seed)

    def report(self) -> list[dict[str, Any]]:
        """Return each rule with how often it has hit."""
        with self._lock:
            return [{**asdict(rule), "hits": hits} for rule, hits in zip(self._rules, self._hits, strict=True)]

    def strike(self, operation: str, queue: str) -> Hit:
        """Throw the dice for a request, and return what befalls it."""
        with self._lock:
            if not self._rules:
                return NO_HIT
            struck = [rule for index, rule in enumerate(self._rules)
                      if rule.is_for(operation, queue) and self._throw(index, rule)]
        kinds = {rule.kind for rule in struck}
        return Hit(decisive=next((rule for rule in struck if rule.kind in _DECISIVE), None),
                   latency_s=sum(rule.seconds for rule in struck if rule.kind == "latency"),
                   duplicate="duplicate" in kinds, reorder="reorder" in kinds, short_batch="short_batch" in kinds)

    def twist(self, hit: Hit, most: int) -> Twist:
        """Return how the hit bends a receive of up to `most` messages."""
        with self._lock:
            fewer = self.random.randint(1, max(1, most - 1)) if hit.short_batch else None
        return Twist(reorder=self.random if hit.reorder else None, most=fewer, duplicate=hit.duplicate)

    def _throw(self, index: int, rule: Fault) -> bool:
        if rule.times is not None and self._hits[index] >= rule.times:
            return False
        if rule.probability < 1 and self.random.random() >= rule.probability:
            return False
        self._hits[index] += 1
        return True


def fault_of(document: Mapping[str, Any]) -> Fault:
    """Return the rule that a JSON object describes. Raises `ValueError` for an unknown field or a bad value."""
    known = {field.name for field in fields(Fault)}
    if unknown := set(document) - known:
        raise ValueError(f"a fault has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}")
    return Fault(**document)
