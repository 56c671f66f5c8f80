"""The demo model, a real one, in both types that CPUs compute in: a batch rounds otherwise than a row alone does, and by no
more than is said here. Where that changes a greedy answer, the two tokens were as good as tied."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.test_engine_batcher import Turns, a_decoding
from tests.test_engine_families import DEMO_DATA
from workers.engine.choice import choose_runner
from workers.engine.demo_model import demo_model_folder
from workers.engine.ragged import RaggedRunner
from workers.engine.runner import Prompt

#: How far a logit in a batch may be from that of the row alone. The demo model's largest are about 30, where neighbours in
#: bfloat16 are 0.125 apart, and each of its 30 layers rounds; seen were 7e-5 and 0.5.
TOLERANCE = {"float32": 5e-4, "bfloat16": 1.0}
TEXTS = ("The capital of France is", "2 + 2 =", "Hello",
         "The three most important things to know about rivers, mountains and the weather are, in this order, that")
TOKENS = 8

Demo = tuple[str, Any, list[list[int]]]


@pytest.fixture(scope="module", params=list(TOLERANCE))
def demo(request: pytest.FixtureRequest) -> Demo:
    """A type, the demo model in it, and prompts of several lengths."""
    folder = demo_model_folder(DEMO_DATA)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, request.param)).eval()
    return request.param, model, [tokenizer(text)["input_ids"] for text in TEXTS]


@torch.inference_mode()
def logits_of(model: Any, prompts: list[list[int]], said: list[list[int]], steps: int) -> torch.Tensor:
    """Return the logits of these prompts in one batch, then of steps in which they say this; shape (1 + steps, prompts,
    vocabulary)."""
    runner = RaggedRunner(model, most_rows=len(prompts))
    reading = [Prompt(tokens) for tokens in prompts]
    logits = [runner.read(reading, 1000)]
    for prompt in reading:
        runner.join(prompt)
    logits += [runner.step([tokens[step] for tokens in said]) for step in range(steps)]
    return torch.stack(logits).float()


def test_logits_in_a_batch_are_those_of_the_row_alone_but_for_rounding(demo: Demo) -> None:
    dtype, model, prompts = demo
    said = [(tokens * 2)[:2] for tokens in prompts]

    together = logits_of(model, prompts, said, 2)
    alone = [logits_of(model, [prompt], [tokens], 2) for prompt, tokens in zip(prompts, said, strict=True)]
    assert float((together - torch.cat(alone, dim=1)).abs().max()) <= TOLERANCE[dtype]


def test_greedy_answers_in_a_batch_differ_from_those_alone_only_where_two_tokens_are_as_good_as_tied(demo: Demo) -> None:
    dtype, model, prompts = demo
    runner = choose_runner(model, most_rows=len(prompts))
    assert isinstance(runner, RaggedRunner), "padding is within the bounds that choose_runner sets"
    alone, together = ([a_decoding(tokens, TOKENS) for tokens in prompts] for _ in range(2))
    Turns(runner, rows=1, tokens_a_pass=1000).run({0: alone})
    Turns(runner, rows=len(prompts), tokens_a_pass=12).run({turn: [each] for turn, each in enumerate(together)})

    for one, other in zip(alone, together, strict=True):
        assert len(one.said) == len(other.said) == TOKENS
        differ = [at for at, (a, b) in enumerate(zip(one.said, other.said, strict=True)) if a != b]
        if differ:
            logits = logits_of(model, [[*one.tokens, *one.said[:differ[0]]]], [[]], 0)[0, 0]
            assert float(logits.max() - logits[other.said[differ[0]]]) <= TOLERANCE[dtype]
