"""The caller's webhooks: the secret that signs them, and the deliveries that failed for good."""

from flask import Blueprint, Response, request

from app.accounts import Scope
from app.api import bodies, caller, paging
from app.webhook_dead import DeadDeliveries
from app.webhook_secrets import WebhookSecrets

blueprint = Blueprint("webhooks", __name__, url_prefix="/v1/webhooks")

_PRIVATE = [("Cache-Control", "no-store")]


@blueprint.get("/secret")
def secret() -> Response:
    """Return the secret that signs the caller's webhooks, made on first use."""
    tenant = caller.current(Scope.EVENTS).tenant
    return bodies.json_response({"secret": _secrets().present(tenant)}, headers=_PRIVATE)


@blueprint.post("/secret/rotate")
def rotate() -> Response:
    """Make another secret and return it. For a day the one before signs, too."""
    tenant = caller.current(Scope.EVENTS).tenant
    return bodies.json_response({"secret": _secrets().rotate(tenant)}, headers=_PRIVATE)


@blueprint.get("/dead")
def dead() -> Response:
    """List the deliveries that were put aside, the last one first."""
    tenant = caller.current(Scope.EVENTS).tenant
    found, following = _dead().page(tenant, limit=paging.limit(), cursor=request.args.get("cursor", ""))
    return bodies.json_response({"data": found, "next_cursor": following})


@blueprint.post("/dead/<delivery_id>/replay")
def replay(delivery_id: str) -> Response:
    """Deliver it again, with as many attempts as at first: 202."""
    _dead().replay(delivery_id, caller.current(Scope.EVENTS).tenant)
    return bodies.json_response({"id": delivery_id}, 202)


@blueprint.delete("/dead/<delivery_id>")
def remove(delivery_id: str) -> Response:
    """Throw it away: 204."""
    _dead().remove(delivery_id, caller.current(Scope.EVENTS).tenant)
    return Response(status=204)


def _secrets() -> WebhookSecrets:
    gateway = bodies.gateway()
    return WebhookSecrets(gateway.client, gateway.keyring)


def _dead() -> DeadDeliveries:
    return DeadDeliveries(bodies.gateway().client)
