"""What was computed for one prompt serves the next that begins in the same way, and changes nothing but the time."""

from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.inputs import Message, ModelInput
from tests.test_engine_batcher import Turns, a_decoding, a_runner, one_thread  # noqa: F401 - a fixture
from tests.test_engine_families import an_engine, run_on, save_model, some_tokens, tiny
from workers.engine.prefixes import SHORTEST, Prefixes, common, packed
from workers.engine.rows import Row
from workers.engine.torch_engine import TorchEngine

BEGINNINGS = [some_tokens(40, seed=100), some_tokens(40, seed=101)]
BEGINNINGS.append(BEGINNINGS[0][:25] + BEGINNINGS[1][25:])
TAILS = [some_tokens(count, seed=200 + count) for count in (1, 2, 9)]


def a_row(tokens: Sequence[int]) -> Row:
    """Return a row that holds the tokens themselves, four bytes each."""
    return Row([{"keys": torch.tensor(tokens, dtype=torch.int32).view(1, -1, 1)}], len(tokens))


def held_by(row: Row | None) -> list[int] | None:
    """Return the tokens that such a row holds."""
    return None if row is None else row.layers[0]["keys"].flatten().tolist()


# -- the store


@given(one=st.lists(st.integers(0, 2), max_size=30), other=st.lists(st.integers(0, 2), max_size=30),
       shared=st.lists(st.integers(0, 2**31 - 1), max_size=30))
@settings(max_examples=300, derandomize=True, database=None)
def test_what_two_have_in_common_is_counted_in_tokens(one: list[int], other: list[int], shared: list[int]) -> None:
    one, other = shared + one, shared + other
    naive = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))

    assert common(packed(one), packed(other)) == naive


TOKENS = st.builds(lambda base, cut, tail: BEGINNINGS[base][:cut] + tail, st.integers(0, 2), st.integers(0, 40),
                   st.lists(st.integers(0, 1), max_size=4))


@given(kept=st.lists(TOKENS, max_size=12), wanted=TOKENS.filter(bool), budget=st.integers(0, 600))
@settings(max_examples=300, derandomize=True, database=None)
def test_the_longest_beginning_held_is_found_and_the_budget_is_kept(
        kept: list[list[int]], wanted: list[int], budget: int) -> None:
    prefixes = Prefixes(budget)
    plain: list[list[int]] = []  # the same, naively: the oldest first
    for tokens in kept:
        prefixes.keep(tokens, a_row(tokens))
        if len(tokens) >= SHORTEST and 4 * len(tokens) <= budget and not any(
                each[:len(tokens)] == tokens for each in plain):
            plain = [each for each in plain if tokens[:len(each)] != each] + [tokens]
            while 4 * sum(map(len, plain)) > budget:
                plain.pop(0)
        assert (len(prefixes), prefixes.nbytes) == (len(plain), 4 * sum(map(len, plain)))
        assert prefixes.nbytes <= budget

    shared = max((common(packed(each), packed(wanted[:-1])) for each in plain), default=0)
    assert held_by(prefixes.find(wanted)) == (wanted[:shared] if shared >= SHORTEST else None)


def test_the_least_recently_used_goes_first() -> None:
    first, second, third = ([token] * 20 for token in (1, 2, 3))
    prefixes = Prefixes(2 * 80)
    prefixes.keep(first, a_row(first))
    prefixes.keep(second, a_row(second))
    assert held_by(prefixes.find([*first, 9])) == first
    prefixes.keep(third, a_row(third))

    assert prefixes.find([*second, 9]) is None
    assert held_by(prefixes.find([*first, 9])) == first
    assert held_by(prefixes.find([*third, 9])) == third


def test_a_row_replaces_those_it_continues_and_one_that_adds_nothing_is_not_kept() -> None:
    prefixes = Prefixes(10_000)
    prefixes.keep([1] * 20, a_row([1] * 20))
    prefixes.keep([1] * 30, a_row([1] * 30))
    assert (len(prefixes), prefixes.nbytes) == (1, 120)
    prefixes.keep([1] * 25, a_row([1] * 25))
    assert (len(prefixes), prefixes.nbytes) == (1, 120)


def test_one_token_is_always_left_to_compute() -> None:
    prefixes = Prefixes(10_000)
    prefixes.keep([1] * 30, a_row([1] * 30))

    assert held_by(prefixes.find([1] * 30)) == [1] * 29


@pytest.mark.parametrize(("length", "wanted"), [(SHORTEST - 1, False), (SHORTEST, True), (100, True), (101, False)])
def test_what_is_too_short_or_over_the_budget_is_not_wanted_and_not_kept(length: int, wanted: bool) -> None:
    prefixes = Prefixes(400)
    prefixes.keep([1] * length, a_row([1] * length))

    assert (prefixes.wants(length, 4.0), len(prefixes)) == (wanted, int(wanted))


