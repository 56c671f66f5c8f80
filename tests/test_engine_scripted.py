"""The scripted engine plays what its directives say, and ends as a model would."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import EngineError, EngineFailed, EngineOutOfMemory, EngineTransient, JobStopped
from app.inputs import Message, ModelInput
from workers.engine import Generation
from workers.engine.scripted import ScriptedEngine

ENGINE = ScriptedEngine()
WORDS = st.lists(st.text("abcxyz.,!", min_size=1, max_size=6), min_size=1, max_size=30)


def play(script: str, **members: object) -> Generation:
    """Play a script that nobody stops."""
    return ENGINE.generate(ModelInput(prompt=script, **members), lambda: False)  # type: ignore[arg-type]


@given(words=WORDS)
def test_words_are_echoed_a_token_a_word(words: list[str]) -> None:
    answer = play(" ".join(words))

    assert (answer.text, answer.finish_reason, answer.model) == (" ".join(words), "stop", "scripted")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(words), len(words))


def test_the_last_message_is_the_script_and_all_of_them_are_the_prompt() -> None:
    messages = [Message(role="user", content="one two"), Message(role="assistant", content="three"),
                Message(role="user", content="four five")]

    answer = ENGINE.generate(ModelInput(messages=messages), lambda: False)

    assert (answer.text, answer.usage.prompt_tokens, answer.usage.completion_tokens) == ("four five", 5, 2)


def test_repeat_says_a_word_so_many_times_in_its_place() -> None:
    assert play("say [repeat 3 ho] now").text == "say ho ho ho now"
    assert play("[repeat 0 ho] now").text == "now"


@pytest.mark.parametrize(("directive", "seconds"), [("stall 30ms", 0.03), ("stall 0.05s", 0.05), ("stall 0ms", 0.0)])
def test_a_stall_takes_its_time_and_says_nothing(directive: str, seconds: float) -> None:
    start = time.monotonic()

    assert play(f"before [{directive}] after").text == "before after"
    assert time.monotonic() - start >= seconds


@pytest.mark.parametrize(("directive", "error"), [
    ("error transient", EngineTransient), ("error out-of-memory", EngineOutOfMemory), ("error permanent", EngineFailed)])
def test_an_error_directive_raises_that_error(directive: str, error: type[EngineError]) -> None:
    with pytest.raises(EngineError, match=rf"the script says \[{directive}\]") as raised:
        play(f"some words first [{directive}]")
    assert type(raised.value) is error


@pytest.mark.parametrize("directive", [
    "", "stall", "stall 5", "stall ms", "stall -1s", "stall 1.s", "stall 1 s", "repeat 5", "repeat x y", "repeat 1234567 y",
    "error", "error fatal", "Stall 1s"])
def test_a_directive_that_is_none_fails_and_lists_those_there_are(directive: str) -> None:
    with pytest.raises(EngineFailed, match=r"is no directive; there are \[stall 200ms\], \[repeat 50 word\] and \["):
        play(f"[{directive}]")


@given(words=WORDS, most=st.integers(1, 40))
def test_max_tokens_ends_the_answer_for_length_only_when_words_were_left(words: list[str], most: int) -> None:
    answer = play(" ".join(words), max_tokens=most)

    assert answer.text == " ".join(words[:most])
    assert answer.finish_reason == ("length" if len(words) > most else "stop")
    assert answer.usage.completion_tokens == min(len(words), most)


def test_max_tokens_ends_a_repeat_in_the_middle_and_what_follows_is_not_played() -> None:
    answer = play("[repeat 999999 ho] [error permanent]", max_tokens=3)

    assert (answer.text, answer.finish_reason) == ("ho ho ho", "length")


@given(words=WORDS, stops=st.lists(st.text("abcxyz.,! ", min_size=1, max_size=3), max_size=4))
def test_the_first_stop_string_ends_the_answer_and_is_cut_off(words: list[str], stops: list[str]) -> None:
    script = " ".join(words)
    answer = play(script, stop=stops)

    assert script.startswith(answer.text)
    assert not any(stop in answer.text for stop in stops)
    rest = script[len(answer.text):]
    assert not rest or any(rest.startswith(stop) for stop in stops)
    assert answer.finish_reason == "stop"


def test_a_stop_string_across_words_wins_over_length() -> None:
    answer = play("one two three four", max_tokens=3, stop="e t")

    assert (answer.text, answer.finish_reason) == ("on", "stop")


def test_a_stop_is_heard_between_two_words() -> None:
    asked = itertools.count()

    with pytest.raises(JobStopped, match="between two words"):
        ENGINE.generate(ModelInput(prompt="[repeat 1000 ho]", max_tokens=1000), lambda: next(asked) >= 5)
    assert next(asked) == 6, "it went on after it was stopped"


def test_a_stop_is_heard_in_a_stall_at_once() -> None:
    start = time.monotonic()

    with pytest.raises(JobStopped, match="in a stall"):
        ENGINE.generate(ModelInput(prompt="[stall 600s]"), lambda: time.monotonic() - start > 0.05)
    assert time.monotonic() - start < 5
