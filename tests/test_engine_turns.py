"""Requests to the torch engine take turns: each can be stopped, none spoils another's answer, and a failed one gives its
turn back."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from app.errors import EngineFailed, EngineOutOfMemory, JobStopped, TandemError
from app.inputs import ModelInput
from tests.test_engine_families import an_engine, greedy, run_on, save_model
from workers.engine import Generation
from workers.engine.transformers_engine import TransformersEngine

Before = Callable[[Callable[[], None]], None]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> TransformersEngine:
    return an_engine(save_model(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture
def before_each_token(engine: TransformersEngine) -> Iterator[Before]:
    """Have something done before each token that the model computes."""
    hooks: list[Any] = []

    def register(act: Callable[[], None]) -> None:
        hooks.append(engine.model.register_forward_pre_hook(lambda *_: act()))

    yield register
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("tokens", [0, 1, 7])
def test_a_stopped_request_computes_not_one_token_more(
        engine: TransformersEngine, before_each_token: Before, tokens: int) -> None:
    computed: list[None] = []
    before_each_token(lambda: computed.append(None))

    with pytest.raises(JobStopped, match=f"stopped after {tokens} tokens"):
        engine.generate(greedy("the sea is"), lambda: len(computed) >= tokens)
    assert len(computed) == tokens


def test_whether_to_stop_is_asked_before_each_token(engine: TransformersEngine, before_each_token: Before) -> None:
    computed: list[None] = []
    asked_at: list[int] = []
    before_each_token(lambda: computed.append(None))

    def stopped() -> bool:
        asked_at.append(len(computed))
        return False

    engine.generate(greedy("the sea is", 6), stopped)
    assert asked_at == [0, 1, 2, 3, 4, 5]


def test_a_request_that_waits_for_its_turn_can_be_stopped_and_the_one_before_it_goes_on(
        engine: TransformersEngine, before_each_token: Before) -> None:
    alone = engine.generate(greedy("the sea is"), run_on)
    running, go_on = threading.Event(), threading.Event()

    def hold_on() -> None:
        running.set()
        assert go_on.wait(30), "nobody let the first request go on"

    before_each_token(hold_on)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(engine.generate, greedy("the sea is"), run_on)
        assert running.wait(30)
        with pytest.raises(JobStopped, match="while waiting"):
            engine.generate(greedy("the sky is"), lambda: True)
        assert not first.done()
        go_on.set()
        assert first.result(30) == alone


def test_after_a_stopped_request_the_next_gets_its_turn(engine: TransformersEngine) -> None:
    alone = engine.generate(greedy("the sea is"), run_on)
    with pytest.raises(JobStopped):
        engine.generate(greedy("the sky is"), lambda: True)

    assert engine.generate(greedy("the sea is"), run_on) == alone


def test_requests_of_many_threads_at_once_all_get_the_answers_they_get_alone(engine: TransformersEngine) -> None:
    requests = [greedy(f"the sea is {word}", 12) for word in ("wide", "blue", "out", "there")]
    requests += [ModelInput(prompt="the sky is", max_tokens=12, seed=seed) for seed in range(4)]
    alone = [engine.generate(request, run_on) for request in requests]
    together = threading.Barrier(len(requests))

    def ask(request: ModelInput) -> list[Generation]:
        together.wait(30)
        return [engine.generate(request, run_on) for _ in range(3)]

    with ThreadPoolExecutor(len(requests)) as threads:
        answers = list(threads.map(ask, requests))
    assert answers == [[each] * 3 for each in alone]
    assert len({each.text for each in alone}) == len(requests)


@pytest.mark.parametrize(("failure", "error"), [
    (torch.OutOfMemoryError("CUDA out of memory"), EngineOutOfMemory),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), EngineOutOfMemory),
    (RuntimeError("shapes do not fit"), EngineFailed)])
def test_a_failure_of_the_model_is_ours_by_kind_and_the_next_request_gets_its_turn(
        engine: TransformersEngine, failure: Exception, error: type[TandemError]) -> None:
    def fail(*_: object) -> None:
        raise failure

    hook = engine.model.register_forward_pre_hook(fail)
    with pytest.raises(error, match=str(failure)[:20]) as raised:
        engine.generate(greedy("the sea is"), run_on)
    hook.remove()

    assert raised.value.retryable is (error is EngineOutOfMemory)
    assert engine.generate(greedy("the sea is", 2), run_on).usage.completion_tokens == 2
