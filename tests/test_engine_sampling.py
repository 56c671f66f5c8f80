"""How the torch engine picks tokens, and where an answer ends."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import EngineFailed, PromptTooLong
from app.inputs import Message, ModelInput
from tests.test_engine_families import CONTEXT, an_engine, greedy, run_on, save_model
from workers.engine.transformers_engine import TransformersEngine, _Picker

PROMPT = "the sea is"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def engine(folder: Path) -> TransformersEngine:
    return an_engine(folder)


def sampled(engine: TransformersEngine, **members: object) -> str:
    """Return the text of an answer at temperature 1, or what `members` say."""
    return engine.generate(ModelInput(prompt=PROMPT, **({"max_tokens": 16} | members)), run_on).text  # type: ignore[arg-type]


# -- how a token is picked


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_a_seed_gives_the_same_answer_each_time(engine: TransformersEngine, top_p: float) -> None:
    assert len({sampled(engine, seed=7, top_p=top_p) for _ in range(3)}) == 1


def test_the_largest_seed_that_is_allowed_is_a_seed_like_any_other(engine: TransformersEngine) -> None:
    assert sampled(engine, seed=2**53) == sampled(engine, seed=2**53) != sampled(engine, seed=2**53 - 1)


def test_other_seeds_and_no_seed_give_other_answers(engine: TransformersEngine) -> None:
    assert len({sampled(engine, seed=seed) for seed in range(8)}) == 8
    assert len({sampled(engine) for _ in range(8)}) == 8


def test_at_temperature_zero_seed_and_top_p_change_nothing(engine: TransformersEngine) -> None:
    answers = {sampled(engine, temperature=0.0, seed=seed, top_p=top_p) for seed in (None, 1, 2) for top_p in (0.1, 1.0)}

    assert answers == {engine.generate(greedy(PROMPT, 16), run_on).text}


@pytest.mark.parametrize("members", [{"top_p": 1e-9}, {"top_p": 5e-324}, {"temperature": 1e-4}, {"temperature": 1e-40},
                                     {"temperature": 5e-324, "top_p": 0.5}])
def test_a_tiny_top_p_or_temperature_is_greedy(engine: TransformersEngine, members: dict[str, float]) -> None:
    assert sampled(engine, seed=3, **members) == engine.generate(greedy(PROMPT, 16), run_on).text


@given(temperature=st.floats(0, 2), top_p=st.floats(0, 1, exclude_min=True), seed=st.integers(0, 2**53),
       logits=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20))
@settings(max_examples=300, deadline=None)
def test_whatever_the_settings_a_token_is_picked_and_lies_in_the_nucleus(
        temperature: float, top_p: float, seed: int, logits: list[float]) -> None:
    request = ModelInput(prompt="x", temperature=temperature, top_p=top_p, seed=seed)

    token = _Picker(request, torch.device("cpu"))(torch.tensor(logits))

    assert 0 <= token < len(logits)
    if temperature >= 1e-4:
        chances = torch.softmax(torch.tensor(logits) / temperature, dim=-1).double()
        assert chances[chances > chances[token]].sum() <= top_p + 1e-5, "the likelier ones alone were enough for top_p"


def test_tokens_come_as_often_as_their_probabilities_say() -> None:
    logits = torch.log(torch.tensor([0.6, 0.3, 0.1]))
    pick = _Picker(ModelInput(prompt="x", seed=1), torch.device("cpu"))
    squared = _Picker(ModelInput(prompt="x", seed=1, temperature=0.5), torch.device("cpu"))
    nucleus = _Picker(ModelInput(prompt="x", seed=1, top_p=0.7), torch.device("cpu"))

    for picker, expected in ((pick, (0.6, 0.3, 0.1)), (squared, (0.36 / 0.46, 0.09 / 0.46, 0.01 / 0.46)),
                             (nucleus, (2 / 3, 1 / 3, 0.0))):
        counts = torch.bincount(torch.tensor([picker(logits) for _ in range(4000)]), minlength=3)
        assert (counts / 4000).tolist() == pytest.approx(expected, abs=0.03)


# -- where an answer ends


def test_max_tokens_ends_an_answer_for_length(engine: TransformersEngine) -> None:
    whole = engine.generate(greedy(PROMPT, 16), run_on)
    start = engine.generate(greedy(PROMPT, 4), run_on)

    assert (start.finish_reason, start.usage.completion_tokens) == ("length", 4)
    assert whole.text.startswith(start.text)


@pytest.mark.parametrize("as_list", [True, False])
def test_a_token_that_ends_a_turn_stops_the_answer_and_is_counted(folder: Path, tmp_path: Path, as_list: bool) -> None:
    before = an_engine(folder)
    asked = before.tokenizer(PROMPT, return_tensors="pt")
    said = before.model.generate(**asked, do_sample=False, max_new_tokens=8)[0, asked["input_ids"].shape[1]:].tolist()
    at, end = [(at, token) for at, token in enumerate(said) if token not in said[:at]][-1]
    target = save_model(tmp_path / "ends")
    file = target / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [1, end] if as_list else end}))

    answer = an_engine(target).generate(greedy(PROMPT, 16), run_on)

    assert (answer.finish_reason, answer.usage.completion_tokens) == ("stop", at + 1)
    assert at > 0
    assert answer.text == before.generate(greedy(PROMPT, at + 1), run_on).text


def test_a_stop_string_stops_the_answer_and_is_cut_off(engine: TransformersEngine) -> None:
    whole = engine.generate(greedy(PROMPT, 16), run_on)
    stop = whole.text[6]

    answer = engine.generate(greedy(PROMPT, 16, stop=stop), run_on)

    assert answer.finish_reason == "stop"
    assert answer.text == whole.text[:whole.text.index(stop)]
    assert answer.usage.completion_tokens < 16


def test_a_stop_string_may_lie_across_tokens_and_the_first_of_several_counts(engine: TransformersEngine) -> None:
    short = engine.generate(greedy(PROMPT, 5), run_on).text
    whole = engine.generate(greedy(PROMPT, 16), run_on).text
    stop = whole[len(short) - 1:len(short) + 1]  # the end of one token and the start of the next

    answer = engine.generate(greedy(PROMPT, 16, stop=["never said", whole[-2:], stop]), run_on)

    assert answer.finish_reason == "stop"
    assert answer.text == whole[:whole.index(stop)]
    assert answer.usage.completion_tokens == 6


def test_a_stop_string_that_is_never_said_changes_nothing(engine: TransformersEngine) -> None:
    for stop in ("never said", []):
        assert engine.generate(greedy(PROMPT, 16, stop=stop), run_on) == engine.generate(greedy(PROMPT, 16), run_on)


def test_a_stop_string_in_the_last_token_allowed_is_a_stop_and_not_length(engine: TransformersEngine) -> None:
    last = engine.generate(greedy(PROMPT, 5), run_on).text[-1]

    assert engine.generate(greedy(PROMPT, 5, stop=last), run_on).finish_reason == "stop"


def test_a_full_context_ends_an_answer_for_length(engine: TransformersEngine) -> None:
    prompt = "the sea is wide and the sky is blue, " * 4

    answer = engine.generate(greedy(prompt, 1000), run_on)

    assert answer.finish_reason == "length"
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens == CONTEXT


@pytest.mark.parametrize("tokens", [CONTEXT, CONTEXT + 1, 10 * CONTEXT])  # one that begins each text, then a "!" each
def test_a_prompt_that_leaves_no_room_is_too_long(engine: TransformersEngine, tokens: int) -> None:
    with pytest.raises(PromptTooLong, match=rf"the prompt has {tokens} tokens; tiny takes {CONTEXT} with the answer"):
        engine.generate(greedy("!" * (tokens - 1)), run_on)


def test_a_prompt_that_leaves_room_for_one_token_gets_one(engine: TransformersEngine) -> None:
    answer = engine.generate(greedy("!" * (CONTEXT - 2)), run_on)

    assert (answer.finish_reason, answer.usage.completion_tokens) == ("length", 1)


# -- prompts and messages


def test_messages_that_fill_the_context_are_too_long_as_well(engine: TransformersEngine) -> None:
    with pytest.raises(PromptTooLong):
        engine.generate(ModelInput(messages=[Message(role="user", content="!" * CONTEXT)]), run_on)


def test_a_model_without_a_chat_template_asks_for_a_prompt(tmp_path: Path) -> None:
    engine = an_engine(save_model(tmp_path / "bare", template=None))

    with pytest.raises(EngineFailed, match="bare has no chat template, so it takes no `messages`; send a `prompt`"):
        engine.generate(ModelInput(messages=[Message(role="user", content="hello")]), run_on)
    assert engine.generate(greedy("hello"), run_on).text


def test_a_chat_template_that_refuses_the_messages_says_why(tmp_path: Path) -> None:
    template = "{{ raise_exception('the roles must alternate') }}"
    engine = an_engine(save_model(tmp_path / "strict", template=template))

    with pytest.raises(EngineFailed, match="refuses these messages: the roles must alternate"):
        engine.generate(ModelInput(messages=[Message(role="user", content="hello")]), run_on)
