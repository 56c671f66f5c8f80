"""A caller of the model service over HTTP: submits a request, and waits for its result or follows its events."""

import http.client
import json
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import msgspec

from app.inputs import ModelInput
from app.topology import Address
from ops.bench.errors import NotAsPromised
from ops.bench.writing import Answer

_TIMEOUT_S = 120
_WAIT_S = 30


class ModelClient:
    """One connection, kept alive, on which one request is made after another."""

    def __init__(self, address: Address, token: str) -> None:
        self._connection = http.client.HTTPConnection(address.host, address.port, timeout=_TIMEOUT_S)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def __enter__(self) -> "ModelClient":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._connection.close()

    def answer(self, request: ModelInput, *, listening: bool) -> Answer:
        """Have a request answered, and its text told as it comes if we are listening. Raises `NotAsPromised`."""
        began_s = time.perf_counter()
        body = msgspec.json.encode({"service": "model", "input": request})
        job = self._read(self._call("POST", "/v1/jobs", body, {} if listening else {"Prefer": f"wait={_WAIT_S}"}))
        told_s = []
        if listening:
            for event, data in self._events(job["id"]):
                if event == "token":
                    told_s.append(time.perf_counter() - began_s)
                elif event in ("succeeded", "failed", "cancelled", "expired"):
                    job = data
        while job["state"] in ("queued", "running"):
            job = self._read(self._call("GET", f"/v1/jobs/{job['id']}?wait={_WAIT_S}"))
        if job["state"] != "succeeded":
            raise NotAsPromised(f"a job of the model service should have succeeded, but reads: {json.dumps(job)[:300]}")
        usage = job["usage"]
        return Answer(prompt_tokens=usage["prompt_tokens"], tokens=usage["completion_tokens"], told_s=told_s,
                      cached_tokens=usage.get("cached_tokens", 0), text=job["result"]["text"])

    def _events(self, job_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the events of a job, with their data, up to the end of the stream."""
        response = self._call("GET", f"/v1/jobs/{job_id}/events")
        event, data = "", []
        while line := response.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                event = value
            elif name == "data":
                data.append(value)
            elif not name and event:
                yield event, json.loads("\n".join(data))
                event, data = "", []

    def _call(self, method: str, path: str, body: bytes | None = None,
              more: dict[str, str] | None = None) -> http.client.HTTPResponse:
        self._connection.request(method, path, body, self._headers | (more or {}))
        response = self._connection.getresponse()
        if response.status not in (200, 202):
            said = response.read(300).decode(errors="replace")
            raise NotAsPromised(f"{method} {path} answered {response.status}: {said}")
        return response

    def _read(self, response: http.client.HTTPResponse) -> dict[str, Any]:
        return dict(json.loads(response.read()))
