"""Requests join the batch at any step and leave at any: each gets the answer it gets alone, which is what transformers'
`generate` says, and one that is stopped is gone before the next step.

The tests take the batcher's turns themselves (`Turns`), so that who joins when is drawn, and not up to threads.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import EngineTransient, JobStopped
from app.inputs import ModelInput
from tests.test_engine_families import FAMILIES, LONGEST, RUN_SEPARATELY, run_on, tiny
from tests.test_engine_families import some_tokens as some
from workers.engine import nobody
from workers.engine.batcher import Batcher
from workers.engine.choice import choose_runner
from workers.engine.decoding import Decoding
from workers.engine.memory import Memory
from workers.engine.pace import Pace
from workers.engine.prefixes import Prefixes
from workers.engine.runner import Runner
from workers.engine.sampling import Picker
from workers.engine.separate import SeparateRunner
from workers.engine.text import Text

LIMITS = (1, 2, 7)  # requests at once
PROMPTS = [some(count, seed=count) for count in (1, 3, 8, 9, 17, 20, 33, 40)]


class AtMost(Pace):
    """Reads so many tokens in a pass, however long that takes, and steps after so many passes."""

    def __init__(self, tokens: int, passes: int = 1) -> None:
        super().__init__(pass_s=0.0, token_s=1.0)
        turns = itertools.count(1)
        object.__setattr__(self, "tokens", lambda **_: tokens)
        object.__setattr__(self, "step_is_due", lambda _, reading, **__: not reading or next(turns) % passes == 0)


class Turns:
    """A batcher without its thread: a test takes its turns. A turn that would wait, though there is work, fails."""

    def __init__(self, runner: Runner, *, rows: int, tokens_a_pass: int = 5, passes: int = 1, budget: int = 2**30,
                 prefix_bytes: int = 0, token_bytes: float = 1.0) -> None:
        self.runner = runner
        self.lost: list[str] = []
        self.prefixes = Prefixes(prefix_bytes)
        if runner.token_bytes:
            runner.token_bytes = token_bytes
        self.batcher = Batcher(runner, Memory(runner, self.prefixes, budget), AtMost(tokens_a_pass, passes), most_rows=rows,
                               broken=lambda: self.lost.append("device"))
        self.taken = 0
        self._one_turn = self.batcher._turn

    def submit(self, *decodings: Decoding) -> None:
        """Let requests arrive."""
        self.batcher._arrived.extend(decodings)

    def held(self) -> list[Decoding]:
        """Return who has been taken in."""
        return [*self.batcher._reading, *self.batcher._running]

    def busy(self) -> bool:
        """Tell whether anybody is to be answered."""
        return bool(self.held() or self.batcher._waiting or self.batcher._arrived)

    def turn(self, turns: int = 1) -> None:
        """Take turns."""
        for _ in range(turns):
            assert self.busy(), "the turn would wait for a request for ever"
            self.taken += 1
            with torch.inference_mode():
                self._one_turn()

    def run(self, later: Mapping[int, Sequence[Decoding]] | None = None, watch: Callable[[], object] = run_on) -> None:
        """Run as the thread does, with its handling of what goes wrong, until all are answered. `later` holds who arrives
        at which turn."""
        due = {turn: list(decodings) for turn, decodings in (later or {}).items()}

        def one() -> None:
            if self.taken > 2000:
                pytest.fail("the batcher does not come to an end")
            self.submit(*due.pop(self.taken, ()))
            if self.busy():
                self.turn()
                try:
                    watch()
                except AssertionError as exc:  # which the batcher would take for the model's
                    pytest.fail(str(exc))
            else:
                self.taken += 1
                self.batcher._closing = not due

        self.batcher._turn = one  # type: ignore[method-assign]
        self.batcher._run()


def a_decoding(tokens: Sequence[int], most: int, *, ends: Sequence[int] = (), stopped: Callable[[], bool] = run_on,
               **sampling: Any) -> Decoding:
    """Return a request for the batcher, greedy unless `sampling` says otherwise."""
    picker = Picker(ModelInput(prompt="x", **({"temperature": 0.0} | sampling)), tokens)
    text = Text(lambda said: "".join(chr(0x4E00 + token) for token in said), [], nobody, None)
    return Decoding(tokens=list(tokens), most=most, ends=frozenset(ends), picker=picker, text=text, stopped=stopped)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Models this small are far slower on several."""
    torch.set_num_threads(1)


@functools.cache
def a_runner(family: str, rows: int) -> Runner:
    """Return the family's runner, which is without rows between tests."""
    return choose_runner(tiny(family).model, most_rows=rows)


