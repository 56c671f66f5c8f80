"""The continuous batcher: one thread runs the model for all requests at once.

A request waits until there is a row and memory for it, has its prompt read in chunks, and then gets a token with each
step, together with all others. It joins at any step and leaves at any: done, stopped or failed. Each turn of the thread is
at most one pass over prompts and one step, and the pass is bounded in time while others are being answered, so that a long
prompt does not make them wait. While more requests are being read than answered, several passes may come before a step: the
fuller batch serves all sooner, and how long the few wait for that is bounded, too.

Promises: what does not fit waits and is not dropped; a request that is stopped leaves before the next step; the thread
survives whatever the model raises.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import torch

from app import logs
from app.errors import EngineFailed, EngineOutOfMemory, EngineTransient, JobStopped, TandemError
from workers.engine.decoding import Decoding
from workers.engine.failures import device_lost, out_of_memory
from workers.engine.memory import Memory
from workers.engine.pace import Pace
from workers.engine.runner import Runner
from workers.engine.sampling import logprobs, pick


class Batcher:
    """Answers decodings; `answer` may be called from any thread."""

    def __init__(self, runner: Runner, memory: Memory, pace: Pace, *, most_rows: int, broken: Callable[[], None]) -> None:
        """`broken` is called when the device is lost, after all requests have been told."""
        self._runner = runner
        self._most_rows = most_rows
        self._memory = memory
        self._broken = broken
        self._arrived: deque[Decoding] = deque()
        self._waiting: deque[Decoding] = deque()
        self._reading: list[Decoding] = []
        self._running: list[Decoding] = []  # in the order of the runner's rows
        self._pace = pace
        self._stepped_s = 0.0  # when those who are being answered got their last tokens
        self._wake = threading.Condition()
        self._closing = False
        self.counts = {"steps": 0, "passes": 0, "requests": 0, "prompt_tokens": 0, "cached_tokens": 0,
                       "completion_tokens": 0, "prefix_hits": 0}
        self._thread = threading.Thread(target=self._run, name="tandem-engine", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """End the thread after the step it is at; who still waits is told to try elsewhere."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def answer(self, decoding: Decoding) -> None:
        """Return once the decoding has ended. Raises `JobStopped` or an `EngineError`."""
        with self._wake:
            if self._closing:
                raise EngineTransient("the engine is closing; another attempt goes to a fresh one")
            self._arrived.append(decoding)
            self._wake.notify()
        decoding.ended.wait()
        if decoding.error is not None:
            raise decoding.error

    def figures(self) -> dict[str, int | float]:
        """What is going on, and what was counted since the start."""
        return {**self.counts, "waiting": len(self._waiting) + len(self._arrived), "reading": len(self._reading),
                "running": len(self._running), **self._memory.figures()}

    # the thread

    def _run(self) -> None:
        while not self._closing:
            try:
                with torch.inference_mode():
                    self._turn()
            except Exception as exc:  # noqa: BLE001 - the thread's outermost loop: without it no request is answered any more
                logs.event("engine_turn_failed", level=logging.ERROR, exc_info=True, why=str(exc))
                self._fail_all(EngineTransient(f"the engine failed ({type(exc).__name__}); see the worker's log"))
                if device_lost(exc):
                    self._closing = True
                    self._broken()
        self._fail_all(EngineTransient("the engine is closing; another attempt goes to a fresh one"))

    def _turn(self) -> None:
        self._await_work()
        self._drop_stopped()
        self._admit()
        if self._reading:
            self._read()
        stalled_s = time.perf_counter() - self._stepped_s
        if self._running and self._pace.step_is_due(stalled_s, reading=len(self._reading), running=len(self._running)):
            self._step()

    def _await_work(self) -> None:
        with self._wake:
            while not (self._arrived or self._waiting or self._reading or self._running or self._closing):
                self._wake.wait()  # nobody waits while nothing runs: one alone is always taken in
            while self._arrived:
                self._waiting.append(self._arrived.popleft())

    def _drop_stopped(self) -> None:
        for held in (self._waiting, self._reading):
            for decoding in list(held):
                if (why := _stopped(decoding)) is not None:
                    held.remove(decoding)
                    decoding.fail(why)
        for decoding in list(self._running):
            if (why := _stopped(decoding)) is not None:
                self._leave(decoding)
                decoding.fail(why)

    def _admit(self) -> None:
        """Take in those who wait, in order, as far as there are rows and memory."""
        while self._waiting and len(self._reading) + len(self._running) < self._most_rows:
            taken = [*self._reading, *self._running, self._waiting[0]]
            if self._memory.left(taken) < 0 and len(taken) > 1:
                return
            self._reading.append(self._waiting.popleft())
            self._begin(self._reading[-1])
            self._memory.make_room(taken)

    def _begin(self, decoding: Decoding) -> None:
        """Let the prompt begin with what is held of one that began in the same way."""
        row = self._memory.beginning(decoding, self._running)
        if row is not None:
            decoding.prompt.held, decoding.prompt.done = row, row.length
            decoding.cached = row.length
            self.counts["prefix_hits"] += 1
        self.counts["requests"] += 1
        self.counts["prompt_tokens"] += len(decoding.tokens)
        self.counts["cached_tokens"] += decoding.cached

    def _read(self) -> None:
        """One pass over the first prompts; those that are through begin their answers."""
        most = self._pace.tokens(reading=len(self._reading), running=len(self._running))
        group = self._group(most)
        prompts = [decoding.prompt for decoding in group]
        before = [prompt.done for prompt in prompts]
        began_s = time.perf_counter()
        try:
            logits = self._memory.provide(lambda: self._runner.read(prompts, most))
            logits[:, :1].cpu()  # an accelerator works on by itself: its time counts, too
        except Exception as exc:  # noqa: BLE001 - whatever a model raises on a prompt fails that prompt, not the others
            self._read_failed(group, exc)
            return
        longest = max(max(prompt.done - done for prompt, done in zip(prompts, before, strict=True)), 1)
        self._pace.learn_pass(len(group) * longest, time.perf_counter() - began_s)
        self.counts["passes"] += 1
        through = [at for at, decoding in enumerate(group) if not decoding.prompt.left and self._joins(decoding)]
        if through:
            self._take(logits[through], [group[at] for at in through])

    def _joins(self, decoding: Decoding) -> bool:
        """Make it a running row, if there is memory for that; else it fails."""
        try:
            self._memory.provide(lambda: self._runner.join(decoding.prompt))
        except Exception as exc:  # noqa: BLE001 - as above
            self._read_failed([decoding], exc)
            return False
        self._reading.remove(decoding)
        decoding.prompt.held = None
        if not self._running:
            self._stepped_s = time.perf_counter()
        self._running.append(decoding)
        return True

    def _group(self, most: int) -> list[Decoding]:
        """A prompt, and as many others as can be read to their ends with it in a pass of `most` tokens: those of about its
        length first, for the shorter ones are padded. Every other pass it is the shortest, so that the others do not wait
        for a long one."""
        first = self._reading[0]
        if self.counts["passes"] % 2:
            first = min(self._reading, key=lambda each: each.prompt.left)
        group, longest = [first], first.prompt.left
        for decoding in sorted(self._reading, key=lambda each: abs(each.prompt.left - first.prompt.left)):
            together, length = [*group, decoding], max(longest, decoding.prompt.left)
            if (decoding is not first and length * len(together) <= most and not any(each.alone for each in together)
                    and self._runner.fits_together([each.prompt for each in together])):
                group, longest = together, length
        return group

    def _read_failed(self, group: list[Decoding], exc: Exception) -> None:
        """Fail the prompt that could not be read; of several, try each by itself."""
        if device_lost(exc):
            raise exc
        logs.event("prompts_not_read", level=logging.ERROR, exc_info=True, prompts=len(group), why=str(exc))
        if len(group) > 1:
            for decoding in group:
                decoding.alone = True
            return
        self._reading.remove(group[0])
        tokens = len(group[0].tokens)
        group[0].fail(EngineOutOfMemory(f"no memory for {tokens} tokens of prompt; {exc}") if out_of_memory(exc)
                      else EngineFailed(f"the model failed on {tokens} tokens of prompt: {exc}"))

    def _step(self) -> None:
        """One token more for each running row."""
        began_s = time.perf_counter()
        why = ""
        try:
            logits = self._memory.provide(lambda: self._runner.step([each.said[-1] for each in self._running]))
        except Exception as exc:
            if not out_of_memory(exc):
                raise
            why = str(exc)
        if why:  # out here, where the error no longer holds what the model had computed
            largest = max(self._running, key=lambda each: each.prompt.expected)  # what it may still take is the most
            self._leave(largest)
            largest.fail(EngineOutOfMemory(f"no memory for {largest.prompt.expected} tokens of prompt and answer; {why}"))
            return
        self.counts["steps"] += 1
        self._take(logits, list(self._running))
        self._stepped_s = time.perf_counter()
        self._pace.learn_step(self._stepped_s - began_s)

    def _take(self, logits: torch.Tensor, decodings: Sequence[Decoding]) -> None:
        """Pick the next token of each, and let those go who have ended."""
        pickers = [decoding.picker for decoding in decodings]
        tokens = self._memory.provide(lambda: pick(logits, pickers))
        thought = self._memory.provide(lambda: logprobs(logits, pickers, tokens))
        self.counts["completion_tokens"] += len(tokens)
        for decoding, token, its in zip(decodings, tokens, thought, strict=True):
            try:
                decoding.take(token, its)
            except Exception as exc:  # noqa: BLE001 - as in `_stopped`
                self._leave(decoding)  # now: without a token said it cannot be stepped
                decoding.fail(_its_own(exc))
            else:
                if decoding.reason:
                    self._end(decoding)

    def _end(self, decoding: Decoding) -> None:
        """It has its answer; what is held of it may serve another, if there is room beside those who run."""
        self._memory.remember(decoding, self._running)
        self._leave(decoding)
        try:
            decoding.text.finish()
        except Exception as exc:  # noqa: BLE001 - as in `_stopped`
            decoding.fail(_its_own(exc))
        decoding.ended.set()

    def _leave(self, decoding: Decoding) -> None:
        """Free its row. The runner moves its last row there, and so do we."""
        at = self._running.index(decoding)
        self._runner.leave(at)
        last = self._running.pop()
        if at < len(self._running):
            self._running[at] = last

    @torch.inference_mode()
    def _fail_all(self, error: TandemError) -> None:
        with self._wake:
            held = [*self._running, *self._reading, *self._waiting, *self._arrived]
            self._running.clear()
            self._reading.clear()
            self._waiting.clear()
            self._arrived.clear()
        for decoding in held:
            decoding.fail(error)
        self._runner.clear()


def _stopped(decoding: Decoding) -> TandemError | None:
    """Return what a request that is to stop ends with, None for one that goes on."""
    try:
        return JobStopped(f"stopped after {len(decoding.said)} tokens") if decoding.stopped() else None
    except Exception as exc:  # noqa: BLE001 - one request's own code fails that request, not the others
        return _its_own(exc)


def _its_own(exc: Exception) -> TandemError:
    """Return what one request's own failure is to its caller."""
    if isinstance(exc, TandemError):
        return exc
    return EngineFailed(f"the answer could not be put together ({type(exc).__name__}: {exc})")
