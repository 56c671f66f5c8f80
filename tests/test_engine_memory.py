"""When memory is short: what does not fit waits, what is too big fails by itself, the others get their answers, and the
engine lives."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import EngineOutOfMemory, EngineTransient, PromptTooLong, SettingsError
from tests.test_engine_batcher import PROMPTS, Turns, a_decoding, a_runner, one_thread  # noqa: F401 - a fixture
from tests.test_engine_families import FAMILIES, an_engine, greedy, run_on, save_model, tiny
from workers.engine import rows as rows_module
from workers.engine import torch_engine
from workers.engine.decoding import Decoding

SHORTAGES = [torch.OutOfMemoryError("CUDA out of memory"), MemoryError("no memory"),
             RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]


class Failing:
    """Fails at some of its calls, counted from 0, with an error, and else does what it stands for."""

    def __init__(self, calls: Iterable[int], error: Exception, act: Callable[..., Any] = run_on) -> None:
        self._calls, self._error, self._act = set(calls), error, act
        self.called = 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.called += 1
        if self.called - 1 in self._calls:
            raise self._error
        return self._act(*args, **options)


@contextmanager
def in_the_last_layer(family: str, fails: Failing) -> Iterator[None]:
    """Have something fail when the model has written to the caches of all layers but the last."""
    model = tiny(family).model
    (layers, *_) = [each for each in model.modules() if isinstance(each, torch.nn.ModuleList)
                    and len(each) == model.config.num_hidden_layers]

    def fail(*_: object) -> None:
        fails()

    hook = layers[-1].register_forward_pre_hook(fail)
    try:
        yield
    finally:
        hook.remove()


def right(family: str, *decodings: Decoding) -> bool:
    """Tell whether these have the answers that `generate` gives."""
    return all(one.error is None and one.said == tiny(family).says(one.tokens, one.most) for one in decodings)


# -- what does not fit waits


@given(wanted=st.lists(st.tuples(st.integers(0, len(PROMPTS) - 1), st.integers(1, 12)), min_size=1, max_size=6),
       budget=st.integers(1, 400))
@settings(max_examples=25, derandomize=True, database=None)
def test_what_does_not_fit_the_budget_waits_its_turn_and_all_are_answered(
        wanted: list[tuple[int, int]], budget: int) -> None:
    turns = Turns(a_runner("llama", 7), rows=7, tokens_a_pass=12, budget=budget)
    requests = [a_decoding(PROMPTS[prompt], most) for prompt, most in wanted]
    turns.submit(*requests)
    begun: list[Decoding] = []

    def watch() -> None:
        held = turns.held()
        begun.extend(one for one in requests if (one in held or one.ended.is_set()) and one not in begun)
        room = 1 << max(len(held) - 1, 0).bit_length()  # rows there is memory for: a power of two
        widest = max((one.prompt.expected for one in held), default=0)
        assert len(held) < 2 or min(room, 7) * widest * 1.25 <= budget

    turns.run(watch=watch)
    assert right("llama", *requests)
    assert begun == requests, "nobody overtakes"


def test_two_that_fit_run_together_and_the_third_when_one_has_ended() -> None:
    turns = Turns(a_runner("llama", 7), rows=7, tokens_a_pass=50, budget=round(2 * 20 * 1.25))
    first, second, third = (a_decoding(PROMPTS[3], most) for most in (4, 11, 11))  # 9 tokens of prompt each
    turns.submit(first, second, third)
    turns.turn()

    assert turns.held() == [first, second]
    turns.turn(2)
    assert first.ended.is_set()
    turns.turn()
    assert turns.held() == [second, third]
    turns.run()
    assert right("llama", first, second, third)


def test_what_is_kept_for_later_makes_room_for_what_runs_now() -> None:
    turns = Turns(a_runner("llama", 7), rows=7, tokens_a_pass=50, budget=40_000, token_bytes=256.0, prefix_bytes=20_000)
    turns.submit(a_decoding(PROMPTS[7], 12))
    turns.turn(11)
    assert turns.prefixes.nbytes == 51 * 256
    turns.submit(a_decoding(PROMPTS[6], 12), a_decoding(PROMPTS[5], 12))  # with it 2 * 45 * 1.25 tokens
    turns.turn()

    assert len(turns.held()) == 2
    assert turns.prefixes.nbytes == 0
    turns.run()


def test_a_budget_under_the_context_cuts_the_context_and_a_refusal_names_what_is_left(tmp_path: Path) -> None:
    model = save_model(tmp_path / "long", max_position_embeddings=100_000)
    with closing(an_engine(model, kv_memory_mb=1)) as engine:
        tokens_in_a_mib = 2**20 / (2 * 2 * 2 * 8 * 4) / 1.25  # layers, keys and values, heads, their size, bytes

        assert engine.context == pytest.approx(tokens_in_a_mib, abs=1)
        with pytest.raises(PromptTooLong, match=f"the prompt has 5000 tokens; long takes {engine.context} with the answer"):
            engine.generate(greedy("!" * 4999), run_on)
        assert engine.generate(greedy("the sea is", 4), run_on).usage.completion_tokens == 4


def test_a_budget_that_does_not_hold_a_token_refuses_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine, "_budget", lambda *_: 100)

    with pytest.raises(SettingsError, match="do not hold a token of tiny; raise kv_memory_mb"):
        an_engine(save_model(tmp_path / "tiny"))


# -- out of memory


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("call", [0, 2, 4, 7, 15])  # while prompts are read, and while rows are run
def test_a_shortage_in_mid_model_is_overcome_and_nothing_is_written_twice(family: str, call: int) -> None:
    turns = Turns(a_runner(family, 7), rows=7, tokens_a_pass=12)
    requests = [a_decoding(PROMPTS[at], 9) for at in (1, 4, 6)]
    with in_the_last_layer(family, Failing([call], SHORTAGES[call % 3])):
        turns.run({0: requests})

    assert right(family, *requests)
    assert turns.batcher.figures()["out_of_memory"] == 1


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "deepseek_v4", "mamba"])
def test_when_a_step_runs_out_of_memory_twice_the_largest_request_fails_and_the_others_are_answered(family: str) -> None:
    turns = Turns(a_runner(family, 7), rows=7, tokens_a_pass=50)
    small, large, other = (a_decoding(PROMPTS[at], 9) for at in (1, 6, 2))
    turns.submit(small, large, other)
    turns.turn(5)
    with in_the_last_layer(family, Failing([0, 1], SHORTAGES[0])):
        turns.turn()
    after = a_decoding(PROMPTS[6], 9)
    turns.submit(after)
    turns.run()

    assert isinstance(large.error, EngineOutOfMemory)
    assert "no memory for 42 tokens of prompt and answer; CUDA out of memory" in str(large.error)
    assert right(family, small, other, after)


@pytest.mark.parametrize("calls", [[1], [1, 2], [0, 1, 2]])
def test_a_row_there_is_no_memory_for_after_its_prompt_was_read_fails_and_the_others_are_answered(
        calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(a_runner("llama", 7), rows=7, tokens_a_pass=50)
    join = Failing(calls, SHORTAGES[2], turns.runner.join)
    monkeypatch.setattr(turns.runner, "join", join)
    requests = [a_decoding(PROMPTS[at], 5) for at in (0, 1, 2)]
    turns.submit(*requests)
    turns.run()

    failed = {(1,): [], (1, 2): [1], (0, 1, 2): [0]}[tuple(calls)]
    assert [at for at, one in enumerate(requests) if isinstance(one.error, EngineOutOfMemory)] == failed
    assert right("llama", *(one for at, one in enumerate(requests) if at not in failed))


def test_a_row_there_is_no_memory_to_keep_is_not_kept_and_nobody_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(a_runner("llama", 7), rows=7, tokens_a_pass=50, prefix_bytes=2**20)
    monkeypatch.setattr(turns.runner, "keep", Failing(range(99), SHORTAGES[0], turns.runner.keep))
    first, second = a_decoding(PROMPTS[6], 9), a_decoding(PROMPTS[6], 9)
    turns.run({0: [first], 4: [second]})  # the second would begin with the first's row, which runs

    assert right("llama", first, second)
    assert (second.cached, len(turns.prefixes)) == (0, 0)


@given(fails=st.lists(st.integers(0, 60), min_size=1, max_size=6), in_a_row=st.integers(1, 3),
       wanted=st.lists(st.tuples(st.integers(0, 8), st.integers(0, len(PROMPTS) - 1), st.integers(1, 12)), min_size=2,
                       max_size=7))
@settings(max_examples=25, derandomize=True, database=None)
def test_whichever_buffer_there_is_no_memory_for_whoever_is_answered_is_answered_right(
        fails: list[int], in_a_row: int, wanted: list[tuple[int, int, int]]) -> None:
    turns = Turns(a_runner("llama", 7), rows=7, tokens_a_pass=12, prefix_bytes=2**20)
    requests = [a_decoding(PROMPTS[prompt], most) for _, prompt, most in wanted]
    calls = [call + more for call in fails for more in range(in_a_row)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "_LEAST_COLUMNS", 4)  # so that buffers are moved often
        patch.setattr(rows_module, "_AHEAD", 2)
        patch.setattr(rows_module, "_zeros", Failing(calls, SHORTAGES[1], rows_module._zeros))
        turns.run({turn: [one for one, (at, *_) in zip(requests, wanted, strict=True) if at == turn] for turn in range(9)})

    assert all(one.ended.is_set() for one in requests)
    assert all(isinstance(one.error, EngineOutOfMemory | EngineTransient) for one in requests if one.error)
    assert right("llama", *(one for one in requests if one.error is None))
    assert in_a_row > 1 or len(fails) > 1 or right("llama", *requests), "one shortage fails nobody"
    assert (list(turns.runner.lengths), turns.runner.nbytes()) == ([], 0)


SCRIPT = """
import json, os, resource, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from app.settings import Settings
from app.errors import EngineOutOfMemory
from tests.test_engine_families import greedy, run_on
from workers.engine import pace
from workers.engine.torch_engine import TorchEngine

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # so that torch has one thread
pace._LONGEST_PASS_S = pace._STALL_S = 60.0  # so that the long prompt is read in one pass, however slow the machine
engine = TorchEngine.load(Settings(model=sys.argv[1], dtype="float32", kv_memory_mb=1000))
short = [greedy(f"the sea is {word}", 12) for word in ("wide", "blue", "out")]
alone = [engine.generate(request, run_on).text for request in short]

