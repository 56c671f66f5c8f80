"""How the torch engine picks tokens."""

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from app.inputs import ModelInput
from tests.test_engine_batcher import PROMPTS, Turns, a_decoding, a_runner
from tests.test_engine_families import an_engine, greedy, run_on, save_model, tiny
from workers.engine import sampling
from workers.engine.sampling import Picker, pick
from workers.engine.torch_engine import TorchEngine

PROMPT = "the sea is"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[TorchEngine]:
    with closing(an_engine(folder)) as engine:
        yield engine


def sampled(engine: TorchEngine, **members: object) -> str:
    """Return the text of an answer at temperature 1, or what `members` say."""
    return engine.generate(ModelInput(prompt=PROMPT, **({"max_tokens": 16} | members)), run_on).text  # type: ignore[arg-type]


# -- how a token is picked


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_a_seed_gives_the_same_answer_each_time(engine: TorchEngine, top_p: float) -> None:
    assert len({sampled(engine, seed=7, top_p=top_p) for _ in range(3)}) == 1


def test_the_largest_seed_that_is_allowed_is_a_seed_like_any_other(engine: TorchEngine) -> None:
    assert sampled(engine, seed=2**53) == sampled(engine, seed=2**53) != sampled(engine, seed=2**53 - 1)


def test_other_seeds_and_no_seed_give_other_answers(engine: TorchEngine) -> None:
    assert len({sampled(engine, seed=seed) for seed in range(8)}) == 8
    assert len({sampled(engine) for _ in range(8)}) == 8


def test_at_temperature_zero_seed_and_top_p_change_nothing(engine: TorchEngine) -> None:
    answers = {sampled(engine, temperature=0.0, seed=seed, top_p=top_p) for seed in (None, 1, 2) for top_p in (0.1, 1.0)}

    assert answers == {engine.generate(greedy(PROMPT, 16), run_on).text}


@pytest.mark.parametrize("members", [{"top_p": 1e-9}, {"top_p": 5e-324}, {"temperature": 1e-4}, {"temperature": 1e-40},
                                     {"temperature": 5e-324, "top_p": 0.5}])
def test_a_tiny_top_p_or_temperature_is_greedy(engine: TorchEngine, members: dict[str, float]) -> None:
    assert sampled(engine, seed=3, **members) == engine.generate(greedy(PROMPT, 16), run_on).text


def picked(logits: list[float] | torch.Tensor, count: int = 1, **members: Any) -> list[int]:
    """Return a first token for each of `count` requests with the seeds 0, 1, ..., or with the one that is given."""
    pickers = [Picker(ModelInput(prompt="x", **({"seed": seed} | members)), []) for seed in range(count)]
    return pick(torch.as_tensor(logits).expand(count, -1), pickers)


def chances(logits: list[float], temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
            min_p: float = 0.0) -> list[float]:
    """The plain reference: temperature, then the likeliest `top_k`, then of those the fewest that make up `top_p`, then
    what is at least `min_p` of the likeliest."""
    odds = [math.exp((each - max(logits)) / temperature) for each in logits]
    order = sorted(range(len(odds)), key=lambda at: -odds[at])[:top_k or None]
    whole, taken, nucleus = sum(odds[at] for at in order), 0.0, []
    for at in order:
        if not nucleus or taken < top_p * whole:
            nucleus.append(at)
        taken += odds[at]
    kept = {at for at in nucleus if odds[at] >= min_p * odds[order[0]]}
    return [odds[at] / sum(odds[each] for each in kept) if at in kept else 0.0 for at in range(len(odds))]


LOGITS = [2.0, -1.0, 0.5, 1.7, 0.0, 1.1, -3.0, 1.9, 0.3, -0.4]


@pytest.mark.parametrize("members", [
    {}, {"temperature": 0.5}, {"temperature": 2.0}, {"top_k": 1}, {"top_k": 4}, {"top_k": 99}, {"top_p": 0.3},
    {"top_p": 0.8}, {"min_p": 0.4}, {"min_p": 1.0}, {"temperature": 1.7, "top_k": 6, "top_p": 0.7, "min_p": 0.3},
    {"top_k": 3, "top_p": 0.65},  # of what top_k leaves: two tokens; of all it would be three
    {"temperature": 0.4, "top_p": 0.8}, {"temperature": 0.4, "min_p": 0.3}], ids=str)