# -- in a batch as alone


class Asked(NamedTuple):
    """One request of a drawn course of events."""

    turn: int  # at which it arrives
    prompt: int
    most: int
    stop_after: int | None  # tokens after which its caller stops it
    end_at: int | None  # where in the model's answer stands the token that ends it


COURSES = st.lists(st.builds(
    Asked, st.integers(0, 12), st.integers(0, len(PROMPTS) - 1), st.integers(1, LONGEST),
    st.none() | st.integers(0, LONGEST), st.none() | st.integers(0, LONGEST - 1)), min_size=2, max_size=7)


def expected(family: str, asked: Asked) -> tuple[list[int], list[int], str]:
    """Return the tokens that end its answer, those that it consists of, and the reason of its end."""
    whole = tiny(family).says(PROMPTS[asked.prompt], LONGEST)
    ends = [] if asked.end_at is None else [whole[asked.end_at]]
    said = whole[:asked.most]
    if ends and ends[0] in said:
        return ends, said[:said.index(ends[0]) + 1], "stop"
    return ends, said, "length"


def stopping(after: int | None) -> tuple[list[Decoding], Callable[[], bool]]:
    """Return what says true once the decoding that is put into the list has said so many tokens."""
    box: list[Decoding] = []
    return box, lambda: after is not None and len(box[0].said) >= after