def ask(request):
    try:
        return engine.generate(request, run_on).text
    except EngineOutOfMemory as exc:
        return f"{type(exc).__name__}: {exc}"

with ThreadPoolExecutor(4) as threads:
    list(threads.map(ask, short))  # all threads are there, with their stacks
    taken = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (taken + 256 * 2**20,) * 2)
    said = list(threads.map(ask, [greedy("!" * 2000, 12), *short]))
after = [ask(request) for request in short]
engine.close()
print(json.dumps({"alone": alone, "long": said[0], "short": said[1:], "after": after,
                  "shortages": engine.figures()["out_of_memory"]}))
"""


def test_when_memory_really_runs_out_the_request_that_needs_it_fails_and_the_engine_goes_on(tmp_path: Path) -> None:
    wide = 65_536  # so that activations of 2,000 tokens take 0.5 GiB each, and those of a short prompt nearly nothing
    model = save_model(tmp_path / "wide", max_position_embeddings=10_000, intermediate_size=wide)
    ran = subprocess.run([sys.executable, "-c", SCRIPT, str(model)], capture_output=True, text=True, timeout=120,
                         cwd=Path(__file__).parents[1], check=False)

    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["long"].startswith("EngineOutOfMemory: no memory for 2001 tokens of prompt; ")
    assert told["shortages"] > 0
    assert told["short"] == told["after"] == told["alone"]