def test_tokens_come_as_often_as_a_plain_reference_says(members: dict[str, Any]) -> None:
    draws = 6000
    counts = Counter(picked(LOGITS, draws, **members))

    expected = chances(LOGITS, **members)
    assert set(counts) <= {at for at, chance in enumerate(expected) if chance > 0}, "a token that is ruled out"
    likely = [at for at, chance in enumerate(expected) if chance * draws >= 5]
    distance = sum((counts[at] - expected[at] * draws) ** 2 / (expected[at] * draws) for at in likely)
    freedom = max(len(likely) - 1, 1)
    assert distance < freedom + 5 * math.sqrt(2 * freedom), "chi-square is five of its standard deviations off"


def test_a_nucleus_that_is_just_enough_takes_no_token_more() -> None:
    assert len(set(picked([0.0] * 4, 300, top_p=0.5))) == 2


@given(temperature=st.floats(0, 2), top_p=st.floats(0, 1, exclude_min=True), top_k=st.none() | st.integers(1, 25),
       min_p=st.floats(0, 1), seed=st.integers(0, 2**53),
       logits=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20))
@settings(max_examples=300, derandomize=True, database=None)
def test_whatever_the_settings_a_token_is_picked_that_they_allow(
        temperature: float, top_p: float, top_k: int | None, min_p: float, seed: int, logits: list[float]) -> None:
    (token,) = picked(logits, temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, seed=seed)

    likelier = sum(each > logits[token] for each in logits)
    assert 0 <= token < len(logits)
    assert likelier < (top_k or len(logits))
    if temperature >= 1e-4:
        odds = torch.softmax(torch.tensor(logits) / temperature, dim=-1).double()
        assert odds[odds > odds[token]].sum() <= top_p + 1e-5, "the likelier ones alone were enough for top_p"
        assert odds[token] >= min_p * odds.max() * (1 - 1e-5)


@pytest.mark.parametrize("members", [{"top_k": 5}, {"top_k": 40}, {"top_p": 0.5}, {"top_p": 0.999}, {"min_p": 0.05},
                                     {"top_k": 100, "top_p": 0.6}, {"temperature": 2.0, "top_p": 0.9, "min_p": 0.01}],
                         ids=str)
def test_to_look_at_the_likeliest_few_first_changes_no_token(
        members: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(3000, generator=torch.Generator().manual_seed(1)) * 3
    monkeypatch.setattr(sampling, "_FEW", 3000)
    whole = picked(logits, 400, **members)

    for few in (1, 32, 256):
        monkeypatch.setattr(sampling, "_FEW", few)
        assert picked(logits, 400, **members) == whole


def test_rows_of_a_batch_are_picked_each_by_its_own_settings() -> None:
    logits = torch.randn((6, 50), generator=torch.Generator().manual_seed(2)) * 2
    wanted = [{"temperature": 0.0}, {"seed": 1}, {"seed": 2, "top_k": 5}, {"seed": 3, "top_p": 0.5, "temperature": 1.5},
              {"seed": 4, "repetition_penalty": 1.5}, {"seed": 5, "min_p": 0.2, "frequency_penalty": 1.0}]

    def pickers() -> list[Picker]:
        return [Picker(ModelInput(prompt="x", **each), [1, 2, 3]) for each in wanted]

    together = pickers()
    alone = [pickers()[at] for at in range(6)]
    for _ in range(20):
        assert pick(logits, together) == [pick(logits[at:at + 1], [alone[at]])[0] for at in range(6)]


# -- penalties


@pytest.mark.parametrize("penalty", [1.3, 0.7])
def test_the_repetition_penalty_is_that_of_transformers(penalty: float) -> None:
    logits = torch.tensor(LOGITS)
    picker = Picker(ModelInput(prompt="x", repetition_penalty=penalty), [0, 1, 1])
    seen = [0, 1, 1]
    for token in (3, 3, 6, 9):
        mine = logits.clone()
        picker.penalize(mine)

        theirs = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([seen]), logits.unsqueeze(0).clone())[0]
        assert torch.equal(mine, theirs)
        assert not torch.equal(mine, logits)
        picker.take(token)
        seen.append(token)


def test_presence_and_frequency_penalties_are_openais_formula_over_the_answer_only() -> None:
    picker = Picker(ModelInput(prompt="x", presence_penalty=0.5, frequency_penalty=0.25), [0, 1, 1])
    for token in (3, 3, 6):
        picker.take(token)
    logits = torch.tensor(LOGITS)
    picker.penalize(logits)

    said = Counter([3, 3, 6])
    assert logits.tolist() == pytest.approx([each - 0.5 * (at in said) - 0.25 * said[at] for at, each in enumerate(LOGITS)])


