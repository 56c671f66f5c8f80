"""The gateway about itself: health, readiness, status for operators, and the OpenAPI document."""

from typing import Any

import redis
from flask import Blueprint, Response

from app import cloud_state, queues
from app.api import bodies, openapi, routing
from app.api.caller import operators_only
from app.api.etag import validated
from app.ledger.scripts import unavailable

blueprint = Blueprint("service", __name__)

_READY_MARK_S = 60  # life of the key that a readiness check writes


@blueprint.get("/healthz")
def healthz() -> Response:
    """Say that the process is alive; nothing else is asked."""
    return bodies.json_response({"status": "alive"})


@blueprint.get("/readyz")
def readyz() -> Response:
    """Say that jobs can be accepted: Redis takes a write. Raises `StoreUnavailable`."""
    gateway = bodies.gateway()
    try:
        gateway.client.set("ready", gateway.settings.server or "gateway", ex=_READY_MARK_S)
    except (redis.exceptions.RedisError, OSError) as exc:
        raise unavailable(exc) from exc
    return bodies.json_response({"status": "ready"})


@blueprint.get("/v1/status")
@operators_only
def status() -> Response:
    """Return the topology with its live workers and their pins as the kernel tells them, the queues, the cloud, how routing
    stands, and the books."""
    gateway = bodies.gateway()
    try:
        workers = gateway.registry.workers()
    except (redis.exceptions.RedisError, OSError) as exc:
        raise unavailable(exc) from exc
    census, lines = gateway.ledger.census(), queues.read(gateway.client)
    found = {service.value: {
        "waiting": queue.waiting, "woken": queue.woken, "backlog": queue.backlog, "running": queue.running,
        "in_cloud": queue.in_cloud, "sent": queue.sent, "held": queue.held,
        "messages": queue.messages, "oldest_s": queue.oldest_s,
    } for service, queue in lines.items()}
    out_there = cloud_state.read(gateway.client, gateway.settings, lines)
    return bodies.json_response({
        "profile": gateway.topology.profile.value,
        "gateway": gateway.settings.server,
        "servers": [{
            "name": server.name, "gateway": str(server.gateway),
            "workers": [{
                "name": f"{spec.name}@{server.name}", "services": [service.value for service in spec.services],
                "processors": [f"P{number}" for number in spec.processors], "concurrency": spec.concurrency,
                "live": _live(workers, f"{spec.name}@{server.name}"),
            } for spec in server.workers],
        } for server in gateway.topology.servers],
        "queues": found, "cloud": out_there.public() if out_there else None, "routing": routing.view(),
        "delayed": census.delayed, "running": census.running,
        "counts": census.counts, "balanced": census.balanced,
    })


@blueprint.get("/openapi.json")
def openapi_document() -> Response:
    """Return the OpenAPI 3.1 document."""
    return validated(bodies.json_response(openapi.document()), cache="no-cache")


def _live(workers: list[Any], name: str) -> dict[str, Any] | None:
    """What the worker of that name says of itself, or None where none lives."""
    for worker in workers:
        if worker.name == name:
            return {"pid": worker.pid, "cpus": list(worker.cpus), "slots": worker.slots, "busy": worker.busy,
                    "figures": worker.figures}
    return None