# -- in the batcher


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3_text", "deepseek_v3", "deepseek_v32"])
@given(wanted=st.lists(st.tuples(st.integers(0, 10), st.integers(0, 2), st.sampled_from([10, 17, 25, 40]),
                                 st.integers(0, 2), st.integers(1, 8)), min_size=2, max_size=8),
       tokens_a_pass=st.sampled_from([4, 12, 60]))
@settings(max_examples=6, derandomize=True, database=None)
def test_with_and_without_reuse_the_tokens_are_the_same(
        family: str, wanted: list[tuple[int, int, int, int, int]], tokens_a_pass: int) -> None:
    for prefix_bytes in (0, 2**20):
        turns = Turns(a_runner(family, 7), rows=3, tokens_a_pass=tokens_a_pass, prefix_bytes=prefix_bytes)
        requests = [a_decoding(BEGINNINGS[base][:cut] + TAILS[tail], most) for _, base, cut, tail, most in wanted]
        turns.run({turn: [one for one, (at, *_) in zip(requests, wanted, strict=True) if at == turn] for turn in range(11)})

        for one in requests:
            assert one.error is None
            assert one.said == tiny(family).says(one.tokens, one.most)


@pytest.mark.parametrize("family", ["llama", "mistral", "deepseek_v3"])
def test_a_prompt_begins_with_what_is_kept_of_one_that_has_ended_or_of_one_that_runs(family: str) -> None:
    turns = Turns(a_runner(family, 7), rows=3, tokens_a_pass=60, prefix_bytes=2**20)
    ended, running = a_decoding(BEGINNINGS[0] + TAILS[2], 4), a_decoding(BEGINNINGS[1] + TAILS[2], 14)
    turns.submit(ended, running)
    turns.turn(5)
    assert ended.ended.is_set()
    assert not running.ended.is_set()
    third = a_decoding(BEGINNINGS[0] + TAILS[1], 4)
    fourth = a_decoding(BEGINNINGS[1][:30] + TAILS[1], 4)
    fifth = a_decoding(some_tokens(20, seed=9), 4)
    turns.submit(third, fourth, fifth)
    turns.run()

    assert [each.cached for each in (ended, running, third, fourth, fifth)] == [0, 0, 40, 30, 0]
    assert [each.said for each in (third, fourth, fifth)] == [
        tiny(family).says(each.tokens, 4) for each in (third, fourth, fifth)]
    counts = turns.batcher.counts
    assert (counts["prefix_hits"], counts["cached_tokens"], counts["requests"]) == (2, 70, 5)
    assert counts["prompt_tokens"] == sum(len(each.tokens) for each in (ended, running, third, fourth, fifth))


def test_the_next_turn_begins_where_the_last_answer_ended() -> None:
    turns = Turns(a_runner("llama", 7), rows=3, tokens_a_pass=60, prefix_bytes=2**20)
    first = a_decoding(BEGINNINGS[0][:20], 10)
    turns.submit(first)
    turns.turn(9)
    second = a_decoding([*first.tokens, *first.said, 5, 6, 7], 5)
    turns.submit(second)
    turns.run()

    assert second.cached == 29, "all but the last token said, which was not computed"
    assert second.said == tiny("llama").says(second.tokens, 5)
    assert len(turns.prefixes) == 1, "the second continues the first, which is not needed any more"


# -- in the engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchEngine]:
    with closing(an_engine(save_model(tmp_path_factory.mktemp("model") / "tiny", max_position_embeddings=400))) as engine:
        yield engine


def test_a_conversation_and_others_with_its_system_prompt_are_not_computed_again(engine: TorchEngine) -> None:
    system = Message(role="system", content="the sky is blue and the sea is wide, and you are brief")
    turns = [system, Message(role="user", content="the sea?")]

    def ask(messages: list[Message]) -> tuple[str, int, int]:
        answer = engine.generate(ModelInput(messages=messages, max_tokens=8, temperature=0.0), run_on)
        return answer.text, answer.usage.cached_tokens, answer.usage.prompt_tokens

    def shared(one: list[Message], other: list[Message]) -> int:
        return common(*(packed(engine._prompts.read(ModelInput(messages=each)).tokens) for each in (one, other)))

    before = engine.figures()
    text, cached, prompt_tokens = ask(turns)
    assert cached == 0
    again, cached, _ = ask(turns)
    assert (again, cached) == (text, prompt_tokens - 1)
    stranger = [system, Message(role="user", content="and there?")]
    _, cached, _ = ask(stranger)
    assert cached == shared(turns, stranger) >= SHORTEST
    after = engine.figures()
    assert after["prefix_hits"] - before["prefix_hits"] == 2
    assert after["cached_tokens"] - before["cached_tokens"] == prompt_tokens - 1 + cached
    assert after["requests"] - before["requests"] == 3
    assert 0 < after["prefix_bytes"] < after["kv_budget_bytes"]
