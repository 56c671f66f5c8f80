"""When the model fails: the prompt it fails on fails alone, a failed step fails all for the moment, and only a lost device
ends the engine."""

from typing import Any

import pytest
import torch

from app.errors import EngineFailed, EngineOutOfMemory, EngineTransient
from tests.test_engine_batcher import PROMPTS, Turns, a_decoding, a_runner, one_thread  # noqa: F401 - a fixture
from tests.test_engine_memory import SHORTAGES, Failing, in_the_last_layer, right


@pytest.mark.parametrize(("error", "kind"), [*((error, EngineOutOfMemory) for error in SHORTAGES),
                                             (ValueError("shapes do not fit"), EngineFailed)])
@pytest.mark.parametrize("family", ["llama", "deepseek_v4"])
def test_a_prompt_the_model_fails_on_fails_alone_and_those_read_with_it_are_answered(
        family: str, error: Exception, kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(a_runner(family, 7), rows=7, tokens_a_pass=50)
    requests = [a_decoding(PROMPTS[at], 5) for at in (1, 2, 0, 3)]
    read = turns.runner.read

    def read_all_but_one(prompts: Any, most: int) -> torch.Tensor:
        if requests[1].prompt in prompts:
            raise error
        return read(prompts, most)

    monkeypatch.setattr(turns.runner, "read", read_all_but_one)
    turns.submit(*requests)
    turns.run()

    assert type(requests[1].error) is kind
    assert str(error)[:20] in str(requests[1].error)
    assert right(family, requests[0], *requests[2:])


@pytest.mark.parametrize("family", ["llama", "deepseek_v4"])
def test_a_failure_in_a_step_fails_all_for_the_moment_and_the_next_are_answered(family: str) -> None:
    turns = Turns(a_runner(family, 7), rows=1, tokens_a_pass=50)
    running, waiting, later = (a_decoding(PROMPTS[at], 9) for at in (1, 2, 3))
    with in_the_last_layer(family, Failing([5], ValueError("shapes do not fit"))):
        turns.run({0: [running, waiting], 9: [later]})

    assert len(running.said) == 5
    for one in (running, waiting):
        assert isinstance(one.error, EngineTransient)
        assert "the engine failed (ValueError)" in str(one.error)
    assert right(family, later)
    assert turns.lost == []


def test_a_lost_device_fails_all_is_reported_and_ends_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(a_runner("llama", 7), rows=1, tokens_a_pass=50)
    running, waiting = a_decoding(PROMPTS[1], 9), a_decoding(PROMPTS[2], 9)
    gone = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    monkeypatch.setattr(turns.runner, "leave", Failing(range(9), gone))  # nothing can be done on the device any more
    turns.submit(running, waiting)
    with in_the_last_layer("llama", Failing([3], gone)):
        turns.run()

    assert turns.lost == ["device"]
    assert isinstance(running.error, EngineTransient)
    assert isinstance(waiting.error, EngineTransient)
    with pytest.raises(EngineTransient):
        turns.batcher.answer(a_decoding(PROMPTS[1], 9))


def test_a_device_lost_while_a_prompt_is_read_is_not_taken_for_the_prompts_fault() -> None:
    turns = Turns(a_runner("llama", 7), rows=7)
    one = a_decoding(PROMPTS[1], 9)
    turns.submit(one)
    with in_the_last_layer("llama", Failing([0], torch.AcceleratorError("CUDA error: device-side assert triggered"))):
        turns.run()

    assert turns.lost == ["device"]
    assert isinstance(one.error, EngineTransient)


class Listening:
    """Takes the pieces of an answer until it fails."""

    def __init__(self, fails_at: int) -> None:
        self._left = fails_at

    def __call__(self, *_: object) -> None:
        self._left -= 1
        if self._left < 0:
            raise OSError("the listener is gone")


@pytest.mark.parametrize("fails_at", [0, 3])
def test_one_whose_listener_fails_fails_alone(fails_at: int) -> None:
    turns = Turns(a_runner("llama", 7), rows=7, tokens_a_pass=50)
    requests = [a_decoding(PROMPTS[at], 9) for at in (1, 2, 3)]
    requests[1].text._tell = Listening(fails_at)
    turns.run({0: requests})

    assert isinstance(requests[1].error, EngineFailed)
    assert right("llama", requests[0], requests[2])


def test_one_whose_last_words_cannot_be_told_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(a_runner("llama", 7), rows=7, tokens_a_pass=50)
    requests = [a_decoding(PROMPTS[at], 9) for at in (1, 2)]
    monkeypatch.setattr(requests[0].text, "finish", Failing([0], OSError("gone")))
    turns.run({0: requests})

    assert isinstance(requests[0].error, EngineFailed)
    assert right("llama", requests[1])


@pytest.mark.parametrize("asked", [0, 2, 6])
def test_one_that_cannot_say_whether_to_stop_fails_alone(asked: int) -> None:
    turns = Turns(a_runner("llama", 7), rows=7, tokens_a_pass=50)
    requests = [a_decoding(PROMPTS[1], 9, stopped=Failing([asked], OSError("gone"))), a_decoding(PROMPTS[2], 9)]
    turns.run({0: requests})

    assert isinstance(requests[0].error, EngineFailed)
    assert right("llama", requests[1])


@pytest.mark.parametrize("stops", [True, False])
def test_nobody_is_left_hanging_when_a_row_cannot_be_removed(stops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(a_runner("llama", 7), rows=7, tokens_a_pass=50)
    asked = iter(range(99))
    first = a_decoding(PROMPTS[1], 30 if stops else 4, stopped=lambda: stops and next(asked) > 5)
    second, later = a_decoding(PROMPTS[2], 9), a_decoding(PROMPTS[3], 5)
    monkeypatch.setattr(turns.runner, "leave", Failing([0], MemoryError("no memory"), turns.runner.leave))
    turns.run({0: [first, second], 12: [later]})

    assert first.ended.is_set()
    assert isinstance(second.error, EngineTransient)
    assert right("llama", later)


def test_a_model_that_gives_no_numbers_fails_that_request_and_not_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(a_runner("llama", 7), rows=7, tokens_a_pass=50)
    requests = [a_decoding(PROMPTS[at], 9, temperature=temperature) for at, temperature in ((1, 0.0), (2, 0.0), (3, 1.0))]
    step = turns.runner.step

    def spoilt(tokens: Any) -> torch.Tensor:
        logits = step(tokens)
        logits[1:] = float("nan")
        return logits

    monkeypatch.setattr(turns.runner, "step", spoilt)
    turns.run({0: requests})

    assert right("llama", requests[0])
    for one in requests[1:]:
        assert isinstance(one.error, EngineFailed)
        assert "no numbers" in str(one.error)


@pytest.mark.parametrize("family", ["llama", "deepseek_v4"])
def test_a_prompt_after_which_the_model_gives_no_numbers_fails_by_itself(
        family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(a_runner(family, 7), rows=7, tokens_a_pass=50)
    requests = [a_decoding(PROMPTS[at], 9) for at in (1, 2, 3)]
    read = turns.runner.read

    def spoilt(prompts: Any, most: int) -> torch.Tensor:
        logits = read(prompts, most)
        for at, prompt in enumerate(prompts):
            if prompt is requests[1].prompt:
                logits[at] = float("nan")
        return logits

    monkeypatch.setattr(turns.runner, "read", spoilt)
    turns.run({0: requests})

    assert isinstance(requests[1].error, EngineFailed)
    assert right(family, requests[0], requests[2])