@pytest.mark.parametrize("rows", LIMITS)
@pytest.mark.parametrize("family", FAMILIES)
@given(course=COURSES, tokens_a_pass=st.sampled_from([4, 12, 50]), passes=st.integers(1, 3))
@settings(max_examples=12, derandomize=True, database=None)
def test_whoever_joins_and_leaves_when_each_gets_the_tokens_that_generate_says(
        family: str, rows: int, course: list[Asked], tokens_a_pass: int, passes: int) -> None:
    turns = Turns(a_runner(family, rows), rows=rows, tokens_a_pass=tokens_a_pass, passes=passes)
    requests = []
    for asked in course:
        box, stopped = stopping(asked.stop_after)
        box.append(a_decoding(PROMPTS[asked.prompt], asked.most, ends=expected(family, asked)[0], stopped=stopped))
        requests += box
    together: list[int] = []
    turns.run({turn: [one for one, asked in zip(requests, course, strict=True) if asked.turn == turn]
               for turn in {asked.turn for asked in course}}, lambda: together.append(len(turns.held())))

    for asked, one in zip(course, requests, strict=True):
        _, tokens, reason = expected(family, asked)
        if isinstance(one.error, JobStopped):
            assert asked.stop_after is not None
            assert asked.stop_after <= len(one.said) <= asked.stop_after + 1, "the turn it joins in gives two tokens"
            assert one.said == tokens[:len(one.said)]
        else:
            assert one.error is None
            assert (one.said, one.reason) == (tokens, reason)
            assert asked.stop_after is None or len(tokens) <= asked.stop_after + 1
    assert max(together) <= rows
    assert (list(turns.runner.lengths), turns.runner.nbytes()) == ([], 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_is_run_as_one_batch_unless_its_cache_forbids_it_and_its_answers_prove_something(family: str) -> None:
    assert isinstance(a_runner(family, 7), SeparateRunner) is (family in RUN_SEPARATELY)
    answers = [tiny(family).says(prompt, LONGEST) for prompt in PROMPTS]
    assert len({token for answer in answers for token in answer}) > 5
    assert len({tuple(answer) for answer in answers}) == len(PROMPTS)


def test_a_long_prompt_is_read_in_chunks_between_steps_and_short_ones_in_one_pass() -> None:
    turns = Turns(a_runner("llama", 7), rows=7, tokens_a_pass=12)
    first, long, *short = (a_decoding(PROMPTS[at], 8) for at in (1, 7, 0, 1, 1))
    turns.submit(first)
    turns.turn()
    turns.submit(long)
    turns.turn(3)

    assert (long.prompt.done, long.said) == (36, [])
    assert len(first.said) == 2 + 3, "it has gone on with each turn"
    turns.turn()
    assert len(long.said) == 2
    passes = turns.batcher.counts["passes"]
    turns.submit(*short)
    turns.turn()
    assert [len(one.said) for one in short] == [2, 2, 2]
    assert turns.batcher.counts["passes"] == passes + 1
    turns.run()


def test_many_who_are_read_come_before_the_next_step_of_the_few() -> None:
    turns = Turns(a_runner("llama", 7), rows=7, tokens_a_pass=5, passes=3)
    requests = [a_decoding(PROMPTS[1], 8) for _ in range(3)]
    turns.submit(*requests)
    turns.turn(2)
    assert [len(each.said) for each in requests] == [1, 1, 0], "a pass for each, and no step"
    turns.turn()

    assert [len(each.said) for each in requests] == [2, 2, 2]
    assert (turns.batcher.counts["passes"], turns.batcher.counts["steps"]) == (3, 1)
    turns.run()
    assert {tuple(each.said) for each in requests} == {tuple(tiny("llama").says(PROMPTS[1], 8))}


def test_one_that_waits_is_taken_in_with_the_turn_after_a_row_is_free() -> None:
    turns = Turns(a_runner("llama", 1), rows=1)
    first, second = a_decoding(PROMPTS[1], 2), a_decoding(PROMPTS[2], 2)
    turns.submit(first, second)
    turns.turn()
    assert first.ended.is_set()

    turns.batcher._wake.wait = lambda *_: pytest.fail("it waits, though there is work")  # type: ignore[method-assign]
    turns.turn()
    assert turns.held() == [second]
    turns.run()


# -- stopping


@pytest.mark.parametrize("family", ["llama", *RUN_SEPARATELY])
@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_row_that_is_stopped_is_gone_before_the_next_step_and_the_others_go_on(family: str, row: int) -> None:
    turns = Turns(a_runner(family, 7), rows=7, tokens_a_pass=50)
    stop: list[None] = []
    requests = [a_decoding(PROMPTS[at], 12, stopped=(lambda: bool(stop)) if at == row else run_on) for at in range(3)]
    turns.submit(*requests)
    turns.turn(6)
    assert len(turns.runner.lengths) == 3
    before, steps = len(requests[row].said), turns.batcher.counts["steps"]
    stop.append(None)
    turns.turn()

    assert turns.batcher.counts["steps"] == steps + 1, "the others' step, which it had left before"
    assert len(turns.runner.lengths) == 2
    assert requests[row] not in turns.held()
    assert len(requests[row].said) == before
    assert isinstance(requests[row].error, JobStopped)
    assert str(requests[row].error) == f"stopped after {before} tokens"
    turns.run()
    for at in {0, 1, 2} - {row}:
        assert requests[at].said == tiny(family).says(PROMPTS[at], 12)


def test_a_prompt_that_is_stopped_while_it_is_read_is_not_read_on() -> None:
    turns = Turns(a_runner("llama", 7), rows=7)
    stop: list[None] = []
    long, other = a_decoding(PROMPTS[7], 12, stopped=lambda: bool(stop)), a_decoding(PROMPTS[1], 12)
    turns.submit(other)
    turns.turn()
    turns.submit(long)
    turns.turn(3)
    assert long.prompt.done == 15
    passes = turns.batcher.counts["passes"]
    stop.append(None)
    turns.turn()

    assert isinstance(long.error, JobStopped)
    assert (turns.held(), turns.batcher.counts["passes"], long.said) == ([other], passes, [])
    turns.run()
    assert other.said == tiny("llama").says(PROMPTS[1], 12)


def test_one_that_waits_can_be_stopped_and_those_behind_it_move_up() -> None:
    turns = Turns(a_runner("llama", 1), rows=1)
    stop: list[None] = []
    first, second, third = (a_decoding(PROMPTS[1], 12, stopped=(lambda: bool(stop)) if at == 1 else run_on)
                            for at in range(3))
    turns.submit(first, second, third)
    turns.turn(2)
    stop.append(None)
    turns.turn()

    assert isinstance(second.error, JobStopped)
    assert turns.held() == [first]
    turns.run()
    assert first.said == third.said == tiny("llama").says(PROMPTS[1], 12)


# -- closing


def test_a_batcher_that_closes_tells_whoever_is_left_to_try_elsewhere() -> None:
    turns = Turns(a_runner("llama", 1), rows=1)
    running = a_decoding(PROMPTS[1], 12, stopped=lambda: len(running.said) == 4 and turns.batcher.close() is not None)
    waiting = a_decoding(PROMPTS[1], 12)
    turns.submit(running, waiting)
    turns.run()

    assert len(running.said) == 5, "the step it was at is its last"
    assert isinstance(running.error, EngineTransient)
    assert isinstance(waiting.error, EngineTransient)
    with pytest.raises(EngineTransient, match="closing"):
        turns.batcher.answer(a_decoding(PROMPTS[1], 12))
