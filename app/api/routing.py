"""What operators are told of routing beside `/v1/status`: its history, the alerts, and the reports of investigations."""

from typing import Any

from flask import Blueprint, Response

from app import routing_view
from app.api import bodies, paging
from app.api.caller import operators_only
from app.investigation_records import Asked
from app.investigation_text import text
from app.job import timestamp
from app.routing_view import RoutingView

blueprint = Blueprint("routing", __name__, url_prefix="/v1")


@blueprint.get("/routing/history")
@operators_only
def history() -> Response:
    """Return what the routing task changed, newest first. Raises `StoreUnavailable`."""
    found = bodies.gateway().routing_board.history(paging.limit())
    return bodies.json_response({"data": [routing_view.of_change(change) for _, change in found]})


@blueprint.get("/alerts")
@operators_only
def alerts() -> Response:
    """Return the alerts that are open, and those that opened and closed, newest first. Raises `StoreUnavailable`."""
    board = bodies.gateway().routing_board
    return bodies.json_response({
        "open": [routing_view.of_alert(alert) for alert in board.open_alerts()],
        "events": [{"event": event.event, "alert": routing_view.of_alert(event.alert)}
                   for _, event in board.alerts(paging.limit())]})


@blueprint.get("/investigations")
@operators_only
def investigations() -> Response:
    """Return the reports there are, newest first, without what they say. Raises `StoreUnavailable`."""
    found = bodies.gateway().investigations.list(paging.limit())
    return bodies.json_response({"data": [{**_asked(each.asked), "parts": each.parts} for each in found]})


@blueprint.get("/investigations/<report_id>")
@operators_only
def investigation(report_id: str) -> Response:
    """Return a report, as far as it has come: for programs, and as text. Raises `NotFound` or `StoreUnavailable`."""
    report = bodies.gateway().investigations.read(report_id)
    return bodies.json_response({**_asked(report.asked), "missing": report.missing, "system": report.system,
                                 "servers": report.servers, "text": text(report)})


def view() -> RoutingView:
    """Return how routing stands. Raises `StoreUnavailable`."""
    gateway = bodies.gateway()
    return routing_view.read(gateway.routing_board, gateway.topology.rules,
                             [server.name for server in gateway.topology.servers])


def _asked(asked: Asked) -> dict[str, Any]:
    return {"id": asked.id, "asked_at": timestamp(asked.at_ms), "who": asked.who, "why": asked.why,
            "alert": routing_view.of_alert(asked.alert) if asked.alert else None}
