"""Signals for the policy, and a course of rounds over them, a second each."""

from typing import Any

import msgspec
from hypothesis import strategies as st

from app.routing_records import Alert, Change, Decision, Remembered
from app.routing_rules import Rules
from app.signals import CloudSignals, QueueSignals, ServerSignals, Signals, Times
from app.topology import load
from routing.policy import decide

#: As the topology file has them.
SHIPPED = load({}, embedded=False)[1].rules

#: When a course begins.
BEGIN_S = 1_000_000.0

SERVERS = ("server-1", "server-2")


def times(p95_s: float, count: int = 100) -> Times:
    """Return times whose p95 is that."""
    return Times(count=count, mean_s=p95_s / 2, p50_s=p95_s / 2, p95_s=p95_s)


def a_server(name: str = "server-1", **changes: Any) -> ServerSignals:
    """Return a server at ease, with what the test cares about set."""
    fields: dict[str, Any] = {"cpu_percent": 30.0, "memory_percent": 40.0, "calls": times(0.1), "answers": times(0.2),
                              "requests": 1000, "attempts": 1000}
    return ServerSignals(server=name, at_ms=0, **(fields | changes))


def a_queue(waiting: int = 0, **changes: Any) -> QueueSignals:
    """Return a model queue of 32 slots, each busy for 2 s a job: home begins 16 a second, and 80 in the target wait."""
    fields: dict[str, Any] = {"slots": 32, "running": 32, "pace_s": 2.0, "rate": 4.0, "wait_s": waiting / 16}
    return QueueSignals(waiting=waiting, **(fields | changes))


def a_cloud(**changes: Any) -> CloudSignals:
    """Return a cloud with plenty of room."""
    fields: dict[str, Any] = {"reachable": True, "workers": 10, "slots": 80, "jobs_left": 600, "money_left": 100.0,
                              "job_cost": 0.01}
    return CloudSignals(**(fields | changes))


def signals(*servers: ServerSignals | None, queue: QueueSignals | None = None, cloud: CloudSignals | None = None,
            users: int | None = 10, names: tuple[str, ...] = SERVERS) -> Signals:
    """Return signals of servers in the order of `names`; where fewer are given, the others are at ease."""
    given = dict(zip(names, servers, strict=False))
    return Signals(at_ms=0, servers={name: given[name] if name in given else a_server(name) for name in names},
                   queues={"model": queue or a_queue()}, users=users, cloud=cloud)


class Course:
    """Rounds, one a second, and all that came of them."""

    def __init__(self, rules: Rules = SHIPPED, *, now_s: float = BEGIN_S) -> None:
        self.rules = rules
        self.now_s = now_s
        self.remembered = Remembered()
        self.decision = Decision()
        self.decisions: list[Decision] = []

    def go(self, seen: Signals, *, seconds: float = 1) -> Decision:
        """Have the same signals for so many rounds; return the last decision."""
        for _ in range(round(seconds)):
            self.remembered, self.decision = decide(seen, self.rules, self.remembered, self.now_s)
            self.decisions.append(self.decision)
            self.now_s += 1.0
        return self.decision

    def until(self, seen: Signals, *, at_most_s: int, **wanted: Any) -> float:
        """Have the same signals until the decision has these members; return after how many seconds it had."""
        began_s = self.now_s
        for _ in range(at_most_s + 1):
            decision = self.go(seen)
            if all(getattr(decision, name) == value for name, value in wanted.items()):
                return self.now_s - 1.0 - began_s
        raise AssertionError(f"not {wanted} within {at_most_s} s, but {self.decision}")

    def level(self, key: str) -> str:
        """Return the level of a signal."""
        return self.remembered.gauges[key].level.value

    def standing(self, name: str) -> str:
        """Return how a server stands."""
        return self.remembered.servers[name].standing.value

    def changes(self, what: str) -> list[Change]:
        """Return all changes of a kind."""
        return [change for decision in self.decisions for change in decision.changes if change.what == what]

    def opened(self) -> list[Alert]:
        """Return all alerts that were opened."""
        return [alert for decision in self.decisions for alert in decision.opened]

    def closed(self) -> list[Alert]:
        """Return all alerts that were closed."""
        return [alert for decision in self.decisions for alert in decision.closed]


