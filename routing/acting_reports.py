"""Asks for the reports that alerts call for, and links them from the alert.

The link is written down with the alert, before the report is asked for: its id follows from the alert's. So a leader that
takes over asks again for what the one before may not have asked for, and asking twice is asking once.
"""

import msgspec

from app import logs
from app.investigation_records import id_of
from app.investigations import WANTED_MS, Investigations
from app.routing_records import Alert, Decision, Remembered


def linked(remembered: Remembered, decision: Decision) -> tuple[Remembered, Decision]:
    """Return both with the link in each alert that asks for a report."""
    if not decision.investigate:
        return remembered, decision

    def link(alert: Alert) -> Alert:
        asks = alert.id in decision.investigate
        return msgspec.structs.replace(alert, investigation=id_of(alert.id)) if asks else alert

    return (msgspec.structs.replace(remembered, alerts={key: link(alert) for key, alert in remembered.alerts.items()}),
            msgspec.structs.replace(decision, opened=tuple(link(alert) for alert in decision.opened)))


class Reports:
    """Asks, for one leader."""

    def __init__(self, investigations: Investigations) -> None:
        self._investigations = investigations
        self._asked: set[str] = set()

    def forget(self) -> None:
        """Another led meanwhile."""
        self._asked.clear()

    def ask(self, remembered: Remembered, *, at_ms: int) -> None:
        """Ask for the reports of alerts that opened lately, and for which nobody here has asked. Raises
        `StoreUnavailable`."""
        fresh = {alert.id: alert for alert in remembered.alerts.values()
                 if alert.investigation and at_ms - 1000 * alert.opened_s <= WANTED_MS}
        self._asked &= fresh.keys()
        for alert_id in fresh.keys() - self._asked:
            report_id = self._investigations.ask(fresh[alert_id])
            self._asked.add(alert_id)
            logs.event("investigation_asked", alert=alert_id, investigation=report_id)
