"""What is told of a round that is decided and not done, as routing is paused or the setting `routing` is off: nobody reads
as done what would be done.

Leaves to others: what the next round goes on from, which is as it was decided; and what is done all the same: reports are
written, and what a silent server had goes to others.
"""

import msgspec

from app.routing_records import Alert, Change, Decision, Remembered
from app.routing_rules import Action, Rules

_MOVES = frozenset({"hold", "send", "recall", "scale", "shed"})  # changes of something outside of the policy
_CHANGED = "not done, as routing does not act: "
_DONE = "nothing, as routing does not act; it would be: "
_ANYWAY = "server-down"  # the alert about which the ledger acts, and not routing


def unacted(remembered: Remembered, decision: Decision, rules: Rules) -> tuple[Remembered, Decision]:
    """Return what was decided under these rules as it is to be written down, shown and delivered."""
    def told(alert: Alert) -> Alert:
        return _alert(alert, rules)

    return (msgspec.structs.replace(remembered, alerts={key: told(alert) for key, alert in remembered.alerts.items()}),
            msgspec.structs.replace(decision, changes=tuple(map(_change, decision.changes)),
                                    opened=tuple(map(told, decision.opened)),
                                    closed=tuple(map(told, decision.closed))))


def _change(change: Change) -> Change:
    return msgspec.structs.replace(change, why=_CHANGED + change.why) if change.what in _MOVES else change


def _alert(alert: Alert, rules: Rules) -> Alert:
    threshold = rules.thresholds.get(alert.name)
    reported = threshold is not None and threshold.action is Action.INVESTIGATE
    if reported or alert.name == _ANYWAY or alert.action.startswith(_DONE):  # so where the open ones are all that is known
        return alert
    return msgspec.structs.replace(alert, action=_DONE + alert.action)
