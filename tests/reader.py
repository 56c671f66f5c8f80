"""A reader of server-sent events, as the tests need one: what came, in order, while it comes."""

import json
import threading
from dataclasses import dataclass
from typing import Any

import requests

from ops.waiting import wait_until
from tests.caller import Caller

LAST = ("succeeded", "failed", "cancelled", "expired")


@dataclass(frozen=True, slots=True)
class Told:
    """An event as it was read."""

    id: str
    name: str
    data: Any


def parse(body: str) -> list[Told]:
    """Return the events of a body, as the specification reads it."""
    events = []
    for block in body.split("\n\n"):
        fields: dict[str, list[str]] = {}
        for line in block.splitlines():
            name, _, value = line.partition(": ")
            fields.setdefault(name, []).append(value)
        if "data" in fields:
            events.append(Told(fields["id"][0], fields["event"][0], json.loads("\n".join(fields["data"]))))
    return events


def follow(caller: Caller, job_id: str, after: str | None = None, **options: Any) -> requests.Response:
    """Ask for a job's events."""
    headers = {"Last-Event-ID": after} if after is not None else {}
    return caller.call("GET", f"/v1/jobs/{job_id}/events", headers=headers, **options)


def read(caller: Caller, job_id: str, after: str | None = None) -> list[Told]:
    """Read a job's events to the last one."""
    answer = follow(caller, job_id, after)
    assert answer.status_code == 200, answer.text
    return parse(answer.text)


def text_of(events: list[Told], member: str = "text") -> str:
    """The text of the last attempt's tokens."""
    texts: list[str] = []
    for event in events:
        if event.name == "restarted":
            texts.clear()
        elif event.name == "token":
            texts.append(event.data.get(member, ""))
    return "".join(texts)


class Reader:
    """Reads on a thread of its own; `events` grows as they come. `broken` when the connection did not end as it should."""

    def __init__(self, address: str, key: str, job_id: str, after: str | None = None) -> None:
        self.broken = False
        self._body = b""
        self._caller = Caller(address, key)
        self.answer = follow(self._caller, job_id, after, stream=True)
        assert self.answer.status_code == 200, self.answer.text
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for chunk in self.answer.raw.stream(65536):
                self._body += chunk
        except Exception:  # noqa: BLE001 - whatever breaks a connection
            self.broken = True
        finally:
            self._caller.__exit__()

    @property
    def events(self) -> list[Told]:
        whole, _, _ = self._body.rpartition(b"\n\n")
        return parse(whole.decode())

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def reaches(self, text: str, timeout_s: float = 30.0) -> "Reader":
        """Wait until so much was read."""
        wait_until(lambda: text in text_of(self.events), timeout_s=timeout_s, what=f"'{text}' to be read", every_s=0.01)
        return self

    def ends(self, timeout_s: float = 60.0) -> list[Told]:
        """Wait for the end of the stream; return all that was read."""
        wait_until(lambda: self.ended, timeout_s=timeout_s, what="the stream to end", every_s=0.01)
        return self.events
