"""One Redis connection for all requests of a process: scripts called at the same time travel together.

While a batch is under way the calls that come in meanwhile form the next. So sixty-four clients cost a few packets and,
with `appendfsync always`, a few disk writes, instead of sixty-four. A batch that fails is repeated whole by redis-py's
retry: the scripts are safe to repeat.
"""

import queue
import threading
import time
from collections.abc import Sequence
from typing import Any

import redis

_MOST = 256  # calls in one batch: bounds how long the first of them waits for the last


class _Call:
    """A script call and, later, its reply."""

    __slots__ = ("args", "came_s", "done", "reply")

    def __init__(self, args: tuple[Any, ...]) -> None:
        self.args = args
        self.came_s = time.monotonic()
        self.done = threading.Lock()  # held until the reply is there; cheaper than an Event, and this is the hot path
        self.done.acquire()
        self.reply: Any = None


class SharedPipeline:
    """Runs loaded scripts for many threads (or greenlets) over one connection. Safe to share.

    The client's own socket timeout and retries bound how long a batch takes. A call that had to wait for longer than
    `patience_s` behind others, as it does when Redis hangs, is not sent at all and raises `redis.TimeoutError`.
    """

    def __init__(self, client: redis.Redis, *, patience_s: float) -> None:
        self._client = client
        self._patience_s = patience_s
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._sender: threading.Thread | None = None

    def evalsha(self, sha: str, numkeys: int, *args: Any) -> Any:
        """Run a script and return its reply. Raises redis-py's errors."""
        if self._sender is None:
            self._begin()
        call = _Call((sha, numkeys, *args))
        self._calls.put(call)
        call.done.acquire()
        if isinstance(call.reply, Exception):
            raise call.reply
        return call.reply

    def _begin(self) -> None:
        with self._lock:
            if self._sender is None:
                self._sender = threading.Thread(target=self._send_for_ever, name="tandem-pipeline", daemon=True)
                self._sender.start()

    def _send_for_ever(self) -> None:
        while True:
            calls = [self._calls.get()]
            while len(calls) < _MOST and not self._calls.empty():
                calls.append(self._calls.get())
            oldest_s = time.monotonic() - self._patience_s
            late = [call for call in calls if call.came_s < oldest_s]
            too_late = redis.exceptions.TimeoutError(f"Redis did not answer within {self._patience_s:g} s")
            _answer(late, [too_late] * len(late))
            if calls := [call for call in calls if call.came_s >= oldest_s]:
                _answer(calls, self._send(calls))

    def _send(self, calls: list[_Call]) -> list[Any]:
        """Return a reply, or the error that stands for it, for each call."""
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for call in calls:
                    pipeline.evalsha(*call.args)
                return list(pipeline.execute(raise_on_error=False))
        except Exception as exc:  # noqa: BLE001 - whatever it is belongs to the waiting callers; the thread must live on
            return [exc] * len(calls)


def _answer(calls: Sequence[_Call], replies: Sequence[Any]) -> None:
    for call, reply in zip(calls, replies, strict=True):
        call.reply = reply
        call.done.release()