def test_penalties_count_for_greedy_picking_and_leave_the_models_logits_alone() -> None:
    logits = torch.tensor([LOGITS])
    picker = Picker(ModelInput(prompt="x", temperature=0.0, presence_penalty=2.0), [])

    assert [pick(logits, [picker])[0] for _ in range(3)] == [0, 7, 3]
    assert logits.tolist()[0] == pytest.approx(LOGITS)


# -- defaults and seeds


def test_what_a_request_leaves_out_is_the_models_own_and_what_it_gives_counts() -> None:
    own = GenerationConfig(do_sample=True, temperature=0.3, top_k=5, top_p=0.8, min_p=0.1, repetition_penalty=1.2)
    silent = Picker(ModelInput(prompt="x"), [], own)
    asked = ModelInput(prompt="x", temperature=1.5, top_k=7, top_p=1.0, min_p=0.0, repetition_penalty=1.0)
    neutral = Picker(ModelInput(prompt="x"), [], GenerationConfig())

    def shown(picker: Picker) -> tuple[float, ...]:
        return picker.temperature, picker.top_k, picker.top_p, picker.min_p, picker.repetition

    assert shown(silent) == (0.3, 5, 0.8, 0.1, 1.2)
    assert shown(Picker(asked, [], own)) == (1.5, 7, 1.0, 0.0, 1.0)
    assert shown(neutral) == (1.0, 0, 1.0, 0.0, 1.0)


def test_the_engine_hands_on_what_the_models_generation_config_says(folder: Path, tmp_path: Path) -> None:
    target = shutil.copytree(folder, tmp_path / "cold")
    file = target / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_sample": True, "top_k": 1}))
    with closing(an_engine(target)) as engine:
        assert sampled(engine) == engine.generate(greedy(PROMPT, 16), run_on).text
        assert len({sampled(engine, top_k=50) for _ in range(4)}) == 4


def test_a_seed_gives_the_same_tokens_alone_and_in_a_batch_of_others() -> None:
    wanted = {"temperature": 1.0, "seed": 11, "top_p": 0.95, "frequency_penalty": 0.5}
    alone, together = a_decoding(PROMPTS[3], 14, **wanted), a_decoding(PROMPTS[3], 14, **wanted)
    Turns(a_runner("llama", 7), rows=7).run({0: [alone]})
    others = [a_decoding(PROMPTS[at], 3 + 2 * at, temperature=1.0, seed=at) for at in range(5)]
    Turns(a_runner("llama", 7), rows=7).run({0: others[:3], 2: [together], 5: others[3:]})

    assert together.said == alone.said
    assert alone.said != tiny("llama").says(PROMPTS[3], 14)


# -- log probabilities


def test_logprobs_are_those_of_the_models_own_distribution_best_first(engine: TorchEngine) -> None:
    asked = ModelInput(prompt=PROMPT, max_tokens=6, seed=1, temperature=1.5, top_k=20, presence_penalty=1.0, logprobs=True,
                       top_logprobs=5)
    answer = engine.generate(asked, run_on)

    assert answer.logprobs is not None
    vocabulary = {engine.tokenizer.decode([token]): token for token in range(len(engine.tokenizer))}
    said = [vocabulary[each.token] for each in answer.logprobs]
    whole = torch.tensor([engine.tokenizer(PROMPT)["input_ids"] + said])
    with torch.inference_mode():
        thought = torch.log_softmax(engine.model(whole).logits[0, -len(said) - 1:-1], dim=-1)
    assert "".join(each.token for each in answer.logprobs) == answer.text
    for each, token, row in zip(answer.logprobs, said, thought, strict=True):
        best = row.topk(5)
        assert each.logprob == pytest.approx(float(row[token]), abs=1e-4)
        assert [vocabulary[other.token] for other in each.top_logprobs] == best.indices.tolist()
        assert [other.logprob for other in each.top_logprobs] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert bytes(each.bytes).decode() == each.token


def test_logprobs_come_only_when_asked_for(engine: TorchEngine) -> None:
    assert engine.generate(greedy(PROMPT, 4), run_on).logprobs is None
    bare = engine.generate(greedy(PROMPT, 4, logprobs=True), run_on).logprobs
    assert bare is not None
    assert [each.top_logprobs for each in bare] == [[]] * 4
