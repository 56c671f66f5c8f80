"""Where an answer of the torch engine ends, and which prompts it refuses."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.errors import EngineFailed, PromptTooLong
from app.inputs import Message, ModelInput
from tests.test_engine_families import CONTEXT, an_engine, greedy, run_on, save_model
from workers.engine.torch_engine import TorchEngine

PROMPT = "the sea is"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchEngine]:
    with closing(an_engine(save_model(tmp_path_factory.mktemp("model") / "tiny"))) as engine:
        yield engine


def test_max_tokens_ends_an_answer_for_length(engine: TorchEngine) -> None:
    whole = engine.generate(greedy(PROMPT, 16), run_on)
    start = engine.generate(greedy(PROMPT, 4), run_on)

    assert (start.finish_reason, start.usage.completion_tokens) == ("length", 4)
    assert whole.text.startswith(start.text)


@pytest.mark.parametrize("as_list", [True, False])
def test_a_token_that_ends_a_turn_stops_the_answer_and_is_counted(
        engine: TorchEngine, tmp_path: Path, as_list: bool) -> None:
    asked = engine.tokenizer(PROMPT, return_tensors="pt")
    said = engine.model.generate(**asked, do_sample=False, max_new_tokens=8)[0, asked["input_ids"].shape[1]:].tolist()
    at, end = [(at, token) for at, token in enumerate(said) if token not in said[:at]][-1]
    target = save_model(tmp_path / "ends")
    file = target / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [1, end] if as_list else end}))

    with closing(an_engine(target)) as ending:
        answer = ending.generate(greedy(PROMPT, 16), run_on)

    assert (answer.finish_reason, answer.usage.completion_tokens) == ("stop", at + 1)
    assert at > 0
    assert answer.text == engine.generate(greedy(PROMPT, at), run_on).text, "it is not part of the text"


def test_a_stop_token_of_the_request_stops_its_answer_and_is_cut_off(engine: TorchEngine) -> None:
    asked = engine.tokenizer(PROMPT, return_tensors="pt")
    said = engine.model.generate(**asked, do_sample=False, max_new_tokens=8)[0, asked["input_ids"].shape[1]:].tolist()
    at, end = [(at, token) for at, token in enumerate(said) if token not in said[:at]][-1]

    answer = engine.generate(greedy(PROMPT, 16, stop_token_ids=[9_999, end], logprobs=True), run_on)

    assert (answer.finish_reason, answer.usage.completion_tokens) == ("stop", at + 1)
    assert answer.text == engine.generate(greedy(PROMPT, at), run_on).text
    assert answer.logprobs is not None
    assert len(answer.logprobs) == at, "what is cut off is not told of"
    assert engine.generate(greedy(PROMPT, 16), run_on).usage.completion_tokens == 16, "it was that request's only"


def test_a_stop_string_stops_the_answer_and_is_cut_off(engine: TorchEngine) -> None:
    whole = engine.generate(greedy(PROMPT, 16), run_on)
    stop = whole.text[6]

    answer = engine.generate(greedy(PROMPT, 16, stop=stop), run_on)

    assert answer.finish_reason == "stop"
    assert answer.text == whole.text[:whole.text.index(stop)]
    assert answer.usage.completion_tokens < 16


def test_a_stop_string_may_lie_across_tokens_and_the_first_of_several_counts(engine: TorchEngine) -> None:
    short = engine.generate(greedy(PROMPT, 5), run_on).text
    whole = engine.generate(greedy(PROMPT, 16), run_on).text
    stop = whole[len(short) - 1:len(short) + 1]  # the end of one token and the start of the next

    answer = engine.generate(greedy(PROMPT, 16, stop=["never said", whole[-2:], stop]), run_on)

    assert answer.finish_reason == "stop"
    assert answer.text == whole[:whole.index(stop)]
    assert answer.usage.completion_tokens == 6


def test_a_stop_string_that_is_never_said_changes_nothing(engine: TorchEngine) -> None:
    whole = engine.generate(greedy(PROMPT, 16), run_on).text

    for stop in ("never said", []):
        assert engine.generate(greedy(PROMPT, 16, stop=stop), run_on).text == whole


def test_a_stop_string_in_the_last_token_allowed_is_a_stop_and_not_length(engine: TorchEngine) -> None:
    last = engine.generate(greedy(PROMPT, 5), run_on).text[-1]

    assert engine.generate(greedy(PROMPT, 5, stop=last), run_on).finish_reason == "stop"


def test_a_full_context_ends_an_answer_for_length(engine: TorchEngine) -> None:
    prompt = "the sea is wide and the sky is blue, " * 4

    answer = engine.generate(greedy(prompt, 1000), run_on)

    assert answer.finish_reason == "length"
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens == CONTEXT


@pytest.mark.parametrize("tokens", [CONTEXT, CONTEXT + 1, 10 * CONTEXT])  # one that begins each text, then a "!" each
def test_a_prompt_that_leaves_no_room_is_too_long(engine: TorchEngine, tokens: int) -> None:
    with pytest.raises(PromptTooLong, match=rf"the prompt has {tokens} tokens; tiny takes {CONTEXT} with the answer"):
        engine.generate(greedy("!" * (tokens - 1)), run_on)


def test_a_prompt_that_leaves_room_for_one_token_gets_one(engine: TorchEngine) -> None:
    answer = engine.generate(greedy("!" * (CONTEXT - 2)), run_on)

    assert (answer.finish_reason, answer.usage.completion_tokens) == ("length", 1)


# -- prompts and messages


def test_messages_that_fill_the_context_are_too_long_as_well(engine: TorchEngine) -> None:
    with pytest.raises(PromptTooLong):
        engine.generate(ModelInput(messages=[Message(role="user", content="!" * CONTEXT)]), run_on)


def test_a_model_without_a_chat_template_asks_for_a_prompt(tmp_path: Path) -> None:
    with closing(an_engine(save_model(tmp_path / "bare", template=None))) as engine:
        with pytest.raises(EngineFailed, match="bare has no chat template, so it takes no `messages`; send a `prompt`"):
            engine.generate(ModelInput(messages=[Message(role="user", content="hello")]), run_on)
        assert engine.generate(greedy("hello"), run_on).text


def test_a_chat_template_that_refuses_the_messages_says_why(tmp_path: Path) -> None:
    template = "{{ raise_exception('the roles must alternate') }}"
    with (closing(an_engine(save_model(tmp_path / "strict", template=template))) as engine,
          pytest.raises(EngineFailed, match="refuses these messages: the roles must alternate")):
        engine.generate(ModelInput(messages=[Message(role="user", content="hello")]), run_on)