def stored(remembered: Remembered) -> Remembered:
    """Return what is remembered as the next leader reads it from Redis."""
    return msgspec.json.decode(msgspec.json.encode(remembered), type=Remembered)


# Signals of all kinds, for properties. Values lie on, above and below the shipped thresholds.

percents = st.none() | st.sampled_from([0.0, 69.9, 70.0, 74.9, 75.0, 79.9, 80.0, 84.9, 85.0, 99.0])
p95s = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 9.0])
many_times = st.none() | st.builds(times, p95s, st.sampled_from([5, 20, 500]))


@st.composite
def servers(draw: st.DrawFn, name: str = "server-1") -> ServerSignals:
    """A server that reports, in any state."""
    total, attempts = draw(st.sampled_from([0, 19, 100])), draw(st.sampled_from([0, 19, 100]))
    return ServerSignals(
        server=name, at_ms=0, cpu_percent=draw(percents), memory_percent=draw(percents), calls=draw(many_times),
        answers=draw(many_times), requests=total, requests_failed=draw(st.integers(0, min(total, 6))), attempts=attempts,
        attempts_failed=draw(st.integers(0, min(attempts, 6))),
        workers=draw(st.sampled_from([(), (f"all@{name}",), (f"model@{name}", f"chat@{name}"), (f"chat@{name}",)])),
        held=draw(st.sampled_from([(), ("model",), ("auth", "model", "chat", "cache", "queue")])))


waitings = st.integers(0, 60) | st.sampled_from([80, 200, 1000, 10_000])
paces = st.none() | st.sampled_from([0.0, 1e-310, 0.05, 2.0, 30.0])

queues = st.builds(
    QueueSignals, waiting=waitings, running=st.integers(0, 40), slots=st.sampled_from([0, 1, 16, 32]),
    oldest_s=st.sampled_from([0.0, 4.9, 5.0, 5.1, 200.0]), rate=st.none() | st.sampled_from([0.0, 1.0, 50.0]), pace_s=paces,
    wait_s=st.none() | st.sampled_from([0.0, 59.0, 61.0, 119.0, 121.0, 241.0, 500.0]))

clouds = st.builds(
    CloudSignals, reachable=st.sampled_from([None, True, False]), workers=st.integers(0, 2),
    slots=st.sampled_from([0, 8, 64]), sent=st.integers(0, 40), running=st.integers(0, 16), pace_s=paces,
    posts=st.integers(0, 30), posts_failed=st.integers(0, 6), begun=st.integers(0, 6), lapsed=st.integers(0, 6),
    succeeded=st.integers(0, 6), failed=st.integers(0, 6),
    jobs_left=st.none() | st.integers(0, 600), jobs_minute=st.integers(0, 600),
    money_left=st.none() | st.floats(0.0, 100.0), money_hour=st.floats(0.0, 100.0), job_cost=st.floats(0.0, 1.0))


@st.composite
def anything(draw: st.DrawFn) -> Signals:
    """Signals in any state."""
    queue = draw(st.none() | queues)
    return Signals(
        at_ms=0, servers={name: draw(st.none() | servers(name)) for name in SERVERS},
        queues={} if queue is None else {"model": queue},
        users=draw(st.none() | st.sampled_from([0, 1000, 1001, 1499, 1500, 20_000])), cloud=draw(st.none() | clouds))


#: Signals, and for how many seconds they stay as they are.
courses = st.lists(st.tuples(anything(), st.sampled_from([1, 2, 5, 6, 11, 31, 61])), min_size=1, max_size=5)
