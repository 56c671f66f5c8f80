"""Tokens become text as they come: nothing is told that a later token would change, whatever the text and wherever the
borders of its tokens lie."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from app.inputs import Message, ModelInput
from tests.test_engine_families import DEMO_DATA, TEMPLATE, an_engine, run_on, save_model
from workers.engine import Channel, Generation, batcher, nobody
from workers.engine.demo_model import demo_model_folder
from workers.engine.prompts import Prompts
from workers.engine.reasoning import ReasoningSplitter
from workers.engine.sampling import Picker
from workers.engine.text import Text
from workers.engine.torch_engine import TorchEngine

BROKEN = "\N{REPLACEMENT CHARACTER}"
TOKENIZER = AutoTokenizer.from_pretrained(demo_model_folder(DEMO_DATA))
PROMPTS = Prompts(TOKENIZER, "demo")
#: Characters of one to four bytes, whose tokens come in pieces; joined ones; and what stop strings and tags are made of.
PARTS = ["a", " the", "\n", "é", "世界", "\N{SNOWMAN}", "👩‍👩‍👧", "🇩🇪", " ", "STOP", "STO", "P", "<", "think"]
TEXTS = st.text() | st.lists(st.sampled_from(PARTS), max_size=20).map("".join)


def tokens_of(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def told(tokens: Sequence[int], stops: Sequence[str] = (), splitter: ReasoningSplitter | None = None) -> tuple[
        Text, list[tuple[Channel, str]]]:
    """Return what becomes of these tokens, up to a stop string, and the pieces that were told."""
    pieces: list[tuple[Channel, str]] = []
    text = Text(PROMPTS.decode, stops, lambda channel, piece: pieces.append((channel, piece)), splitter)
    for token in tokens:
        text.add(token)
        assert all("".join(piece for one, piece in pieces if one is channel) == said for channel, said in text.said.items())
        if text.stopped:
            break
    text.finish()
    return text, pieces


@given(text=TEXTS)
@example(BROKEN * 20 + "👩‍👩‍👧")
@settings(max_examples=300, derandomize=True, database=None)
def test_the_pieces_told_make_up_the_text_and_none_breaks_a_character(text: str) -> None:
    tokens = tokens_of(text)
    whole = PROMPTS.decode(tokens)
    taken, pieces = told(tokens)

    assert "".join(piece for _, piece in pieces) == taken.said[Channel.CONTENT] == whole
    assert BROKEN in whole or not any(BROKEN in piece for _, piece in pieces)
    assert all(piece for _, piece in pieces)


@given(text=TEXTS, specials=st.lists(st.integers(0, 60), max_size=8))
@settings(max_examples=100, derandomize=True, database=None)
def test_special_tokens_are_no_text_and_break_none(text: str, specials: list[int]) -> None:
    tokens = tokens_of(text)
    for at in specials:
        tokens.insert(min(at, len(tokens)), TOKENIZER.eos_token_id)
    taken, pieces = told(tokens)

    whole = PROMPTS.decode(tokens)
    assert taken.said[Channel.CONTENT] == whole
    assert BROKEN in whole or not any(BROKEN in piece for _, piece in pieces)


def test_text_is_told_as_soon_as_it_is_certain() -> None:
    tokens = tokens_of("The sea is wide 世界")
    text, lengths = Text(PROMPTS.decode, ["never"], nobody, None), [0]
    for token in tokens:
        text.add(token)
        lengths.append(len(text.said[Channel.CONTENT]))

    assert all(after > before for before, after in pairwise(lengths[:5])), "each of these tokens is a word"
    assert text.said[Channel.CONTENT] == "The sea is wide 世界"


@given(text=TEXTS, data=st.data())
@settings(max_examples=300, derandomize=True, database=None)
def test_a_stop_string_cuts_the_text_where_it_is_found_wherever_the_tokens_end(text: str, data: st.DataObject) -> None:
    whole = PROMPTS.decode(tokens_of(text))
    cut = st.integers(0, len(whole))
    inside = st.tuples(cut, st.integers(1, 6)).map(lambda part: whole[part[0]:sum(part)])
    stops = data.draw(st.lists((inside | st.sampled_from(["STOP", "never said", "👩"])).filter(bool), max_size=4))
    taken, pieces = told(tokens_of(text), stops)

    found = [(at + len(stop), at) for stop in stops if (at := whole.find(stop)) >= 0]
    ends_at = min(found)[1] if found else len(whole)  # the first that is complete
    assert taken.said[Channel.CONTENT] == "".join(piece for _, piece in pieces) == whole[:ends_at]
    assert taken.stopped is bool(found)


def test_of_two_stop_strings_the_one_that_is_complete_first_counts_also_within_a_token() -> None:
    for pieces in (["abcd"], ["a", "b", "c", "d"], ["ab", "cd"]):
        text = Text(lambda tokens, pieces=pieces: "".join(pieces[at] for at in tokens), ["abcd", "c"], nobody, None)
        for at in range(len(pieces)):
            text.add(at)
        assert text.said[Channel.CONTENT] == "ab"


@given(parts=st.lists(st.sampled_from(["<think>", "</think>", "<", "/think>", "hm ", "世界", "\n", " "]), max_size=8),
       thinking=st.booleans())
@settings(max_examples=150, derandomize=True, database=None)
def test_reasoning_is_told_from_content_while_it_streams(parts: list[str], thinking: bool) -> None:
    text = "".join(parts)
    taken, pieces = told(tokens_of(text), splitter=ReasoningSplitter(thinking=thinking))

    whole = ReasoningSplitter(thinking=thinking)
    at_once = whole.feed(text) + whole.finish()
    for channel in Channel:
        expected = "".join(piece for one, piece in at_once if one is channel)
        assert taken.said[channel] == "".join(piece for one, piece in pieces if one is channel) == expected


# -- by kind of request


@pytest.fixture(scope="module", params=["", "<think>\n"], ids=["plain", "as DeepSeek-R1's"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchEngine]:
    """An engine whose template ends in this."""
    template = TEMPLATE.replace("assistant:", f"assistant:{request.param}")
    with closing(an_engine(save_model(tmp_path_factory.mktemp("model") / "tiny", template=template))) as one:
        yield one


def answering(engine: TorchEngine, text: str, monkeypatch: pytest.MonkeyPatch, **request: Any) -> tuple[
        Generation, list[tuple[Channel, str]]]:
    """Return the answer when the model says this text, and what was told."""
    script = iter([*engine.tokenizer(text, add_special_tokens=False)["input_ids"], engine.tokenizer.eos_token_id])

    def pick(_: torch.Tensor, pickers: Sequence[Picker]) -> list[int]:
        return [next(script) for _ in pickers]

    monkeypatch.setattr(batcher, "pick", pick)
    pieces: list[tuple[Channel, str]] = []
    answer = engine.generate(ModelInput(max_tokens=60, **request), run_on, lambda *piece: pieces.append(piece))
    for channel, said in ((Channel.CONTENT, answer.text), (Channel.REASONING, answer.reasoning or "")):
        assert "".join(piece for one, piece in pieces if one is channel) == said
    return answer, pieces


CHAT = {"messages": [Message(role="user", content="the sea?")]}


def test_in_a_chat_thinking_is_told_as_reasoning_and_the_rest_as_content(
        engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, pieces = answering(engine, "<think>hm,so</think>it-is-wide", monkeypatch, **CHAT)

    assert (answer.reasoning, answer.text, answer.finish_reason) == ("hm,so", "it-is-wide", "stop")
    assert len(pieces) > 4, "it was told as it came"
    assert [channel for channel, _ in pieces] == sorted((channel for channel, _ in pieces), reverse=True)


def test_an_answer_without_tags_is_reasoning_only_where_the_template_has_opened_the_block(
        engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    thinking = engine.tokenizer.chat_template.endswith("<think>\n{% endif %}")
    answer, _ = answering(engine, "wide</think>so", monkeypatch, **CHAT)

    assert (answer.reasoning, answer.text) == (("wide", "so") if thinking else (None, "wide</think>so"))


def test_to_a_prompt_tags_are_text(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, _ = answering(engine, "<think>hm</think>wide", monkeypatch, prompt="the sea<think>")

    assert (answer.reasoning, answer.text) == (None, "<think>hm</think>wide")


def test_a_stop_string_counts_in_the_reasoning_too(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, _ = answering(engine, "<think>hm,so</think>wide", monkeypatch, stop=",", **CHAT)

    assert (answer.reasoning, answer.text, answer.finish_reason) == ("hm", "", "stop")
