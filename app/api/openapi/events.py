"""The tenant's events and webhooks, for the OpenAPI document."""

import msgspec

from app.api.openapi import parts
from app.api.openapi.parts import Part

_EVENTS = """What happens to the caller's own jobs: `queued`, `started`, `succeeded`, `failed`, `cancelled` and `expired`,
each with `job` (its id), `service`, `attempt` and `at`. `gap` (`after`): events after the id that was given are kept no
more; the stream goes on with the oldest that is. The stream does not end by itself; when it breaks, open it again with
`Last-Event-ID`, on any gateway."""


class WebhookSecret(msgspec.Struct):
    """What signs the caller's webhooks (Standard Webhooks)."""

    secret: str


class DeadWebhook(msgspec.Struct):
    """A webhook that could not be delivered. Times are RFC 3339 in UTC."""

    id: str
    job: str
    url: str
    type: str
    attempts: int
    error: str
    created_at: str
    died_at: str


class DeadWebhooks(msgspec.Struct):
    """A page of them, the last put aside first. `next_cursor` is null on the last page."""

    data: list[DeadWebhook]
    next_cursor: str | None


class ReplayedWebhook(msgspec.Struct):
    """A webhook that is delivered again."""

    id: str


_ID = parts.path("delivery_id", {"type": "string"})
_LAST_EVENT = parts.header("Last-Event-ID", "The id of the last event that was read: what follows it is sent. Without it "
                           "the stream begins now; `0-0` begins with the oldest that is kept.")
_STARTING_AFTER = parts.query("starting_after", {"type": "string"}, "The same, where no header can be set.")
_LIMIT = parts.query("limit", {"type": "integer", "minimum": 1, "maximum": 100}, "How many at most; 20 by default.")
_CURSOR = parts.query("cursor", {"type": "string"}, "`next_cursor` of the page before.")

EVENTS = Part(schemas=(WebhookSecret, DeadWebhooks, DeadWebhook, ReplayedWebhook), paths={
    "/v1/events": {"get": {
        "operationId": "followEvents", "summary": "Follow all your jobs as server-sent events", "description": _EVENTS,
        "parameters": [_LAST_EVENT, _STARTING_AFTER],
        "responses": {"200": parts.event_stream("The events from there on, as they come"), **parts.problems(400)}}},
    "/v1/webhooks/secret": {"get": {
        "operationId": "webhookSecret", "summary": "Read the secret that signs your webhooks",
        "responses": {"200": parts.json("WebhookSecret", "The secret")}}},
    "/v1/webhooks/secret/rotate": {"post": {
        "operationId": "rotateWebhookSecret", "summary": "Make another secret; for a day the one before signs, too",
        "responses": {"200": parts.json("WebhookSecret", "The new secret")}}},
    "/v1/webhooks/dead": {"get": {
        "operationId": "deadWebhooks", "summary": "List the webhooks that could not be delivered",
        "parameters": [_LIMIT, _CURSOR],
        "responses": {"200": parts.json("DeadWebhooks", "A page of them"), **parts.problems(422)}}},
    "/v1/webhooks/dead/{delivery_id}/replay": {"post": {
        "operationId": "replayWebhook", "summary": "Deliver one of them again", "parameters": [_ID],
        "responses": {"202": parts.json("ReplayedWebhook", "It is due now"), **parts.problems(404)}}},
    "/v1/webhooks/dead/{delivery_id}": {"delete": {
        "operationId": "removeDeadWebhook", "summary": "Throw one of them away", "parameters": [_ID],
        "responses": {"204": {"description": "It is gone"}, **parts.problems(404)}}},
})
