"""How a model's rows are run is decided by what is right for it; and what each way needs of memory is what it takes."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from app.errors import SettingsError
from tests.test_engine_batcher import Turns, a_decoding, one_thread  # noqa: F401 - a fixture
from tests.test_engine_families import VOCABULARY, some_tokens, tiny
from workers.engine import choice
from workers.engine.choice import choose_runner
from workers.engine.ragged import RaggedRunner
from workers.engine.runner import Prompt
from workers.engine.separate import SeparateRunner

LONGROPE = {"rope_type": "longrope", "rope_theta": 10_000.0, "original_max_position_embeddings": 16, "factor": 4.0,
            "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}


def test_rows_whose_positions_turn_by_the_longest_do_not_change_each_other() -> None:
    torch.manual_seed(3)
    config = AutoConfig.for_model(
        "llama", vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, initializer_range=0.6, rope_parameters=LONGROPE)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    runner = choose_runner(model, most_rows=7)
    turns = Turns(runner, rows=7, tokens_a_pass=5)
    requests = [a_decoding(some_tokens(length, length), 12) for length in (4, 30, 9)]  # on both sides of 16, and across
    turns.run({0: requests})

    assert isinstance(runner, SeparateRunner)
    for one in requests:
        asked = torch.tensor([one.tokens])
        said = model.generate(asked, attention_mask=torch.ones_like(asked), do_sample=False, max_new_tokens=12,
                              eos_token_id=None)
        assert one.said == said[0, len(one.tokens):].tolist()


def test_a_model_that_gives_no_numbers_for_padding_runs_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "padding_error", lambda _: float("nan"))
    assert isinstance(choose_runner(tiny("llama").model, most_rows=2), SeparateRunner)


def test_a_model_that_says_something_else_from_its_cache_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "keeping_error", lambda _: 0.5)
    with pytest.raises(SettingsError, match="says something else from its cache"):
        choose_runner(tiny("mamba").model, most_rows=2)


def test_a_model_without_a_cache_is_refused() -> None:
    class Forgetful(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return input_ids

    with pytest.raises(SettingsError, match="a Forgetful keeps nothing between two tokens"):
        choose_runner(Forgetful(), most_rows=2)


def taken(runner: Any, length: int) -> int:
    """Return what a row of so many tokens takes."""
    prompt = Prompt(some_tokens(length, 1))
    with torch.inference_mode():
        runner.read([prompt], length)
        runner.join(prompt)
    held: int = runner.nbytes()
    runner.leave(0)
    return held


@pytest.mark.parametrize("family", ["mamba", "deepseek_v4"])
def test_what_separate_rows_need_is_counted_however_their_caches_are_built(family: str) -> None:
    runner = choose_runner(tiny(family).model, most_rows=2)

    for length in (60, 190, 500):
        assert 0.9 * taken(runner, length) <= runner.needs([length]) <= 3 * taken(runner, length)
    assert runner.needs([30, 50]) == pytest.approx(runner.needs([30]) + runner.needs([50]))


def test_a_state_of_fixed_size_needs_no_more_for_a_longer_text() -> None:
    runner = choose_runner(tiny("mamba").model, most_rows=2)
    assert runner.needs([10]) > 0
    assert runner.needs([10_000]) == pytest.approx(runner.needs([10]))


def test_after_many_rows_have_left_a_wide_one_takes_what_was_estimated_and_not_as_many_times() -> None:
    runner = choose_runner(tiny("llama").model, most_rows=16)
    assert isinstance(runner, RaggedRunner)
    with torch.inference_mode():
        for seed in range(16):
            prompt = Prompt(some_tokens(20, seed))
            runner.read([prompt], 20)
            runner.join(prompt)
        for _ in range(15):
            runner.leave(0)
        long = Prompt(some_tokens(90, 3), expected=90)
        runner.read([long], 90)
        runner.join(long)

    assert runner.nbytes() <= runner.needs([30, 90]) * 1.2


def test_a_beginning_taken_from_a_running_row_costs_only_its_own_length() -> None:
    runner = choose_runner(tiny("llama").model, most_rows=2)
    with torch.inference_mode():
        prompt = Prompt(some_tokens(90, 1))
        runner.read([prompt], 90)
        runner.join(prompt)
        kept = runner.keep(0, 16)

    assert kept is not None
    assert sum(held.untyped_storage().nbytes() for layer in kept.layers for held in layer.values()) == kept.nbytes
    assert kept.nbytes == pytest.approx(16 * runner.token_bytes)
