"""Callers over HTTP: light ones, since they run on the machine that they load."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

_ANSWER_S = 90.0
_WAIT_S = 60  # for a job's end


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call got. Status 0: no answer, and why."""

    status: int
    document: dict[str, Any]
    took_s: float

    @property
    def is_good(self) -> bool:
        """Whether it is what the caller wanted: an answer, or a job that was accepted."""
        return 200 <= self.status < 300


class Caller:
    """One caller with one key, on one connection that is kept. For one thread."""

    def __init__(self, address: str, key: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=_ANSWER_S)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "Cache-Control": "no-cache"}

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Make a call; `headers` with '_' for '-'."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        began_s = time.monotonic()
        try:
            self._connection.request(method, path, None if body is None else json.dumps(body), self._headers | named)
            response = self._connection.getresponse()
            status, text = response.status, response.read()
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            return Answer(0, {"detail": f"{type(exc).__name__}: {exc}"}, time.monotonic() - began_s)
        return Answer(status, dict(json.loads(text)), time.monotonic() - began_s)

    def submit(self, prompt: str, *, wait_s: int = 0, lane: str = "standard", max_tokens: int = 16) -> Answer:
        """Submit a job of the model service, and wait for its end for so long."""
        body = {"service": "model", "lane": lane, "input": {"prompt": prompt, "max_tokens": max_tokens}}
        return self.call("POST", "/v1/jobs", body, **({"Prefer": f"wait={wait_s}"} if wait_s else {}))


@dataclass(slots=True)
class Load:
    """Jobs that were submitted: each one's id and when its caller sent it (Unix seconds); what else was answered."""

    ids: list[str] = field(default_factory=list)
    sent_s: list[float] = field(default_factory=list)
    refused: list[Answer] = field(default_factory=list)


class Steady:
    """A caller who submits `per_s` jobs a second, evenly, from a thread, until told to end or `for_s` is over."""

    def __init__(self, caller: Callable[[], Caller], prompt: str, *, per_s: float, for_s: float = 3600.0) -> None:
        self.load = Load()
        self._make, self._prompt, self._per_s, self._for_s = caller, prompt, per_s, for_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drill-load")

    def __enter__(self) -> "Steady":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def last(self) -> None:
        """Wait until the time of the load is over."""
        self._thread.join()

    def _run(self) -> None:
        began_s = time.monotonic()
        with self._make() as caller:
            for number in range(round(self._per_s * self._for_s)):
                if self._over.wait(max(began_s + number / self._per_s - time.monotonic(), 0)):
                    return
                sent_s = time.time()
                answer = caller.submit(self._prompt)
                if answer.is_good:
                    self.load.ids.append(answer.document["id"])
                    self.load.sent_s.append(sent_s)
                else:
                    self.load.refused.append(answer)


class Waiting:
    """`count` callers who each submit a job, wait for its answer, pause, and submit the next, until told to end."""

    def __init__(self, caller: Callable[[], Caller], prompt: str, *, count: int, pause_s: float = 0.0) -> None:
        self.answers: list[Answer] = []
        self._make, self._prompt, self._pause_s = caller, prompt, pause_s
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"drill-waiting-{number}") for number in range(count)]

    def __enter__(self) -> "Waiting":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with self._make() as caller:
            while not self._over.wait(self._pause_s):
                self.answers.append(caller.submit(self._prompt, wait_s=_WAIT_S))


def crowd(address: str, keys: Sequence[str], prompt: str, *, threads: int = 8) -> list[Answer]:
    """Have the holder of each key submit one job; return what they were answered."""
    def some(part: Sequence[str]) -> list[Answer]:
        answers = []
        for key in part:
            with Caller(address, key) as caller:
                answers.append(caller.submit(prompt))
        return answers

    with ThreadPoolExecutor(threads) as pool:
        return [answer for answers in pool.map(some, (keys[first::threads] for first in range(threads)))
                for answer in answers]
