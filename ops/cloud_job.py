"""A job sent to the cloud by hand: submitted and followed over HTTP as any caller does, and sent as an operator does.

On an idle stack a worker at home takes a job within milliseconds, before any hand could send it elsewhere. So the home
workers do not consume while the job is submitted and sent: `celery control cancel_consumer`, and `add_consumer` after it. A
worker that was waiting at its queue just then puts back what comes, and its log says so ("No consumers").
"""

import contextlib
import json
import time
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kombu.exceptions import KombuError

from app.job import Service
from app.ledger import Cap, CloudLedger
from app.settings import Settings
from app.store import open_redis
from app.topology import Topology
from ops import first_job
from routing.cloud.post import Post
from routing.cloud.sending import Sender, Sent
from workers.application import make_app

QUESTION = "What is the capital of Italy? Answer in one sentence."

_ANSWER_S = 60.0
_SILENCE_S = 30.0  # the stream has a comment now and then
_REPLY_S = 10.0  # for the home workers to say that they have stopped or begun to consume
_DECISION = b'{"rule": "by-hand", "by": "make up"}'
_LAST = ("succeeded", "failed", "cancelled", "expired")


@dataclass(frozen=True, slots=True)
class Followed:
    """What a caller who waited was told: the pieces of the answer as they came, and the ended job."""

    pieces: list[str]
    job: dict[str, Any]


def cloud_answer(settings: Settings, plan: Topology, api_key: str) -> Followed:
    """Have a job answered in the cloud. Raises `OSError` with what became of it when that fails."""
    address = f"http://{plan.entry}"
    with _home_at_rest(settings, plan):
        job = first_job.submit(address, api_key, QUESTION)
        _send(settings, plan, job["id"])
    followed = _follow(f"{address}/v1/jobs/{job['id']}/events", api_key)
    if followed.job["state"] != "succeeded" or followed.job["route"] != "cloud":
        raise OSError(f"the job that was sent to the cloud ended as {followed.job['state']}, route "
                      f"{followed.job['route']}: {json.dumps(followed.job['error'])}")
    return followed


def _send(settings: Settings, plan: Topology, job_id: str) -> None:
    with Post(settings) as post:
        sender = Sender(CloudLedger(open_redis(settings), settings), post, settings)
        result = sender.send_job(job_id, decision=_DECISION, rules=plan.rules)
    if isinstance(result, Cap):
        raise OSError(f"the second job could not be sent to the cloud: the cap on {result} is reached; see [routing] in "
                      "the topology")
    if not isinstance(result, Sent):
        raise OSError(f"the second job could not be sent to the cloud: it is {result}, and not waiting")
    if job_id not in result.sent:
        raise OSError(f"the second job was not sent to the cloud: {result.kept.get(job_id) or result.failure}")


@contextlib.contextmanager
def _home_at_rest(settings: Settings, plan: Topology) -> Iterator[None]:
    """Meanwhile no worker at home takes up jobs of the model service; what came is taken up afterwards."""
    names = [f"{spec.name}@{server.name}" for server in plan.servers for spec in server.workers
             if Service.MODEL in spec.services]
    with make_app(settings) as app:
        _tell(app, "cancel_consumer", names)
        try:
            yield
        finally:
            _tell(app, "add_consumer", names)


def _tell(app: Any, command: str, names: list[str]) -> None:
    try:
        replies = app.control.broadcast(command, arguments={"queue": Service.MODEL.value}, destination=names, reply=True,
                                        limit=len(names), timeout=_REPLY_S)
    except KombuError as exc:
        raise OSError(f"the workers could not be told to {command}: {exc}") from exc
    if missing := sorted(set(names) - {name for reply in replies for name in reply}):
        raise OSError(f"{', '.join(missing)} did not answer `celery control {command} {Service.MODEL}` in {_REPLY_S:g} s")


def _follow(url: str, api_key: str) -> Followed:
    """Read a job's events to the last one."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {api_key}"})
    pieces = []
    with urllib.request.urlopen(request, timeout=_SILENCE_S) as stream:
        for name, data in _events(stream, time.monotonic() + _ANSWER_S):
            if name == "token":
                pieces.append(data.get("text", ""))
            elif name in _LAST:
                return Followed(pieces, data)
    raise OSError(f"{url} ended before the job did, or the job did not within {_ANSWER_S:g} s; "
                  "`celery -A workers cloud status` tells how the cloud stands")


def _events(lines: Iterable[bytes], until_s: float) -> Iterator[tuple[str, Any]]:
    """Return names and data of server-sent events, until that time."""
    fields: dict[str, str] = {}
    for line in (line.decode().rstrip("\n") for line in lines):
        name, _, value = line.partition(": ")
        if line:
            fields[name] = f"{fields[name]}\n{value}" if name in fields else value
        elif "data" in fields:
            yield fields["event"], json.loads(fields["data"])
        if not line:
            fields.clear()
        if time.monotonic() > until_s:
            return
