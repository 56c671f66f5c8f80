"""What operators are told of routing, for the OpenAPI document."""

from typing import Any, Literal

import msgspec

from app.api.openapi import parts
from app.api.openapi.parts import Part
from app.api.paging import MOST
from app.routing_view import AlertView, ChangeView


class RoutingHistory(msgspec.Struct):
    """What the routing task changed, newest first."""

    data: list[ChangeView]


class AlertEventView(msgspec.Struct):
    """An alert opened or closed."""

    event: Literal["opened", "closed"]
    alert: AlertView


class Alerts(msgspec.Struct):
    """The alerts that are open, and those that opened and closed, both newest first."""

    open: list[AlertView]
    events: list[AlertEventView]


class Listed(msgspec.Struct):
    """A report of an investigation: who asked for it, when and why, and which servers have contributed to it."""

    id: str
    asked_at: str
    who: str
    why: str
    alert: AlertView | None
    parts: list[str]


class Investigations(msgspec.Struct):
    """The reports there are, newest first."""

    data: list[Listed]


class Investigation(msgspec.Struct):
    """A report, as far as it has come: `missing` are the servers that have not contributed, `system` is what was seen of
    the whole, `text` says it all for people."""

    id: str
    asked_at: str
    who: str
    why: str
    alert: AlertView | None
    missing: list[str]
    system: dict[str, Any] | None
    servers: dict[str, dict[str, Any]]
    text: str


_NUMBER = {"type": "integer", "minimum": 1, "maximum": MOST, "default": 20}
_LIMIT = parts.query("limit", _NUMBER, "How many, the newest first.")

ROUTING = Part(schemas=(RoutingHistory, Alerts, Investigations, Investigation), paths={
    "/v1/routing/history": {"get": {
        "operationId": "routingHistory", "summary": "What the routing task changed, and why (operators)",
        "parameters": [_LIMIT],
        "responses": {"200": parts.json("RoutingHistory", "The last changes"), **parts.problems(422)}}},
    "/v1/alerts": {"get": {
        "operationId": "alerts", "summary": "Open alerts, and those that opened and closed (operators)",
        "parameters": [_LIMIT],
        "responses": {"200": parts.json("Alerts", "The alerts"), **parts.problems(422)}}},
    "/v1/investigations": {"get": {
        "operationId": "investigations", "summary": "Reports of where the time went (operators)", "parameters": [_LIMIT],
        "responses": {"200": parts.json("Investigations", "The reports"), **parts.problems(422)}}},
    "/v1/investigations/{report_id}": {"get": {
        "operationId": "investigation", "summary": "A report of where the time went (operators)",
        "parameters": [parts.path("report_id", {"type": "string"})],
        "responses": {"200": parts.json("Investigation", "The report"), **parts.problems(404)}}},
})
