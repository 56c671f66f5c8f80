"""The openai engine: the model is served elsewhere, by any server that speaks OpenAI's protocol (vLLM, SGLang, DeepSeek's
API, Alibaba Model Studio), called through OpenAI's own client.

All calls run as coroutines of one thread: a cancelled coroutine closes its connection wherever it waits, so that a stopped
job ends at once, and the upstream stops generating. The thread that asked takes the pieces from a queue, tells them, and
asks now and then whether to stop.

A call that fails is made again, after waits that double, as long as nothing was told: what was told cannot be taken back.
The breaker keeps calls from an upstream that does not work.
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

import httpx2
import openai

from app import logs
from app.errors import EngineTransient, EngineUnavailable, JobStopped
from app.inputs import ModelInput
from app.model_card import ModelCard
from app.settings import Settings
from workers.engine import Generation, Tell, nobody
from workers.engine.breaker import Breaker, Pass
from workers.engine.reasoning import Said
from workers.engine.upstream_answer import Events, UpstreamAnswer
from workers.engine.upstream_failure import FOREIGN, Translation, UpstreamFailure
from workers.engine.upstream_request import arguments

_LOOK_S = 0.05  # how often a waiting request asks whether to stop
_TAIL_S = 2.0  # for the usage that comes after an answer's end; without it the answer is as good
_KEEP_ALIVE_S = 3.0  # below uvicorn's 5 s, behind which vLLM and SGLang stand: they must not be the first to hang up
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 8.0  # between two calls; each doubles, and a part of up to a half is left to chance
_TRIAL_S = 0.5  # between two looks at the breaker while another request tries the upstream
_NO_KEY = "EMPTY"  # what vLLM's and SGLang's own examples send; the client insists on some

#: The client's loggers; at DEBUG they write whole requests, prompts included.
_LOGGERS = ("openai", "httpx2", "httpcore2")

Say = Callable[[Said], None]


class OpenAIEngine:
    """Calls one upstream. `slots` is how many requests there may be at once."""

    name = "openai"

    def __init__(self, settings: Settings, *, slots: int) -> None:
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._settings = settings
        self._model = settings.openai_model
        self._translation = Translation(settings.openai_url, settings.openai_key)
        self._breaker = Breaker(threshold=settings.openai_breaker_faults, cooldown_s=settings.openai_breaker_cooldown_s)
        self._counts = Counter(dict.fromkeys(("requests", "answers", "errors", "retries", "refused", "uncounted"), 0))
        self._running = 0
        self._client = _client(settings, slots)
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
            listed = await self._listed()
        except UpstreamFailure as failure:
            logs.event("upstream_not_ready", level=logging.WARNING, why=str(failure),
                       next="requests fail until it answers; the worker goes on")
            return
        if model and model not in listed:
            logs.event("upstream_model_not_listed", level=logging.WARNING, url=url, model=model, listed=listed[:20])
        else:
            logs.event("upstream_ready", url=url, model=model or listed[:1])

    async def _listed(self) -> list[str]:
        """Return the upstream's models. Raises `UpstreamFailure`."""
        try:
            page = await self._client.models.list(timeout=self._settings.openai_connect_s)
            return [model.id for model in page.data]
        except FOREIGN as exc:
            failure = self._translation.of_exception(exc)
        except (AttributeError, TypeError, ValueError):  # the client does not check what it is sent
            failure = self._translation.broken("its answer to GET /models cannot be read")
        raise failure

    async def _wanted(self) -> str:
        """Return the name of the model to ask for, which is looked up once. Raises `UpstreamFailure`."""
        if not self._model:
            listed = await self._listed()
            if not listed:
                raise self._translation.broken("it lists no model")
            self._model = listed[0]
        return self._model

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
                raise type(failure.error)(
                    f"{failure}; given up at call {tries}, after {spent_s:.1f} s (the next would be in {wait_s:.1f} s; "
                    f"openai_retry_s is {self._settings.openai_retry_s:g})")
            self._counts["retries"] += 1
            await asyncio.sleep(wait_s)
        raise AssertionError("count() does not end")

    async def _call(self, request: ModelInput, answer: UpstreamAnswer, say: Say, passed: Pass) -> UpstreamFailure | None:
        """Make one call; return its failure, if it failed, and tell the breaker."""
        try:
            await self._stream(request, answer, say, passed)
        except UpstreamFailure as exc:
            failure = exc
        except FOREIGN as exc:
            failure = self._translation.of_exception(exc)
        except BaseException:  # cancelled, or a bug: it tells nothing about the upstream
            self._breaker.given_up(passed)
            raise
        else:
            self._breaker.answered(passed)
            return None
        self._settle(passed, failure)
        return failure

    async def _admitted(self, until_s: float) -> Pass:
        """Wait until the breaker lets a call through: here, where it holds a slot, so that other jobs stay in the queue.
        Raises `EngineUnavailable` where that will not be before `until_s`."""
        while (passed := self._breaker.admit(now_s := self._loop.time())) is None:
            wait_s = self._breaker.wait_s(now_s) or _TRIAL_S
            if now_s + wait_s > until_s:
                self._counts["refused"] += 1
                raise EngineUnavailable(f"the model server at {self._settings.openai_url} does not work at the moment; it "
                                        f"will be tried again in {wait_s:.1f} s")
            await asyncio.sleep(wait_s)
        return passed

    def _settle(self, passed: Pass, failure: UpstreamFailure) -> None:
        if not failure.fault:
            self._breaker.answered(passed)
            return
        opened = self._breaker.opened
        self._breaker.failed(passed, self._loop.time())
        if self._breaker.opened > opened:
            logs.event("upstream_left_alone", level=logging.WARNING, why=str(failure),
                       for_s=self._settings.openai_breaker_cooldown_s)

    async def _stream(self, request: ModelInput, answer: UpstreamAnswer, say: Say, passed: Pass) -> None:
        """Make one call and tell what comes. Raises `UpstreamFailure` and `FOREIGN`."""
        kind = self._client.completions if request.messages is None else self._client.chat.completions
        create: Any = kind.with_streaming_response.create
        try:
            async with create(**arguments(request, await self._wanted())) as response:
                await self._read(response, answer, say, passed)
        except openai.NotFoundError:
            self._model = self._settings.openai_model  # look up again: it may serve another by now
            raise
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


def _client(settings: Settings, slots: int) -> openai.AsyncOpenAI:
    """Return OpenAI's client, without its retries, and with as many connections as there are requests."""
    timeout = httpx2.Timeout(settings.openai_silence_s, connect=settings.openai_connect_s)
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=slots, keepalive_expiry=_KEEP_ALIVE_S)
    return openai.AsyncOpenAI(
        api_key=settings.openai_key or _NO_KEY, base_url=settings.openai_url, max_retries=0, timeout=timeout,
        http_client=openai.DefaultAsyncHttpxClient(limits=limits, timeout=timeout))


def _result(call: "Future[Generation]") -> Generation:
    try:
        return call.result()
    except CancelledError:
        raise JobStopped("the engine was closed") from None


def retry_wait_s(tries: int) -> float:
    """Return how long to wait before the next call after so many. Chance keeps those apart that failed together."""
    return float(min(_FIRST_WAIT_S * 2 ** (tries - 1), _LONGEST_WAIT_S) * random.uniform(0.5, 1.0))
