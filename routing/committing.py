"""What the routing task remembers from one round to the next, and how a round is written down: in one step, if who decided
it still leads. Then it is acted on, and not before: what a crash leaves undone, the next round decides anew.

The keys are described in `app.routing_records`. Leaves to others: what is decided (routing.policy), and all that is done.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import redis

from app import logs
from app.ledger import new_owner
from app.ledger.scripts import unavailable
from app.lua_script import LuaScript
from app.routing_board import RoutingBoard
from app.routing_records import Alert, AlertEvent, Decision, Gauge, Level, Remembered, Shadowed, Shed, Shown
from app.routing_rules import SIGNALS

_KEYS = ("leader:routing", "routing:state", "routing:shadowed", "routing:shown", "routing:shed", "routing:history",
         "alerts", "alerts:open")
_SHOWN_MS = 10_000  # a round that is older tells nothing of now
_SHED_MS = 5_000  # without a leader, everything is accepted again
_KEPT = 10_000  # entries of the history and of the alerts, roughly

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Kept:
    """What the rounds before this one left."""

    remembered: Remembered
    shadowed: Shadowed | None


class Committing:
    """Reads and writes it. `who` is the name by which this process leads."""

    def __init__(self, client: redis.Redis, *, who: str) -> None:
        self._client = client
        self._commit = LuaScript(client, "commit_round")
        self._who = who

    def kept(self) -> Kept:
        """Return what was left; what cannot be read, as another version of Tandem may leave, begins afresh, with the alerts
        that are open, so that each is closed once. Raises `StoreUnavailable`."""
        try:
            state, shadowed = self._client.mget("routing:state", "routing:shadowed")
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc
        remembered = Remembered() if state is None else _read(state, Remembered, "routing:state")
        return Kept(remembered or _afresh(RoutingBoard(self._client).open_alerts()),
                    _read(shadowed, Shadowed, "routing:shadowed"))

    def commit(self, shown: Shown, shadowed: Shadowed | None, *, state: Remembered | None = None) -> bool:
        """Write down a round; return whether this process still leads, in that epoch: if not, nothing is written. `state`
        is what the next round goes on from, where that is not what is shown. Raises `StoreUnavailable`."""
        decision, encode = shown.decision, msgspec.json.encode
        shed = decision.shed if shown.acting else Shed()
        changes = [encode(change) for change in decision.changes]
        events = [encode(event) for event in _events(decision)]
        alerts = [part for alert in shown.remembered.alerts.values() for part in (alert.id, encode(alert))]
        args: list[Any] = [self._who, shown.epoch, new_owner(), _KEPT, encode(state or shown.remembered),
                           encode(shadowed) if shadowed else b"", encode(shown), _SHOWN_MS,
                           encode(shed) if shed.lanes else b"", _SHED_MS, len(changes), *changes, len(events), *events,
                           *alerts]
        return bool(self._commit(_KEYS, *args))


def _afresh(alerts: list[Alert]) -> Remembered:
    """Return what is remembered where nothing but the open alerts is known: of signals, that these are in alert."""
    named = {f"{alert.name}@{alert.scope}": alert for alert in alerts}
    gauges = {key: Gauge(level=Level.ALERT, since_s=alert.opened_s)
              for key, alert in named.items() if alert.name in SIGNALS}
    return Remembered(alerts=named, gauges=gauges)


def _events(decision: Decision) -> list[AlertEvent]:
    return ([AlertEvent(event="opened", alert=alert) for alert in decision.opened]
            + [AlertEvent(event="closed", alert=alert) for alert in decision.closed])


def _read(text: bytes | None, kind: type[Kind], key: str) -> Kind | None:
    """Return a record; None where there is none, or none that can be read."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, RecursionError) as exc:
        logs.event("routing_begins_afresh", key=key, why=f"{type(exc).__name__}: {exc}")
        return None
