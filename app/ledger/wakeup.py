"""The wake-up: a standard Celery task message in kombu's Redis envelope, as the ledger's scripts push it.

The scripts must write it themselves, so that a job and its wake-up come into being in one step. It says only "job X may
be ready": no arguments travel in it, the worker takes everything from the ledger. A contract test compares it, decoded,
with what kombu itself writes for the same task.

Sources: Celery's message protocol 2 (docs, internals/protocol), kombu/transport/virtual/base.py.
"""

import base64
import json
from typing import Any

ORIGIN = "tandem@ledger"

#: (args, kwargs, embed) of a task without arguments.
_BODY = base64.b64encode(
    b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]').decode()


def headers(task: str, job_id: str) -> dict[str, Any]:
    """Return the headers of a task message for a job: what Celery knows about it."""
    return {
        "lang": "py", "task": task, "id": job_id, "shadow": None, "eta": None, "expires": None, "group": None,
        "group_index": None, "retries": 0, "timelimit": [None, None], "root_id": job_id, "parent_id": None,
        "argsrepr": "()", "kwargsrepr": "{}", "origin": ORIGIN, "ignore_result": True,
        "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
    }


def message(*, task: str, job_id: str, queue: str, tag: str) -> str:
    """Return the queue element, JSON text, that wakes a worker of `queue` for a job."""
    return json.dumps({
        "body": _BODY,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers(task, job_id),
        "properties": {
            "correlation_id": job_id, "reply_to": "", "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue}, "priority": 0, "body_encoding": "base64",
            "delivery_tag": tag,
        },
    })


def lua_pieces() -> str:
    """Return Lua constants WAKEUP_1..7: the message cut at task, id (three times), queue and tag, for concatenation."""
    marks = {"task": "\x01", "job_id": "\x02", "queue": "\x03", "tag": "\x04"}
    text = message(**marks)
    for mark in marks.values():
        text = text.replace(json.dumps(mark)[1:-1], "\x00")
    pieces = text.split("\x00")
    if len(pieces) != 7:
        raise AssertionError(f"the wake-up has changed: the scripts concatenate seven pieces, not {len(pieces)}")
    return "".join(f"local WAKEUP_{number} = [==[{piece}]==]\n" for number, piece in enumerate(pieces, start=1))
