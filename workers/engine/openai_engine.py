"""The openai engine: the model is served elsewhere, by any server that speaks OpenAI's protocol (vLLM, SGLang, DeepSeek's
API, Alibaba Model Studio).

All calls run as coroutines of one thread: a cancelled coroutine closes its connection wherever it waits, so that a stopped
job ends at once, and the upstream stops generating. The thread that asked takes the pieces from a queue, tells them, and
asks now and then whether to stop.

A call that fails is made again, after waits that double, as long as nothing was told: what was told cannot be taken back.
The breaker keeps calls from an upstream that does not work, and none is made before the time that the upstream asked for.
Requests wait for both where they are, so that they hold their slots, and other jobs stay in the queue.
"""

import asyncio
import itertools
import logging
import queue
import random
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any

from app import logs
from app.breaker import Breaker, Pass
from app.errors import EngineTransient, EngineUnavailable, JobStopped
from app.inputs import ModelInput
from app.model_card import ModelCard
from app.settings import Settings
from workers.engine import Generation, Tell, nobody
from workers.engine.reasoning import Said
from workers.engine.upstream_answer import Events, UpstreamAnswer
from workers.engine.upstream_client import UpstreamClient
from workers.engine.upstream_failure import FOREIGN, Translation, UpstreamFailure

_LOOK_S = 0.05  # how often a waiting request asks whether to stop
_TAIL_S = 2.0  # for the usage that comes after an answer's end; without it the answer is as good
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 8.0  # between two calls; each doubles, and a part of up to a half is left to chance
_TRIAL_S = 0.5  # between two looks at the breaker while another request tries the upstream

Say = Callable[[Said], None]


