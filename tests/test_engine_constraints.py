"""What a model's generation_config forbids is what `generate` keeps from its answers."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.inputs import ModelInput
from tests.test_engine_batcher import one_thread  # noqa: F401 - a fixture
from tests.test_engine_families import PROMPTS, an_engine, generated, greedy, run_on, save_model
from workers.engine.torch_engine import TorchEngine

LIKELY = [[token] for token in range(20, 280, 3)]
FORBIDDEN: dict[str, dict[str, Any]] = {
    "no n-gram twice": {"no_repeat_ngram_size": 1},
    "bad words": {"bad_words_ids": [*LIKELY, [30, 31]]},
    "no end before": {"min_new_tokens": 20, "eos_token_id": list(range(2, 150))},
    "no shorter than": {"min_length": 14, "eos_token_id": list(range(2, 150))},
    "suppressed": {"suppress_tokens": list(range(2, 200))},
    "suppressed at the beginning": {"begin_suppress_tokens": list(range(2, 280))},
    "several": {"no_repeat_ngram_size": 2, "suppress_tokens": list(range(2, 100)), "min_new_tokens": 5,
                "repetition_penalty": 1.3},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


def an_engine_that(folder: Path, config: dict[str, Any]) -> TorchEngine:
    """Load the model with more in its generation_config."""
    path = folder / "generation_config.json"
    before = path.read_text(encoding="utf-8")
    path.write_text(json.dumps(json.loads(before) | config), encoding="utf-8")
    try:
        return an_engine(folder)
    finally:
        path.write_text(before, encoding="utf-8")


@pytest.mark.parametrize("config", FORBIDDEN.values(), ids=FORBIDDEN)
def test_what_a_generation_config_forbids_is_not_said_just_as_with_generate(folder: Path, config: dict[str, Any]) -> None:
    with closing(an_engine(folder)) as free, closing(an_engine_that(folder, config)) as engine:
        answers = [engine.generate(greedy(prompt), run_on) for prompt in PROMPTS[:3]]
        unbound = [free.generate(greedy(prompt), run_on) for prompt in PROMPTS[:3]]

        for prompt, answer in zip(PROMPTS, answers, strict=False):
            text, tokens = generated(engine, prompt, 24)
            assert answer.usage.completion_tokens == tokens
            assert text.startswith(answer.text)  # in which a token that ends it is left out, special or not
            assert len(text) - len(answer.text) <= (3 if answer.finish_reason == "stop" else 0)
    assert [answer.text for answer in answers] != [answer.text for answer in unbound], "it makes a difference"


def test_requests_in_one_batch_are_bound_each_by_its_own_tokens(folder: Path) -> None:
    with closing(an_engine_that(folder, FORBIDDEN["several"])) as engine:
        alone = [engine.generate(greedy(prompt), run_on).text for prompt in PROMPTS]
        with ThreadPoolExecutor(len(PROMPTS)) as pool:
            together = list(pool.map(lambda prompt: engine.generate(greedy(prompt), run_on).text, PROMPTS))

    assert together == alone


def test_sampling_keeps_to_it_too(folder: Path) -> None:
    allowed = range(250, 290)
    with closing(an_engine_that(folder, {"suppress_tokens": list(range(2, 250))})) as engine:
        answer = engine.generate(ModelInput(prompt="the sea is", max_tokens=20, temperature=3.0, seed=3), run_on)
        letters = "".join(engine.tokenizer.convert_ids_to_tokens(list(allowed)))

    assert len(answer.text) > 5
    assert set(answer.text) <= set(letters)


@pytest.mark.parametrize("wrong", [
    {"suppress_tokens": "no list"}, {"bad_words_ids": [[999_999]]}, {"no_repeat_ngram_size": -1},
    {"min_new_tokens": "many"}], ids=str)
def test_what_cannot_be_kept_to_is_told_and_the_model_serves(
        folder: Path, caplog: pytest.LogCaptureFixture, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with caplog.at_level("INFO", logger="tandem"), closing(an_engine_that(folder, wrong)) as engine:
        answer = engine.generate(greedy("the sea is", 5), run_on)

    told = {record.message: record.__dict__["fields"] for record in caplog.records}
    assert answer.usage.completion_tokens == 5
    assert told["generation_config_wrong"]["item"] == name


def test_what_is_not_honoured_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = {"exponential_decay_length_penalty": [5, 1.1], "num_beams": 4, "typical_p": 1.0}
    with caplog.at_level("INFO", logger="tandem"), closing(an_engine_that(folder, config)):
        told = {record.message: record.__dict__["fields"] for record in caplog.records}

    assert told["generation_config_ignored"] == {"names": ["exponential_decay_length_penalty", "num_beams"]}
