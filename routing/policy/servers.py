"""How each server stands: open, saturated or down.

A server is saturated while a signal of it whose action is failover is in alert, with one exception: errors on every server
that lives are not a server's fault. They come with a bad release, or a bad input, and would only be carried on; so while
all are in alert for their error rate, that counts for none. (So more errors may send less away: the only signal for which
that is so.)
"""

from app.routing_records import ServerView, Standing
from app.routing_rules import Action
from app.signals import ServerSignals
from routing.policy.round import Round

ERRORS = "error_percent"


def servers_after(this: Round, alarmed: frozenset[str]) -> dict[str, ServerView]:
    """Return how every server of the topology stands, by the signals in alert."""
    signals = tuple(name for name, each in this.rules.thresholds.items() if each.action is Action.FAILOVER)
    missing = {name: _missing_s(this, name, server) for name, server in this.signals.servers.items()}
    down = {name for name, since_s in missing.items()
            if since_s is not None and this.now_s - since_s >= this.rules.down_after_s}
    if fails_everywhere(alarmed, missing.keys() - down):
        signals = tuple(name for name in signals if name != ERRORS)
    views = {}
    for name, since_s in missing.items():
        why = tuple([signal for signal in signals if f"{signal}@{name}" in alarmed]) if alarmed else ()
        standing = Standing.DOWN if name in down else Standing.SATURATED if why else Standing.OPEN
        before = this.before.servers.get(name)
        stood_s = this.now_s if before is None or before.standing is not standing else before.since_s
        views[name] = ServerView(standing=standing, since_s=stood_s, why=() if name in down else why, missing_s=since_s)
    return views


def fails_everywhere(alarmed: frozenset[str], living: set[str]) -> bool:
    """Return whether every server that lives is in alert for its error rate."""
    return bool(alarmed) and bool(living) and all(f"{ERRORS}@{name}" in alarmed for name in living)


def _missing_s(this: Round, name: str, server: ServerSignals | None) -> float | None:
    """Return since when nothing is heard of it; one that never was heard of is missed from the first round on."""
    if server is not None:
        return None
    before = this.before.servers.get(name)
    return this.now_s if before is None or before.missing_s is None else before.missing_s
