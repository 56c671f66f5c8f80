"""The admin port: what no client of the service can see or do, as JSON over HTTP.

It belongs on loopback: it asks nobody who they are (but takes nothing that a web page sent: no request with an Origin).

    GET    /audit[?queue=Q]     sent, deleted, dead, expired, active, inactive, delayed; they balance
    GET    /queues              each queue: how it is set, its audit, the age of its oldest message, who waits
    GET    /requests            how many requests came in, by operation
    GET    /faults              the faults in force, with how often each has hit
    POST   /faults              {"operation", "queue", "kind", ...}: puts a fault in force (see faults.py)
    DELETE /faults              lifts all
    GET    /settings            as POST takes them
    POST   /settings            {"counters": "zero"|"real", "most_polls": N|null, "clock_skew_s": S, "seed": N}, any of them
    POST   /keys                from now on these access keys are valid, and no others (the format of the keys' file)
    POST   /queues/Q/dlq        {"target": D, "max_receives": N}: messages received N times and not deleted go to queue D
    DELETE /queues/Q/dlq        they don't
"""

import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from ops.mns_server.attributes import DeadLetters, elements_of
from ops.mns_server.errors import Refused
from ops.mns_server.faults import fault_of
from ops.mns_server.http_server import Request, Response
from ops.mns_server.keys import keys_of
from ops.mns_server.limits import Range

if TYPE_CHECKING:
    from ops.mns_server.local import LocalMns

_log = logging.getLogger(__name__)
_MAX_RECEIVES = Range("max_receives", 1, 1000)


class Admin:
    """Answers the requests of the admin port about one server."""

    def __init__(self, mns: "LocalMns") -> None:
        self._mns = mns
        self._table: dict[tuple[str, str], Callable[[Any], Any]] = {
            ("GET", "queues"): self._queues,
            ("GET", "requests"): lambda _: mns.requests(),
            ("GET", "faults"): lambda _: mns.faults.report(),
            ("POST", "faults"): lambda body: mns.faults.add(fault_of(_object(body))),
            ("DELETE", "faults"): lambda _: mns.faults.clear(),
            ("GET", "settings"): lambda _: self._settings(),
            ("POST", "settings"): self._set,
            ("POST", "keys"): lambda body: mns.keys.replace(keys_of(body)),
        }

    def answer(self, request: Request) -> Response:
        """Answer a request: 200 with JSON, or 400, 403, 404 with {"error": why}."""
        try:
            if "origin" in request.headers:
                return _json(403, {"error": "no web page may use the admin port"})
            found = self._find(request)
            if found is None:
                return _json(404, {"error": f"there is no {request.method} {request.target} here"})
            return _json(200, found())
        except Refused as refusal:
            return _json(refusal.status, {"error": str(refusal)})
        except (ValueError, TypeError, KeyError) as exc:  # what the body says cannot be
            return _json(400, {"error": f"{type(exc).__name__}: {exc}"})
        except Exception:  # noqa: BLE001 - the outermost loop of a connection
            _log.exception("mns-admin-failed target=%s", request.target)
            return _json(500, {"error": "see the log"})

    def _find(self, request: Request) -> Callable[[], Any] | None:
        url = urlsplit(request.target)
        body = json.loads(request.body) if request.body else None
        match request.method, url.path.strip("/").split("/"):
            case "GET", ["audit"]:
                queue = parse_qs(url.query).get("queue", [None])[0]
                return lambda: self._mns.audit(queue)
            case "POST", ["queues", name, "dlq"]:
                return lambda: self._set_dead_letters(name, _policy(_object(body)))
            case "DELETE", ["queues", name, "dlq"]:
                return lambda: self._set_dead_letters(name, None)
            case method, [one]:
                found = self._table.get((method, one))
                return None if found is None else lambda: found(body)
        return None

    def _set_dead_letters(self, name: str, policy: DeadLetters | None) -> None:
        self._mns.service.set_dead_letters(name, policy)
        self._mns.service.commit()

    def _queues(self, _: Any) -> list[dict[str, Any]]:
        service = self._mns.service
        result = []
        for name in service.names(most=1_000_000)[0]:
            record, _census = service.look(name)
            dead = record.dead_letters
            result.append({"name": name, "attributes": elements_of(record.attributes), "audit": service.audit(name),
                           "oldest_age_s": round(service.oldest_age_s(name), 3), "waiting": service.waiting(name),
                           "dlq": {"target": dead.target, "max_receives": dead.max_receives} if dead else None})
        return result

    def _settings(self) -> dict[str, Any]:
        mns = self._mns
        return {"counters": "zero" if mns.api.operations.counters_zero else "real", "most_polls": mns.service.most_polls,
                "clock_skew_s": mns.admission.skew_s}

    def _set(self, body: Any) -> dict[str, Any]:
        settings, mns = _object(body), self._mns
        if unknown := set(settings) - {"counters", "most_polls", "clock_skew_s", "seed"}:
            raise ValueError(f"there is no setting {', '.join(sorted(unknown))}")
        if (counters := settings.get("counters", "zero")) not in ("zero", "real"):
            raise ValueError(f"counters is zero or real; got {counters!r}")
        most_polls = settings.get("most_polls")
        if most_polls is not None and not (isinstance(most_polls, int) and most_polls >= 0):
            raise ValueError(f"most_polls is a whole number or null; got {most_polls!r}")
        skew_s = float(settings.get("clock_skew_s", mns.admission.skew_s))
        if "seed" in settings:
            mns.faults.seed(int(settings["seed"]))
        if "counters" in settings:
            mns.api.operations.counters_zero = counters == "zero"
        if "most_polls" in settings:
            mns.service.most_polls = most_polls
        mns.admission.skew_s = skew_s
        return self._settings()


def _policy(body: dict[str, Any]) -> DeadLetters:
    return DeadLetters(str(body["target"]), _MAX_RECEIVES.check(int(body["max_receives"])))


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")
    return body


def _json(status: int, document: Any) -> Response:
    return Response(status, json.dumps(document).encode() + b"\n", {"Content-Type": "application/json"})
