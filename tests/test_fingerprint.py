"""Two requests have the same fingerprint if and only if they are bound to have the same answer."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fingerprint import fingerprint
from app.inputs import ModelInput

BASE: dict[str, Any] = {"messages": [{"role": "user", "content": "How wide is the sea?"}], "seed": 7}

#: Members that bear on a sampled answer, each with another value than its default.
OTHERS: dict[str, Any] = {
    "max_tokens": 17, "temperature": 0.5, "top_p": 0.5, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.5,
    "presence_penalty": 1.0, "frequency_penalty": 1.0, "seed": 8, "stop": "sea", "stop_token_ids": [1], "logprobs": True,
    "response_format": {"type": "json_object"},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "messages": [{"role": "user", "content": "How wide is the sea"}]}


def mark(scope: str = "ann", model: str = "m", **members: Any) -> str | None:
    return fingerprint(msgspec.convert({**BASE, **members}, ModelInput), scope=scope, model=model)


def test_what_is_sampled_without_a_seed_has_none() -> None:
    assert mark(seed=None) is None
    assert mark(seed=None, temperature=0.5) is None
    assert mark(seed=None, temperature=0) is not None
    assert mark(seed=0) is not None


@given(st.permutations(list(OTHERS.items())), st.integers(0, len(OTHERS)))
def test_the_order_of_members_makes_no_difference(members: list[tuple[str, Any]], most: int) -> None:
    chosen = members[:most]

    assert mark(**dict(chosen)) == mark(**dict(reversed(chosen)))


@given(st.sets(st.sampled_from(sorted(OTHERS))), st.sets(st.sampled_from(sorted(OTHERS))))
def test_requests_that_differ_in_anything_are_told_apart(one: set[str], other: set[str]) -> None:
    alike = mark(**{name: OTHERS[name] for name in one}) == mark(**{name: OTHERS[name] for name in other})

    assert alike == (one == other)


@pytest.mark.parametrize("spelling", [
    {"max_tokens": 256}, {"presence_penalty": 0}, {"stop": []}, {"stop": None}, {"logprobs": False}, {"temperature": None},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "How wide is the sea?"}]}]}])
def test_what_is_spelled_out_is_the_same_as_what_is_left_out(spelling: dict[str, Any]) -> None:
    assert mark(**spelling) == mark()


def test_one_stop_string_is_the_same_in_a_list_and_their_order_does_not_matter() -> None:
    assert mark(stop="a") == mark(stop=["a"]) != mark(stop=["a", "b"])
    assert mark(stop=["b", "a"]) == mark(stop=["a", "b", "a"])


@pytest.mark.parametrize("name", ["top_p", "top_k", "min_p", "seed"])
def test_a_greedy_answer_does_not_depend_on_how_others_are_drawn(name: str) -> None:
    assert mark(temperature=0, **{name: OTHERS[name]}) == mark(temperature=0)
    assert mark(temperature=0, repetition_penalty=1.5) != mark(temperature=0)


def test_scopes_and_models_are_apart() -> None:
    assert len({mark(), mark(scope="bob"), mark(model="n"), mark(scope="annm", model="")}) == 4


def test_a_prompt_is_not_a_message() -> None:
    bare = fingerprint(ModelInput(prompt="x", seed=7), scope="ann", model="m")

    assert bare != mark(messages=[{"role": "user", "content": "x"}])