class OpenAIEngine:
    """Calls one upstream. `slots` is how many requests there may be at once."""

    name = "openai"

    def __init__(self, settings: Settings, *, slots: int) -> None:
        self._settings = settings
        self._translation = Translation(settings.openai_url, settings.openai_key)
        self._breaker = Breaker(threshold=settings.openai_breaker_faults, cooldown_s=settings.openai_breaker_cooldown_s)
        self._counts = Counter(dict.fromkeys(("requests", "answers", "errors", "retries", "refused", "uncounted"), 0))
        self._running = 0
        self._not_before_s = 0.0  # by the loop's clock; the upstream asked for patience until then
        self._client = UpstreamClient(settings, self._translation, slots=slots)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tandem-openai", daemon=True)
        self._thread.start()

    @classmethod
    def load(cls, settings: Settings, *, slots: int) -> "OpenAIEngine":
        """Return the engine, ready. An upstream that is not there yet may come later; the log says so."""
        engine = cls(settings, slots=slots)
        engine._run(engine._greet()).result()
        return engine

    def close(self) -> None:
        """End the calls in progress, and the thread."""
        self._run(self._finish()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def figures(self) -> dict[str, int | float]:
        """What is going on, and what was counted since the start. `breaker` is 0 closed, 1 half-open, 2 open; `refused` are
        calls that it did not let through, `uncounted` answers without the upstream's count of tokens."""
        return {**self._counts, "running": self._running, "breaker": int(self._breaker.state),
                "breaker_opened": self._breaker.opened}

    def card(self) -> tuple[ModelCard, bytes] | None:
        """None: only the upstream can count its prompts."""
        return None

    def generate(self, request: ModelInput, stopped: Callable[[], bool], tell: Tell = nobody) -> Generation:
        """Have one request answered. Raises as `Engine.generate` says."""
        said: queue.SimpleQueue[Said | None] = queue.SimpleQueue()
        call = self._run(self._answer(request, said.put))
        call.add_done_callback(lambda _: said.put(None))
        while not stopped():
            try:
                piece = said.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            if piece is None:
                return _result(call)
            tell(*piece)
        call.cancel()
        raise JobStopped("stopped while the model server answered")

    # what runs on the engine's thread

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _finish(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    async def _greet(self) -> None:
        """Say in the log whether the upstream is there, and serves the model that is wanted."""
        url, model = self._settings.openai_url, self._settings.openai_model
        try:
            listed = await self._client.listed()
        except UpstreamFailure as failure:
            logs.event("upstream_not_ready", level=logging.WARNING, url=url, why=str(failure),
                       next="requests fail until it answers; the worker goes on")
            return
        if model and model not in listed:
            logs.event("upstream_model_not_listed", level=logging.WARNING, url=url, model=model, listed=listed[:20])
        else:
            logs.event("upstream_ready", url=url, model=model or listed[:1])

    async def _answer(self, request: ModelInput, say: Say) -> Generation:
        """Call the upstream until it answers, or it is no use."""
        self._counts["requests"] += 1
        self._running += 1
        try:
            answer = await self._call_on(request, say)
        except Exception:
            self._counts["errors"] += 1
            raise
        finally:
            self._running -= 1
        self._counts["answers"] += 1
        self._counts["uncounted"] += not answer.counted
        return answer.generation()

    async def _call_on(self, request: ModelInput, say: Say) -> UpstreamAnswer:
        began_s = self._loop.time()
        for tries in itertools.count(1):
            answer = UpstreamAnswer(request, self._settings.openai_model, self._translation)
            passed = await self._admitted(began_s + self._settings.openai_retry_s)
            failure = await self._call(request, answer, say, passed)
            if failure is None:
                return answer
            wait_s = failure.wait_s if failure.wait_s is not None else retry_wait_s(tries)
            spent_s = self._loop.time() - began_s
            if not failure.again:
                raise failure.error
            if answer.told:
                raise EngineTransient(f"{failure}; a part of the answer was told already, so this attempt is over")
            if spent_s + wait_s > self._settings.openai_retry_s:
                text = (f"{failure}; given up at call {tries}, after {spent_s:.1f} s (the next would be in {wait_s:.1f} s; "
                        f"openai_retry_s is {self._settings.openai_retry_s:g})")
                if isinstance(failure.error, EngineUnavailable):
                    raise EngineUnavailable(text, retry_after_s=failure.wait_s or 0.0)
                raise type(failure.error)(text)
            self._counts["retries"] += 1
            await asyncio.sleep(wait_s)
        raise AssertionError("count() does not end")

    async def _call(self, request: ModelInput, answer: UpstreamAnswer, say: Say, passed: Pass) -> UpstreamFailure | None:
        """Make one call; return its failure, if it failed, and tell the breaker."""
        try:
            failure = await self._failure_of(request, answer, say, passed)
        except BaseException:  # cancelled, or a bug: it tells nothing about the upstream
            self._breaker.given_up(passed)
            raise
        self._settle(passed, failure)
        return failure

    async def _failure_of(self, request: ModelInput, answer: UpstreamAnswer, say: Say,
                          passed: Pass) -> UpstreamFailure | None:
        try:
            await self._stream(request, answer, say, passed)
        except UpstreamFailure as exc:
            return exc
        except FOREIGN as exc:
            failure = self._translation.of_exception(exc)
        else:
            return None
        if failure.silent and not answer.told and await self._client.is_away():
            return self._translation.silent(away=True)
        return failure

    async def _admitted(self, until_s: float) -> Pass:
        """Wait until the upstream is to be asked again and the breaker lets a call through. Raises `EngineUnavailable` at
        `until_s`, and not before: the slot would take the next job, and the one after it."""
        while True:
            now_s = self._loop.time()
            rest_s = max(0.0, self._not_before_s - now_s)
            if not rest_s and (passed := self._breaker.admit(now_s)):
                return passed
            wait_s = max(rest_s, self._breaker.wait_s(now_s)) or _TRIAL_S
            if now_s >= until_s:
                self._counts["refused"] += 1
                why = "asks for patience" if rest_s else "does not work at the moment"
                raise EngineUnavailable(f"the model server {why}; it will be tried again in {wait_s:.1f} s",
                                        retry_after_s=wait_s)
            await asyncio.sleep(min(wait_s, until_s - now_s))

    def _settle(self, passed: Pass, failure: UpstreamFailure | None) -> None:
        """Take what a call tells about the upstream."""
        now_s = self._loop.time()
        if failure and failure.wait_s and now_s + failure.wait_s > self._not_before_s:
            if now_s >= self._not_before_s:
                self._left_alone(failure, failure.wait_s)
            self._not_before_s = now_s + failure.wait_s
        if failure is None or not failure.fault:
            self._breaker.answered(passed)
            return
        opened = self._breaker.opened
        self._breaker.failed(passed, now_s)
        if self._breaker.opened > opened:
            self._left_alone(failure, self._settings.openai_breaker_cooldown_s)

    def _left_alone(self, failure: UpstreamFailure, for_s: float) -> None:
        logs.event("upstream_left_alone", level=logging.WARNING, url=self._settings.openai_url, why=str(failure),
                   for_s=for_s)

    async def _stream(self, request: ModelInput, answer: UpstreamAnswer, say: Say, passed: Pass) -> None:
        """Make one call and tell what comes. Raises `UpstreamFailure` and `FOREIGN`."""
        try:
            await self._client.ask(request, lambda response: self._read(response, answer, say, passed))
        except (UpstreamFailure, *FOREIGN, TimeoutError):
            if not answer.finished:
                raise
        for said in answer.end():
            say(said)

    async def _read(self, response: Any, answer: UpstreamAnswer, say: Say, passed: Pass) -> None:
        """Read a response to its end, or to the answer's and a little on, for the usage."""
        kind = response.headers.get("content-type", "")
        if not kind.startswith("text/event-stream"):
            raise self._translation.broken(f"the answer is no event stream but {kind or 'of no type'}; check openai_url")
        events = Events()
        async with asyncio.timeout(None) as limit:
            async for block in response.iter_bytes():
                self._breaker.alive(passed)
                for data in events.feed(block):
                    for said in answer.take(data):
                        say(said)
                if answer.finished and limit.when() is None:
                    limit.reschedule(self._loop.time() + _TAIL_S)


def _result(call: "Future[Generation]") -> Generation:
    try:
        return call.result()
    except CancelledError:
        raise JobStopped("the engine was closed") from None


def retry_wait_s(tries: int) -> float:
    """Return how long to wait before the next call after so many. Chance keeps those apart that failed together."""
    return float(min(_FIRST_WAIT_S * 2 ** (tries - 1), _LONGEST_WAIT_S) * random.uniform(0.5, 1.0))
