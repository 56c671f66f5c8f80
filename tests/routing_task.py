"""For tests of the routing task: a policy that does what a test says, workers that say how they stand, and what they were
told."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from app.ledger import Ledger
from app.routing_records import Alert, Decision, Remembered
from app.routing_rules import Rules
from app.settings import Settings
from app.signals import Signals
from app.topology import Topology, load
from routing.task import Routing
from tests.clock import Clock

PLAN: Topology = load({}, embedded=False)[1]
HOLD = Decision(hold={"server-1": ("model", "chat")})
SLOW = Alert(id="response_s@server-1#1", name="response_s", scope="server-1", opened_s=0.0, value=3.0, threshold=2.0,
             action="investigate", detail="it is slow")


@dataclass(slots=True)
class Policy:
    """Decides what it is set to; `rules` and `before` are what it was given."""

    decision: Decision = field(default_factory=Decision)
    remembered: Remembered = field(default_factory=Remembered)
    rules: list[Rules] = field(default_factory=list)
    before: list[Remembered] = field(default_factory=list)

    def __call__(self, _: Signals, rules: Rules, before: Remembered, __: float) -> tuple[Remembered, Decision]:
        self.rules.append(rules)
        self.before.append(before)
        return self.remembered, self.decision


@dataclass(slots=True)
class Told:
    """What workers were told; `broken` is what comes of it instead."""

    words: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    broken: Exception | None = None
    spoken: int = 0  # words, to however many workers

    def __call__(self, workers: Sequence[str], arguments: dict[str, Any]) -> None:
        if self.broken:
            raise self.broken
        self.words += [(worker, arguments) for worker in workers]
        self.spoken += 1

    def take(self) -> dict[str, tuple[list[str], int | None]]:
        """Return what is held and the slots by worker, of what was told since the last time."""
        words, self.words = self.words, []
        return {worker: (arguments["hold"], arguments["slots"]) for worker, arguments in words}


def enter(ledger: Ledger, name: str, *, held: str = "", slots: int | None = None, pid: int = 1) -> None:
    """Have a worker say how it stands; with as many slots as it starts with, if nothing else is said."""
    service, server = name.split("@")
    services = "auth,model,chat,cache,queue" if service == "all" else service
    first = next((spec.concurrency for spec in PLAN.servers[0].workers if spec.name == service), 1)
    ledger.register(name, {"server": server, "services": services, "pid": pid, "host": "here", "processors": "P2",
                           "cpus": "0", "slots": slots or first, "busy": 0, "idle_ms": 0, "held": held}, 60.0)


@contextmanager
def task(settings: Settings, *, who: str = "queue@server-1", decide: Any = None, tell: Any = None, clock: Any = None,
         plan: Topology = PLAN) -> Iterator[Routing]:
    """A routing task that a test drives, which gives up its lead at the end."""
    one = Routing(settings, plan, who=who, tell=tell or Told(), decide=decide or Policy(), clock=clock or Clock())
    try:
        yield one
    finally:
        one.stop()
        one.resign()
        one.close()
